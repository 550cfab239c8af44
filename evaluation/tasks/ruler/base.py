"""What the tasks of RULER share: a prompt grows by whole haystack units until its length is used up.

RULER: What's the Real Context Size of Your Long-Context Language Models? (arXiv 2404.06654); definitions as in the
authors' generators (NVIDIA/RULER, scripts/synthetic.yaml and scripts/data/synthetic). Needles, questions and answer
stems are RULER's; the introductions around them are our own. Departures, in every task: each sample
has a seed of its own (the reference shuffles every sample alike), each is sized by itself, and to the unit.
"""

import random
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from ...data.seeding import seeded
from ..prompted import PromptedTask, Sample

Category = Literal["retrieval", "multi_hop", "aggregation", "qa"]
SHORT = 4096
"""Below this length RULER's counts and repeats are smaller ones."""


@dataclass(frozen=True)
class Prompt:
    """The text of one sample."""

    text: str
    stem: str
    """How the answer begins, with the space before it; the model continues it."""
    references: tuple[str, ...]
    labels: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class RulerTask(PromptedTask):
    """Base of the thirteen tasks; a subclass says how a prompt of a given number of haystack units is made."""

    category: ClassVar[Category]
    metric: ClassVar[str] = "string_match_all"
    new_tokens: ClassVar[int]

    num_samples: int = 500
    """Samples per length; the paper takes 500."""

    @abstractmethod
    def least(self, length: int, place: int) -> int:
        """Return the fewest haystack units that the sample at `place` can have."""

    @abstractmethod
    def build(self, rng: random.Random, units: int, length: int, place: int) -> Prompt:
        """Return the prompt with a haystack of so many units."""

    @property
    def max_new_tokens(self) -> int:
        return self.new_tokens

    def samples(self, length: int) -> list[Sample]:
        return [self._sample(length, place) for place in range(self.num_samples)]

    def fits(self, length: int) -> bool:
        """Tell whether the smallest prompts of all samples have room in this length."""
        return self._needed(length) <= length

    def smallest_length(self, start: int = 1) -> int:
        """Return a length from `start` on that fits, a few tokens from the smallest one: samples differ by length."""
        length = start
        while (needed := self._needed(length)) > length:
            length = needed
        return length

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        return {self.metric: METRICS[self.metric](predicted, sample.references)}

    def describe(self) -> dict[str, Any]:
        return {
            "definition": "RULER, arXiv 2404.06654",
            "category": self.category,
            "samples": self.num_samples,
            "scoring": self.metric,
            "wording": "RULER's needles, questions and answer stems; own introductions",
            "template": self.frame.describe(),
        }

    def count(self, text: str) -> int:
        """Return the tokens of a text without special ones."""
        return len(self.frame.tokens(text))

    def _needed(self, length: int) -> int:
        """Return the length that the smallest prompts of all samples of this length need."""
        return max(
            self._tokens(self._prompt(length, place, self.least(length, place))) for place in range(self.num_samples)
        )

    def _sample(self, length: int, place: int) -> Sample:
        units, least = self._fitting(length, place), self.least(length, place)
        if units < least:
            raise ValueError(
                f"lengths must have room for the smallest prompt of {self.name}, got {length} tokens; the next length "
                f"with room is about {self.smallest_length(length)}: take that, or leave the task out"
            )
        prompt = self._prompt(length, place, units)
        ids = np.array(self.frame.encode(prompt.text, prompt.stem), dtype=np.int64)
        return Sample(f"sample {place}", ids, prompt.references, {"units": units, **prompt.labels})

    def _fitting(self, length: int, place: int) -> int:
        """Return the units of a sample, found once, since samples are made anew for every method."""
        if (length, place) not in self._units:
            self._units[length, place] = largest_fit(
                lambda units: self._tokens(self._prompt(length, place, units)), self.least(length, place), length
            )
        return self._units[length, place]

    def _prompt(self, length: int, place: int, units: int) -> Prompt:
        return self.build(random.Random(seeded(self.seed, self.name, length, place)), units, length, place)

    def _tokens(self, prompt: Prompt) -> int:
        """Return the tokens of prompt and answer together."""
        return len(self.frame.encode(prompt.text, prompt.stem)) + self.max_new_tokens

    @cached_property
    def _units(self) -> dict[tuple[int, int], int]:
        """Units of each length and place."""
        return {}


def largest_fit(tokens: Callable[[int], int], least: int, room: int) -> int:
    """Return a number of units n with `tokens(n) <= room < tokens(n + 1)`, or `least - 1` if none from `least` on fits.

    Bisection between bounds found by doubling, dividing where a straight line through the bounds meets the room.
    """
    low, at_low, high = least - 1, 0, least
    while (at_high := tokens(high)) <= room:
        low, at_low, high = high, at_high, 2 * high
    while high - low > 1:
        share = (room - at_low) / (at_high - at_low)
        middle = min(max(low + int(share * (high - low)), low + 1), high - 1)
        found = tokens(middle)
        if found <= room:
            low, at_low = middle, found
        else:
            high, at_high = middle, found
    return low


def string_match_all(predicted: str, references: Sequence[str]) -> float:
    """Return the share of references that the answer contains, in any case of letters."""
    return sum(reference.lower() in predicted.lower() for reference in references) / len(references)


def string_match_part(predicted: str, references: Sequence[str]) -> float:
    """Return 1 if the answer contains any of the references, in any case of letters, else 0."""
    return float(any(reference.lower() in predicted.lower() for reference in references))


METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "string_match_all": string_match_all,
    "string_match_part": string_match_part,
}
