"""What the tests of several commands begin with: documents of a few words, and settings of a search of seconds."""

import json
from pathlib import Path
from typing import Any

from longrope.cli.main import main

PAPER: dict[str, Any] = {
    "strategy": "paper",
    "population_size": 9,
    "num_iterations": 1,
    "num_mutations": 2,
    "num_crossovers": 2,
    "num_parents": 3,
    "start_token_choices": [0],
}
"""Hyper-parameters of a search without start tokens."""


def tokenize_words(model: Path, tokens: Path, prefix: str = "", count: int = 80) -> Path:
    """Write four documents that count, each after a word of its own, tokenize them into a folder and return that."""
    texts = tokens.with_name(f"{tokens.name}-texts")
    texts.mkdir()
    for index, word in enumerate(("alpha", "beta", "gamma", "delta")):
        (texts / f"{word}.txt").write_text("".join(f"{prefix}{word} {i * (index + 3)} " for i in range(count)))
    named = {"model": model, "dataset": texts, "save-tokenized": tokens}
    assert main(["tokenize", *(f"--{name}={value}" for name, value in named.items())]) == 0
    return tokens


def without_times(folder: Path) -> list[dict[str, Any]]:
    """Return the scores of a run folder, in their order, without seconds and what follows from them."""
    unlike = {"seconds": None, "crc32": None}
    return [json.loads(line) | unlike for line in (folder / "history.jsonl").read_text().splitlines()]
