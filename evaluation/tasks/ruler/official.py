"""The thirteen tasks with the prompts of an official checkout, byte for byte, and its answers, lengths and scores.

They are called `official_ruler_*`; those of the same names without `official_` are made here and need no checkout.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ....rope import write_atomically
from ...data.tokenized import tokenizer_fingerprint
from ..prompted import PromptedTask, Sample
from .base import METRICS
from .checkout import Checkout, Definition
from .tasks import RULER

PREFIX = "official_"
OFFICIAL = {f"{PREFIX}{name}": name.removeprefix("ruler_") for name in RULER}
"""Our name to the official one, e.g. `official_ruler_vt` to `vt`."""
CONTROL = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True)
class Row:
    """One line of a generator's output."""

    message: str
    """The generator's `input`."""
    stem: str
    """Its `answer_prefix`, which the model continues."""
    references: tuple[str, ...]
    tokens: int
    """Tokens of prompt and answer without special ones, as the generator counts them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class OfficialRuler(PromptedTask):
    """One task of an official checkout.

    Prompts have the generator's own seed, so that they are the same in every evaluation; `seed` is the bootstrap's.
    Without a chat template, leading special tokens come on top of the length, since the generators don't count them.
    With one, its tokens are counted as the generators do for servers that apply it (`--prepare_for_ns`).
    """

    checkout: Checkout
    task: str
    """Official name, e.g. `vt`."""
    folder: Path
    """Where generated prompts are kept, so that they are made once."""
    num_samples: int = 500
    """Samples per length; the first of more are the same."""

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"samples must be at least 1 per length, got {self.num_samples}; the paper takes 500")
        if self.definition.metric not in METRICS:
            raise ValueError(
                f"metric of {self.task} must be one of {', '.join(METRICS)}, got {self.definition.metric} in "
                f"{self.checkout.path}; take an earlier commit of it"
            )

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Name in results, e.g. `official_ruler_vt`."""
        return f"{PREFIX}ruler_{self.task}"

    @cached_property
    def definition(self) -> Definition:
        """The task as the checkout has it."""
        return self.checkout.definition(self.task)

    @property
    def max_new_tokens(self) -> int:
        return self.definition.max_new_tokens

    def samples(self, length: int) -> list[Sample]:
        return [self._sample(place, row) for place, row in enumerate(self.rows(length))]

    def rows(self, length: int) -> list[Row]:
        """Return what the generator makes at a length; it runs once for each.

        Raises:
            ValueError: its data is missing, it fails, or it doesn't end.
        """
        if length not in self._rows:
            file = self.folder / self._key / str(length) / f"{self.task}.jsonl"
            if not file.is_file():
                lines = self.checkout.generate(self.definition, self.frame, length, self.num_samples)
                write_atomically(file, lines)
            self._rows[length] = [_row(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return self._rows[length]

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        """Return the official score of an answer whose control characters are line breaks, none at its ends."""
        answer = CONTROL.sub("\n", predicted.strip()).strip()
        return {self.definition.metric: METRICS[self.definition.metric](answer, sample.references)}

    def describe(self) -> dict[str, Any]:
        counted = "chat template included" if self.frame.is_chat else "without leading special tokens"
        return {
            **self.checkout.describe(self.definition),
            "length": f"prompt and answer together, {counted}",
            "prompt_seed": "the generator's own",
            "samples": self.num_samples,
            "scoring": self.definition.metric,
            "template": self.frame.describe() if self.frame.is_chat else "official `base`: none",
        }

    def _sample(self, place: int, row: Row) -> Sample:
        ids = np.array(self.frame.encode(row.message, row.stem), dtype=np.int64)
        return Sample(f"sample {place}", ids, row.references, {"official_tokens": row.tokens})

    @cached_property
    def _key(self) -> str:
        """Name of what decides the prompts."""
        facts = [tokenizer_fingerprint(self.tokenizer), self.num_samples, self.checkout.describe(self.definition)]
        facts += [self.frame.describe()] if self.frame.is_chat else []
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @cached_property
    def _rows(self) -> dict[int, list[Row]]:
        return {}


def _row(line: str) -> Row:
    fields = json.loads(line)
    return Row(fields["input"], fields.get("answer_prefix", ""), tuple(fields["outputs"]), fields["length"])
