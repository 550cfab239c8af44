"""Needle in a haystack with the needle, essays, prompts and depths of an official checkout (gkamradt).

Published scores are a judge model's marks from 1 to 10, and there is no judge here: the score is another one, and the
protocol says what the judge is given. The task is called `official_niah`; `niah` has needles of our own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..data.chat import Frame, frame
from .needle_checkout import Checkout
from .prompted import PromptedTask, Sample

ANSWER_TOKENS = 300
"""Officially; fewer where the tokens that the context leaves hold fewer beside the rest of the prompt."""
SEAM = 16
"""Tokens by which a context may grow where its parts are joined as text and tokenized again."""


@dataclass(frozen=True, eq=False, kw_only=True)
class OfficialNeedle(PromptedTask):
    """Share of the needle's words that answers have, over the official depths; `seed` is the bootstrap's.

    Without chat template the prompt is the text that the checkout has for completion models, whose answer begins with
    its last line; with it, the messages that it has for chat models.
    """

    name: ClassVar[str] = "official_niah"

    checkout: Checkout
    depths: int | None = None
    """Depths per length, rounded to whole per cent; None: the official number."""

    @property
    def max_new_tokens(self) -> int:
        return min(ANSWER_TOKENS, self.checkout.reserved - len(self._ids("")) - SEAM)

    @cached_property
    def frame(self) -> Frame:
        """What stands around every prompt; in a chat template, the context: system prompt before, question after it.

        Raises:
            ValueError: a chat template is asked for, and there is none that can be used.
        """
        return frame(self.tokenizer, True, *self.checkout.messages) if self.chat else frame(self.tokenizer, False)

    def samples(self, length: int) -> list[Sample]:
        if length not in self._made:
            if self.max_new_tokens < 1 or length <= self.checkout.reserved:
                raise ValueError(
                    f"lengths must be more than the {self.checkout.reserved} tokens that the official contexts leave, "
                    f"and these must hold question and answer, got {length}, and {len(self._ids(''))} of the prompt "
                    "without context; ask for longer lengths, or take the task niah"
                )
            contexts = self.checkout.contexts(length, self.depths or self.checkout.depths, self.tokenizer)
            self._made[length] = [self._sample(percent, context, length) for percent, context in contexts]
        return self._made[length]

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        """Return the share of the needle's words, without those of the question, that an answer has."""
        wanted = _words(self.checkout.needle) - _words(self.checkout.question)
        return {"recall": len(wanted & _words(predicted)) / len(wanted)}

    def describe(self) -> dict[str, Any]:
        judged = {"question": self.checkout.question, "reference": self.checkout.needle}
        return {
            **self.checkout.describe(),
            "context": f"official: {self.checkout.reserved} tokens less than the length, with the needle",
            "depths": self.depths or self.checkout.depths,
            "scoring": "share of the needle's words, without those of the question, that the answer has; not official",
            "judge": {"criteria": self.checkout.criteria, **judged},
            "template": self.frame.describe() if self.chat else self.checkout.text("{context}"),
        }

    def _sample(self, percent: float, context: str, length: int) -> Sample:
        ids = self._ids(context)
        if len(ids) + self.max_new_tokens > length:
            raise ValueError(
                f"lengths must hold prompt and answer, got {length} for {len(ids)} and {self.max_new_tokens} tokens at "
                f"a depth of {percent} %, as the tokenizer makes more tokens of the context than it was cut to; take "
                "the task niah, which never tokenizes again"
            )
        labels = {"depth": percent / 100, "prompt_tokens": len(ids)}
        return Sample(f"depth {percent:g} %", ids, (self.checkout.needle.strip(),), labels)

    def _ids(self, context: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        text = context if self.chat else self.checkout.text(context)
        return np.array(self.frame.encode(text), dtype=np.int64)

    @cached_property
    def _made(self) -> dict[int, list[Sample]]:
        return {}


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))
