"""Pass key retrieval (LongRoPE A.1, arXiv 2402.13753, after landmark attention, arXiv 2305.16300), and a harder one.

A key of five digits is hidden at some depth of a haystack and asked for at the end. The hard task hides several keys,
told apart by names or, as YaRN's (arXiv 2309.00071), by ordinals, and asks for one of them.
"""

import hashlib
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..data.haystack import Haystack, Hidden
from ..data.prompts import Needle, PromptStyle, key_names
from ..data.seeding import seeded
from .haystack import HaystackTask
from .prompted import Sample

ANSWER_TOKENS = 8
"""New tokens: five digits of a token each, a space, and one more to see where the number ends."""
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True)
class Passkey(HaystackTask):
    """Pass key accuracy over a grid of depths."""

    name: ClassVar[str] = "passkey"
    sentences: ClassVar[bool] = False

    @property
    def max_new_tokens(self) -> int:
        return ANSWER_TOKENS

    def sample(self, haystack: Haystack, length: int, depth: float, trial: int) -> Sample:
        digest = hashlib.sha256(repr((self.seed, length, depth, trial)).encode()).digest()
        rng = random.Random(int.from_bytes(digest[:8], "big"))
        needle = haystack.style.passkey(str(rng.randrange(10_000, 100_000)))
        hidden = [Hidden(depth, needle.statement)]
        ids = haystack.prompt(hidden, needle.question, length, ANSWER_TOKENS, rng, needle.stem)
        return Sample(f"depth {depth} trial {trial}", ids, (needle.answer,), {"depth": depth, "trial": trial})

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        return {"accuracy": float(is_correct(predicted, sample.references[0]))}

    def scoring(self) -> str:
        return "first integer of the answer equals the key"


@dataclass(frozen=True)
class PasskeyHard(Passkey):
    """Accuracy of one pass key among several; naming any key of the text at random scores `1 / keys`."""

    name: ClassVar[str] = "passkey_hard"

    keys: int = 4
    """Pass keys in each prompt, from 2 to 10; the one asked for is at the depth of the grid, the others anywhere."""
    told_by: Literal["name", "ordinal"] = "name"
    """What tells the keys apart: `name` ("the pass key of amber-cedar") or `ordinal` ("the third pass key")."""

    def sample(self, haystack: Haystack, length: int, depth: float, trial: int) -> Sample:
        if not 2 <= self.keys <= len(ORDINALS):
            raise ValueError(f"keys must be from 2 to {len(ORDINALS)}, got {self.keys}; one key is the task passkey")
        rng = random.Random(seeded(self.name, self.seed, length, depth, trial, self.keys, self.told_by))
        places = sorted([depth, *(rng.random() for _ in range(self.keys - 1))])
        digits = [str(key) for key in rng.sample(range(10_000, 100_000), self.keys)]
        names = ORDINALS[: self.keys] if self.told_by == "ordinal" else key_names(rng, self.keys)
        word = ordinal_passkey if self.told_by == "ordinal" else PromptStyle.named_passkey
        needles = [word(haystack.style, name, key) for name, key in zip(names, digits, strict=True)]
        asked = places.index(depth)
        hidden = [Hidden(place, needle.statement) for place, needle in zip(places, needles, strict=True)]
        ids = haystack.prompt(hidden, needles[asked].question, length, ANSWER_TOKENS, rng, needles[asked].stem)
        labels = {"depth": depth, "trial": trial, "asked": names[asked], "keys": digits}
        return Sample(f"depth {depth} trial {trial}", ids, (needles[asked].answer,), labels)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "keys": self.keys, "told_by": self.told_by}


def ordinal_passkey(style: PromptStyle, ordinal: str, key: str) -> Needle:
    """Return one of several pass keys, told apart by its place among them, as in YaRN's hard pass key."""
    statement = f"The {ordinal} pass key is {key}. Remember it. {key} is the {ordinal} pass key."
    return style.needle(statement, f"What is the {ordinal} pass key?", f"The {ordinal} pass key is", key)


def is_correct(predicted: str, expected: str) -> bool:
    """Tell whether the first integer of the answer is exactly the key."""
    found = re.search(r"\d+", predicted)
    return found is not None and found.group() == expected
