"""LongBench v1 with the prompts, answer lengths and truncation of an official checkout.

As in its `pred.py`: a prompt that is too long is cut in its middle before the chat template, decoded and tokenized
again; answers to `samsum` end at the first line break, and no answer to it is empty. Tasks are called
`official_longbench_*`; those of the same names without `official_` need no checkout.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..prompted import Sample
from .checkout import Checkout
from .registry import NAMES
from .task import Item
from .v1 import LongBench

PREFIX = "official_"
OFFICIAL = {f"{PREFIX}longbench_{name}": name for name in NAMES}
"""Our name to the official one, e.g. `official_longbench_qasper` to `qasper`."""
ENDS_AT_LINE_BREAKS = "samsum"


@dataclass(frozen=True, kw_only=True)
class OfficialLongBench(LongBench):
    """One dataset, put as the official checkout puts it; its dataset holds the checkout's prompt and answer length."""

    checkout: Checkout

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Name in results, e.g. `official_longbench_qasper`."""
        return f"{PREFIX}{super().name}"

    @property
    def min_new_tokens(self) -> int:
        return 1 if self.dataset.name == ENDS_AT_LINE_BREAKS else 0

    def ends(self, model: PreTrainedModel) -> frozenset[int]:
        if self.dataset.name != ENDS_AT_LINE_BREAKS:
            return super().ends(model)
        line_break = self.tokenizer.encode("\n", add_special_tokens=False)[-1]
        return frozenset(end for end in (self.tokenizer.eos_token_id, line_break) if isinstance(end, int))

    def samples(self, length: int) -> list[Sample]:
        if length not in self._made:
            self._made[length] = [self._sample(item, length) for item in self.items()]
        return self._made[length]

    def describe(self) -> dict[str, Any]:
        answer = "ends at a line break, at least one token" if self.min_new_tokens else "ends where the model ends it"
        return {
            **super().describe(),
            **self.checkout.describe(),
            "truncation": "official: first and last half of the prompt without chat template, decoded and tokenized",
            "answer": answer,
        }

    def _sample(self, item: Item, length: int) -> Sample:
        text, room = "".join(item.prompt), length - self.max_new_tokens
        whole = self._tokens(text)
        around = len(self.frame.opening) + len(self.frame.closing) if self.frame.is_chat else 0
        limit = self.checkout.kept(length) or room - around
        ids = self.frame.encode(self._cut(text, whole, limit, item, length))
        while len(ids) > room:  # the template, or the seam of the halves
            limit -= len(ids) - room
            ids = self.frame.encode(self._cut(text, whole, limit, item, length))
        labels = {**item.labels, "prompt_tokens": len(whole), "kept_tokens": min(limit, len(whole))}
        labels["cut"] = len(whole) > limit
        return Sample(item.name, np.array(ids, dtype=np.int64), item.references, labels)

    def _cut(self, text: str, whole: list[int], limit: int, item: Item, length: int) -> str:
        """Return a prompt of at most `limit` tokens; unlike the official script, never one without its question."""
        if len(whole) <= limit:
            return text
        leading = len(whole) - len(self.frame.tokens(text))
        needed = max(leading + len(self.frame.tokens(item.prompt.before)), len(self.frame.tokens(item.prompt.after)))
        if limit < 2 * needed:
            raise ValueError(
                f"lengths must have room for instruction and question of {self.name}, which are never cut, got "
                f"{length}; ask for longer lengths, about {length - limit + 2 * needed}"
            )
        return middle_cut(self.tokenizer, whole, limit)

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, verbose=False)

    @cached_property
    def _made(self) -> dict[int, list[Sample]]:
        return {}


def middle_cut(tokenizer: PreTrainedTokenizerBase, ids: list[int], limit: int) -> str:
    """Return the text of the first and of the last half of `limit` tokens, without special tokens."""
    half = limit // 2
    first, last = (tokenizer.decode(part, skip_special_tokens=True) for part in (ids[:half], ids[-half:]))
    return f"{first}{last}"
