"""RULER's variable tracking: a chain of assignments is hidden in filler lines; which variables have its value?"""

import random
import string
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from ...data.prompts import FILLER
from .base import SHORT, Category, Prompt, RulerTask
from .vocabulary import code, distinct

HOPS = 4
LETTERS, EXAMPLE_LETTERS = 5, 3
"""Letters of a variable in the exercise, and in its worked example."""
EXAMPLE_TOKENS = 500
"""Tokens of the worked example at 4096 and above; a shorter prompt gives it the same share, of an eighth or so."""


@dataclass(frozen=True, eq=False)
class VariableTracking(RulerTask):
    """One chain of four hops: five variables of one value. A worked example precedes it."""

    name = "ruler_vt"
    category: ClassVar[Category] = "multi_hop"
    new_tokens: ClassVar[int] = 30

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "haystack": "filler", "chains": 1, "hops": HOPS, "worked_examples": 1}

    def least(self, length: int, place: int) -> int:
        return HOPS + 1

    def build(self, rng: random.Random, units: int, length: int, place: int) -> Prompt:
        example, start, solution = exercise(rng, self._example_lines(length), EXAMPLE_LETTERS)
        text, stem, variables = exercise(rng, units, LETTERS)
        solved = f"{example}{start} {' '.join(solution)}"
        return Prompt(f"{solved}\n\n{text}", stem, tuple(variables), {"hops": HOPS})

    def _example_lines(self, length: int) -> int:
        """Return the filler lines of the worked example: as many as fit its tokens, but enough for the chain."""
        least = self.least(length, 0)
        shortest, stem, variables = exercise(random.Random(self.seed), least, EXAMPLE_LETTERS)
        used = self.count(f"{shortest}{stem} {' '.join(variables)}\n\n")
        room = EXAMPLE_TOKENS * min(length, SHORT) // SHORT - used
        return least + max(0, room // self.count(f"{FILLER}\n"))


def exercise(rng: random.Random, lines: int, letters: int) -> tuple[str, str, list[str]]:
    """Return a chain hidden in so many filler lines with its question, the stem of the answer, and its variables."""
    variables = distinct(HOPS + 1, lambda: code(rng, string.ascii_uppercase, letters))
    value = rng.randrange(10_000, 100_000)
    chain = [f"VAR {variables[0]} = {value}", *(f"VAR {new} = VAR {old}" for old, new in pairwise(variables))]
    parts = [FILLER] * lines
    places = sorted(rng.sample(range(lines), len(chain)))
    for place, assignment in reversed(list(zip(places, chain, strict=True))):
        parts.insert(place, assignment)
    context = "\n".join(parts)
    text = (
        "The text below hides a chain of variable assignments. Memorize it and follow it.\n\n"
        f"{context}\nQuestion: Find all variables that are assigned the value {value} in the text above."
    )
    stem = (
        " Answer: According to the chain(s) of variable assignment in the text above, "
        f"{len(variables)} variables are assigned the value {value}, they are:"
    )
    return text, stem, variables
