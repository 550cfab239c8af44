"""RULER's two aggregation tasks: the most common words of a numbered list, and of a coded text."""

import random
import string
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.special import zeta

from .base import SHORT, Category, Prompt, RulerTask
from .vocabulary import ENGLISH, code, distinct, made_up_word

COMMON = 10
"""Common words of a list."""
STEM = f" Answer: The top {COMMON} words that appear most often in the list are:"


class Repeats(NamedTuple):
    """How often common and other words stand in the list, and those of the worked example with its words."""

    common: int
    other: int
    example_words: int
    example_common: int
    example_other: int


LONG_LIST = Repeats(common=30, other=3, example_words=40, example_common=10, example_other=3)
SHORT_LIST = Repeats(common=6, other=1, example_words=20, example_common=3, example_other=1)
"""Used below `SHORT`."""


@dataclass(frozen=True, eq=False)
class CommonWords(RulerTask):
    """Ten words stand more often in a list than the others; it grows by different words. A worked example precedes."""

    name = "ruler_cwe"
    category: ClassVar[Category] = "aggregation"
    new_tokens: ClassVar[int] = 120

    def describe(self) -> dict[str, Any]:
        repeats = {f"below {SHORT}": SHORT_LIST._asdict(), f"from {SHORT}": LONG_LIST._asdict()}
        return {**super().describe(), "common_words": COMMON, "repeats": repeats, "worked_examples": 1}

    def least(self, length: int, place: int) -> int:
        return 2 * COMMON

    def build(self, rng: random.Random, units: int, length: int, place: int) -> Prompt:
        repeats = SHORT_LIST if length < SHORT else LONG_LIST
        example, solution = word_list(rng, repeats.example_words, repeats.example_common, repeats.example_other)
        text, common = word_list(rng, units, repeats.common, repeats.other)
        return Prompt(f"{example}{STEM} {numbered(solution)}\n{text}", STEM, tuple(common), {})


def word_list(rng: random.Random, words: int, common_repeats: int, other_repeats: int) -> tuple[str, list[str]]:
    """Return a list of so many different words with its question, and its common words."""
    known = rng.sample(ENGLISH, min(words, len(ENGLISH)))
    known += distinct(words - len(known), lambda: made_up_word(rng), frozenset(ENGLISH))
    rng.shuffle(known)
    common, other = known[:COMMON], known[COMMON:]
    entries = common * common_repeats + other * other_repeats
    rng.shuffle(entries)
    return (
        "The numbered list below has words that appear more often than others. Memorize those that appear most often."
        f"\n{numbered(entries)}\nQuestion: What are the {COMMON} most common words in the above list?"
    ), common


def numbered(words: list[str]) -> str:
    """Return `1. first 2. second ...`."""
    return " ".join(f"{number}. {word}" for number, word in enumerate(words, start=1))


ALPHA = 2.0
CODE_LETTERS = 6
ASKED = 3
TOKENS_PER_CODE = 50
"""Tokens of the prompt for each coded word of the vocabulary."""
DOTS = "..."
"""Stands for the most frequent word, as noise."""
FEWEST_DRAWS = int(np.ceil(zeta(ALPHA) / ((ASKED + 1) ** -ALPHA - (ASKED + 2) ** -ALPHA)))
"""Words drawn from which on the last word asked for is always more frequent than the next one."""


@dataclass(frozen=True, eq=False)
class FrequentWords(RulerTask):
    """Coded words with frequencies of a zeta distribution; it grows by words drawn. The first rank is dots."""

    name = "ruler_fwe"
    category: ClassVar[Category] = "aggregation"
    new_tokens: ClassVar[int] = 50

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "alpha": ALPHA, "letters": CODE_LETTERS, "tokens_per_code": TOKENS_PER_CODE}

    def least(self, length: int, place: int) -> int:
        return FEWEST_DRAWS

    def build(self, rng: random.Random, units: int, length: int, place: int) -> Prompt:
        size = max(ASKED + 1, (length - self.new_tokens) // TOKENS_PER_CODE)
        codes = [DOTS, *distinct(size - 1, lambda: code(rng, string.ascii_lowercase, CODE_LETTERS))]
        counts = (units * np.arange(1, size + 1) ** -ALPHA / zeta(ALPHA)).astype(int)
        text = [word for word, count in zip(codes, counts.tolist(), strict=True) for _ in range(count)]
        rng.shuffle(text)
        return Prompt(
            "Read the coded text below and keep count of each coded word, to find the three most frequent ones. "
            f"{' '.join(text)}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the "
            "three most frequently appeared words in the above coded text?",
            " Answer: According to the coded text above, the three most frequently appeared words are:",
            tuple(codes[1 : ASKED + 1]),
            {"vocabulary": size},
        )
