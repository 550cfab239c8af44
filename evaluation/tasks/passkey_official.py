"""Pass key retrieval with the prompts of an official checkout of LongRoPE (microsoft/LongRoPE, arXiv 2402.13753).

Its `evaluation/passkey.py` makes them: two functions of that file are executed, with the seed that it sets. The task is
called `official_passkey`; `passkey` has the same sentences on a grid of depths, at exact lengths.
"""

import ast
import hashlib
import random
import re
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from ..data.commit import checkout_commit
from .prompted import PromptedTask, Sample

SCRIPT = "evaluation/passkey.py"
MAKER, SIZER = "generate_prompt", "calc_str_length"
SEED = 42
ANSWER_TOKENS = 10


class Checkout:
    """A folder that holds the official repository.

    Raises:
        ValueError: it is another folder, or the script has other functions.
    """

    def __init__(self, path: str | Path) -> None:
        self.script = Path(path).expanduser().resolve() / SCRIPT
        if not self.script.is_file():
            raise ValueError(
                f"longrope_checkout must be a checkout of the official LongRoPE, got {path} without {SCRIPT}; make "
                "one: git clone https://github.com/microsoft/LongRoPE"
            )
        tree = ast.parse(self.script.read_text(encoding="utf-8"))
        found = {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}
        if not {MAKER, SIZER} <= found.keys():
            raise ValueError(
                f"{self.script} must have the functions {MAKER} and {SIZER}, got {', '.join(found)}; take an earlier "
                "commit of it"
            )
        self._functions = f"{found[MAKER]}\n\n\n{found[SIZER]}\n"

    def prompts(self, length: int, count: int) -> list[tuple[str, str]]:
        """Return prompts for a length in tokens, which the script takes for 3.65 letters each, with their keys."""
        rng = random.Random(SEED)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "functions.py"
            file.write_text(self._functions, encoding="utf-8")
            functions = runpy.run_path(str(file), {"random": SimpleNamespace(randint=rng.randint)})
        make: Callable[[int], tuple[str, int]] = functions[MAKER]
        return [(prompt, str(key)) for prompt, key in (make(functions[SIZER](length)) for _ in range(count))]

    def describe(self) -> dict[str, Any]:
        """Return which checkout it is, JSON-able."""
        commit = checkout_commit(self.script) or "unknown"
        digest = hashlib.sha256(self.script.read_bytes()).hexdigest()
        return {"definition": f"official LongRoPE, checkout commit {commit}", "script_sha256": digest}


@dataclass(frozen=True, eq=False, kw_only=True)
class OfficialPasskey(PromptedTask):
    """Pass key accuracy at random places; prompts have the script's seed, `seed` is the bootstrap's."""

    name: ClassVar[str] = "official_passkey"

    checkout: Checkout
    num_samples: int = 10
    """Prompts per length; the first of more are the same."""

    @property
    def max_new_tokens(self) -> int:
        return ANSWER_TOKENS

    def samples(self, length: int) -> list[Sample]:
        if length not in self._made:
            self._made[length] = [
                self._sample(place, prompt, key, length)
                for place, (prompt, key) in enumerate(self.checkout.prompts(length, self.num_samples))
            ]
        return self._made[length]

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        """Return 1 if the first integer of the answer is the key."""
        found = re.search(r"\d+", predicted)
        return {"accuracy": float(found is not None and int(found.group()) == int(sample.references[0]))}

    def describe(self) -> dict[str, Any]:
        return {
            **self.checkout.describe(),
            "length": "official: the script's letters for a number of tokens; never more than fit with the answer",
            "prompt_seed": SEED,
            "samples": self.num_samples,
            "scoring": "first integer of the answer equals the key",
            "template": self.frame.describe(),
        }

    def _sample(self, place: int, prompt: str, key: str, length: int) -> Sample:
        message, mark, stem = prompt.rpartition("?")
        ids = np.array(self.frame.encode(message + mark, stem), dtype=np.int64)
        if len(ids) + ANSWER_TOKENS > length:
            raise ValueError(
                f"lengths must hold the official prompt, whose letters this tokenizer makes {len(ids)} tokens of, and "
                f"{ANSWER_TOKENS} for the answer, got {length}; take the task passkey, which counts tokens"
            )
        depth = round(message.index(f" {key}. ") / len(message), 3)
        return Sample(f"sample {place}", ids, (key,), {"depth": depth, "prompt_tokens": len(ids)})

    @cached_property
    def _made(self) -> dict[int, list[Sample]]:
        return {}
