"""What an engine answers to the prompts of a case, as a file. Needs numpy only: it is imported in every environment."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GREEDY_TOKENS = 30


@dataclass(frozen=True)
class Prompt:
    """A prompt of a case, and how it is given to engines that take text."""

    ids: list[int]
    """Token ids, start-of-sequence token first."""
    text: str
    """Its text, without that token."""
    single: list[tuple[int, str, str]]
    """(index, text before, text of the token) of tokens that the tokenizer gives at that index for text alone."""


@dataclass(frozen=True)
class Answer:
    """What an engine computes for one prompt of T tokens."""

    logprobs: NDArray[np.float64]
    """Log-probability of tokens 1 to T - 1, each after those before it; NaN where the engine was not asked."""
    greedy: list[int] | str
    """The 30 tokens that follow, or their text."""


def read_prompts(case: Path) -> dict[str, Prompt]:
    """Return the prompts of a case by their length in tokens."""
    stored = json.loads((case / "prompts.json").read_text(encoding="utf-8"))
    return {length: Prompt(**prompt) for length, prompt in stored.items()}


def token_logprobs(logits: NDArray[Any], ids: list[int]) -> NDArray[np.float64]:
    """Return the log-probability of ids[1:] from logits (T, V)."""
    values = logits.astype(np.float64)
    values -= values.max(-1, keepdims=True)
    values -= np.log(np.exp(values).sum(-1, keepdims=True))
    return values[np.arange(len(ids) - 1), ids[1:]]


def write_answers(case: Path, engine: str, version: str, answer: Callable[[Path, Prompt], Answer]) -> None:
    """Ask an engine each prompt of a case and write its answers, or the error that it ends with, unless it is done."""
    file = case / f"{engine}.json"
    if file.is_file() and "error" not in json.loads(file.read_text(encoding="utf-8")):
        return
    result: dict[str, Any] = {"engine": engine, "version": version, "answers": {}}
    try:
        for length, prompt in read_prompts(case).items():
            found = answer(case, prompt)
            result["answers"][length] = {"logprobs": found.logprobs.tolist(), "greedy": found.greedy}
    except Exception as error:
        result["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"{case.name}: {result['error']}", file=sys.stderr)
    file.write_text(json.dumps(result), encoding="utf-8")
