"""Needle in a haystack: one needle, or several of one key, over a grid of depths, in any documents.

After Kamradt's test and its multi-needle variant: with n needles the first is at depth D, the others follow every
(1 - D) / n. Needles are the special magic numbers of RULER (arXiv 2404.06654) unless a needle of one's own is given;
answers are judged by what they contain, never by a model.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from transformers import PreTrainedModel

from ..data.haystack import Haystack, Hidden
from ..data.prompts import Needle, PromptStyle, key_names
from ..data.seeding import seeded
from .haystack import HaystackTask
from .longbench.metrics import rouge_l
from .prompted import Sample

ANSWER_TOKENS = 16
"""New tokens per needle: seven digits of a token each, and what stands between two numbers."""


@dataclass(frozen=True)
class SingleNeedle(HaystackTask):
    """One needle; `accuracy` counts answers that contain it, `exact_match` those that begin with it and nothing else.

    Both compare without case; `exact_match` reads the first line and ignores spaces and full stops around it.
    """

    name: ClassVar[str] = "niah"

    needle: Needle | None = None
    """A needle of one's own, the same in every prompt; None: a random number for a random key in each."""
    rouge: bool = False
    """Also score `rouge_l` against the needle's answer, for answers of several words; needs the package `rouge`."""

    @property
    def max_new_tokens(self) -> int:
        own = 0 if self.needle is None else len(self.tokenizer.encode(self.needle.answer, add_special_tokens=False))
        return max(ANSWER_TOKENS, 2 * own)

    def sample(self, haystack: Haystack, length: int, depth: float, trial: int) -> Sample:
        rng = random.Random(seeded(self.name, self.seed, length, depth, trial))
        needle = self.needle or haystack.style.key_value(key_names(rng, 1)[0], magic_numbers(rng, 1)[0])
        hidden = [Hidden(depth, needle.statement)]
        ids = haystack.prompt(hidden, needle.question, length, self.max_new_tokens, rng, needle.stem)
        return Sample(f"depth {depth} trial {trial}", ids, (needle.answer,), {"depth": depth, "trial": trial})

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        answer = sample.references[0]
        first_line = predicted.strip().split("\n")[0].strip(" .\t")
        exact = first_line.casefold() == answer.strip(" .\t").casefold()
        scores = {"accuracy": float(contains(predicted, answer)), "exact_match": float(exact)}
        return {**scores, "rouge_l": rouge_l(predicted, answer)} if self.rouge else scores

    def scoring(self) -> str:
        return "answer contains the needle's value as a whole word"

    def check(self, model: PreTrainedModel, lengths: Sequence[int]) -> None:
        if self.rouge:
            rouge_l("is the package", "installed")
        super().check(model, lengths)

    def describe(self) -> dict[str, Any]:
        own = None if self.needle is None else asdict(self.needle)
        return {**super().describe(), "needle": own, "rouge": self.rouge}


@dataclass(frozen=True)
class MultiNeedle(HaystackTask):
    """Several values of one key, all asked for: `recall` is the share found, `accuracy` counts all of them found."""

    name: ClassVar[str] = "niah_multi"

    needles: int = 3
    """Needles per prompt."""

    @property
    def max_new_tokens(self) -> int:
        return ANSWER_TOKENS * self.needles

    def sample(self, haystack: Haystack, length: int, depth: float, trial: int) -> Sample:
        if self.needles < 2:
            raise ValueError(f"needles must be at least 2, got {self.needles}; one needle is the task niah")
        rng = random.Random(seeded(self.name, self.seed, length, depth, trial, self.needles))
        (key,), values = key_names(rng, 1), magic_numbers(rng, self.needles)
        statements = [haystack.style.key_value(key, value).statement for value in values]
        places = needle_depths(depth, self.needles)
        hidden = [Hidden(place, statement) for place, statement in zip(places, statements, strict=True)]
        question, stem = all_values_question(haystack.style, key)
        ids = haystack.prompt(hidden, question, length, self.max_new_tokens, rng, stem)
        labels = {"depth": depth, "trial": trial, "needle_depths": places}
        return Sample(f"depth {depth} trial {trial}", ids, tuple(values), labels)

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        share = recall(predicted, sample.references)
        return {"recall": share, "accuracy": float(share == 1)}

    def scoring(self) -> str:
        return "share of the needles' values that the answer contains as whole words"

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "needles": self.needles, "spread": "first at depth D, the others every (1-D)/n"}


def needle_depths(depth: float, count: int) -> list[float]:
    """Return the depths of `count` needles of which the first is at `depth`: the others follow every (1 - D) / n."""
    return [round(depth + number * (1 - depth) / count, 6) for number in range(count)]


def all_values_question(style: PromptStyle, key: str) -> tuple[str, str]:
    """Return the question for all values of one key, and how its answer begins."""
    asked = f"special magic numbers for {key} mentioned in the provided text"
    return style.line.format(f"What are all the {asked}?"), f" The {asked} are"


def magic_numbers(rng: random.Random, count: int) -> list[str]:
    """Return different numbers of seven digits."""
    return [str(number) for number in rng.sample(range(1_000_000, 10_000_000), count)]


def contains(predicted: str, value: str) -> bool:
    """Tell whether an answer contains a value as a whole word, in any case."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", predicted, re.IGNORECASE) is not None


def recall(predicted: str, values: Sequence[str]) -> float:
    """Return the share of the values that an answer contains."""
    return sum(contains(predicted, value) for value in values) / len(values)
