"""RULER's eight retrieval tasks: magic values of keys are hidden in a haystack, and some are asked for.

Each task differs by what the haystack is made of (filler lines, essays, or needles that nobody asks for), by what keys
and values are, and by how many are hidden and asked for.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from ...data.prompts import FILLER
from ...data.tokenized import TokenizedDocuments
from .base import Category, Prompt, RulerTask
from .essays import Essays
from .vocabulary import DRAW, Kind, distinct

DEPTHS = tuple(np.round(np.linspace(0, 100, 40)).astype(int).tolist())
"""Depths, in per cent of the sentences, at which needles stand in essays."""


@dataclass(frozen=True)
class Needles:
    """What is hidden in what, and how much of it is asked for."""

    haystack: Literal["filler", "essays", "needles"]
    key: Kind = "words"
    value: Kind = "numbers"
    keys: int = 1
    values: int = 1
    """Values per key."""
    queries: int = 1
    """Keys asked for."""

    def statement(self, key: str, value: str) -> str:
        return f"One of the special magic {self.value} for {key} is: {value}."

    def prompt(self, context: str, asked: list[str]) -> tuple[str, str]:
        """Return the haystack between its introduction and the question, and the stem of the answer."""
        query = asked[0] if len(asked) == 1 else f"{', '.join(asked[:-1])}, and {asked[-1]}"
        if self.queries * self.values == 1:
            kind, hidden, ask, is_ = self.value[:-1], "A special magic {} is", "What is the", "is"
        else:
            kind, hidden, ask, is_ = self.value, "Some special magic {} are", "What are all the", "are"
        topic = f"special magic {kind} for {query} mentioned in the provided text"
        return (
            f"{hidden.format(kind)} hidden in the text below. Memorize what it says: you will be asked for the {kind} "
            f"afterwards.\n{context}\n{ask} {topic}?"
        ), f" The {topic} {is_}"


@dataclass(frozen=True, eq=False)
class NeedleTask(RulerTask):
    """One of the retrieval tasks; its haystack grows by filler lines, words of essays, or needles."""

    category: ClassVar[Category] = "retrieval"
    new_tokens: ClassVar[int] = 128
    needles: ClassVar[Needles]

    essays: TokenizedDocuments | None = None
    """Documents of the tokenizer that a haystack of essays is made of; any corpus will do."""

    def __post_init__(self) -> None:
        if self.needles.haystack == "essays" and self.essays is None:
            raise ValueError(
                f"essays must be documents to hide needles in for {self.name}, got None; give the tokenized data of "
                "longrope tokenize, or leave the task out"
            )

    def describe(self) -> dict[str, Any]:
        documents = None if self.essays is None else self.essays.fingerprint()
        return {**super().describe(), **vars(self.needles), "essays": documents}

    def least(self, length: int, place: int) -> int:
        return self.needles.keys * self.needles.values

    def build(self, rng: random.Random, units: int, length: int, place: int) -> Prompt:
        spec = self.needles
        keys = distinct(spec.keys, lambda: DRAW[spec.key](rng))
        values = {key: distinct(spec.values, lambda: DRAW[spec.value](rng)) for key in keys}
        asked = rng.sample(keys, spec.queries)
        hidden = [spec.statement(key, value) for key in keys for value in values[key]]
        rng.shuffle(hidden)
        text, stem = spec.prompt(self._context(rng, hidden, values, units), asked)
        references = [value for key in asked for value in values[key]]
        depths = [round(text.index(value) / len(text + stem), 3) for value in references]
        return Prompt(text, stem, tuple(references), {"depths": depths})

    def _context(self, rng: random.Random, hidden: list[str], values: Mapping[str, list[str]], units: int) -> str:
        if self.needles.haystack == "essays":
            parts, joint = self._essays.sentences(rng, units), " "
            places = sorted(len(parts) * depth // 100 for depth in rng.sample(DEPTHS, len(hidden)))
        else:
            parts, joint = [FILLER] * units, "\n"
            if self.needles.haystack == "needles":
                parts = [self._distractor(rng, values) for _ in range(units)]
            places = sorted(rng.sample(range(units), len(hidden)))
        for place, needle in sorted(zip(places, hidden, strict=True), reverse=True):
            parts.insert(place, needle)
        return joint.join(parts)

    def _distractor(self, rng: random.Random, values: Mapping[str, list[str]]) -> str:
        key = distinct(1, lambda: DRAW[self.needles.key](rng), values)[0]
        return self.needles.statement(key, DRAW[self.needles.value](rng))

    @cached_property
    def _essays(self) -> Essays:
        assert self.essays is not None
        return Essays(self.tokenizer, self.essays)


class NiahSingle1(NeedleTask):
    """A number in filler lines."""

    name = "ruler_niah_single_1"
    needles = Needles("filler")


class NiahSingle2(NeedleTask):
    """A number in essays."""

    name = "ruler_niah_single_2"
    needles = Needles("essays")


class NiahSingle3(NeedleTask):
    """A uuid in essays."""

    name = "ruler_niah_single_3"
    needles = Needles("essays", value="uuids")


class NiahMultikey1(NeedleTask):
    """One of four keys in essays is asked for."""

    name = "ruler_niah_multikey_1"
    needles = Needles("essays", keys=4)


class NiahMultikey2(NeedleTask):
    """The haystack is made of needles alone; one number is asked for."""

    name = "ruler_niah_multikey_2"
    needles = Needles("needles")


class NiahMultikey3(NeedleTask):
    """As before, with uuids as keys and values."""

    name = "ruler_niah_multikey_3"
    needles = Needles("needles", key="uuids", value="uuids")


class NiahMultivalue(NeedleTask):
    """All four numbers of one key in essays are asked for."""

    name = "ruler_niah_multivalue"
    needles = Needles("essays", values=4)


class NiahMultiquery(NeedleTask):
    """The numbers of four keys in essays are asked for."""

    name = "ruler_niah_multiquery"
    needles = Needles("essays", keys=4, queries=4)
