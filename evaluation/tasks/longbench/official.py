"""LongBench with the prompts, answer lengths and truncation of an official checkout.

As in its two `pred.py`: a prompt that is too long is cut in its middle before the chat template, decoded and tokenized
again. In v1 answers to `samsum` end at the first line break, and no answer to it is empty. Tasks are called
`official_longbench_*` and `official_longbench2*`; those of the same names without `official_` need no checkout.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ..prompted import Sample
from .checkout import Checkout
from .checkout_v2 import ANSWER, REASONING, ZERO_SHOT, CheckoutV2
from .data import Question
from .registry import NAMES, Prompt
from .task import Item, LongBenchTask
from .v1 import LongBench
from .v2 import LongBench2

PREFIX = "official_"
V2_TASKS = ("longbench2", "longbench2_cot")
"""LongBench v2, without and with chain of thought."""
OFFICIAL = {f"{PREFIX}longbench_{name}": name for name in NAMES}
"""Our name of v1's to the official one, e.g. `official_longbench_qasper` to `qasper`."""
OFFICIAL_V2 = tuple(f"{PREFIX}{name}" for name in V2_TASKS)
ENDS_AT_LINE_BREAKS = "samsum"


@dataclass(frozen=True, kw_only=True)
class RetokenizedTask(LongBenchTask):
    """Base of the official tasks: what is kept of a long prompt becomes text again and is tokenized in its template."""

    @abstractmethod
    def kept(self, length: int) -> int | None:
        """Return the tokens that are officially kept of a prompt without chat template; None: all there is room for."""

    @abstractmethod
    def shortened(self, ids: list[int], limit: int) -> str:
        """Return the text of the first and the last half of `limit` tokens."""

    def samples(self, length: int) -> list[Sample]:
        if length not in self._made:
            self._made[length] = [self._sample(item, length) for item in self.items()]
        return self._made[length]

    def fitted(self, prompt: Prompt, length: int, answer_tokens: int) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """Return the tokens of a prompt, and how many it had and how many were kept of it, without chat template.

        Raises:
            ValueError: the instruction or the question would be cut.
        """
        text, room = "".join(prompt), length - answer_tokens
        whole = self._tokens(text)
        around = len(self.frame.opening) + len(self.frame.closing) if self.frame.is_chat else 0
        limit = self.kept(length) or room - around
        ids = self.frame.encode(self._cut(prompt, whole, limit, length))
        while len(ids) > room:  # the template, or the seam of the halves
            limit -= len(ids) - room
            ids = self.frame.encode(self._cut(prompt, whole, limit, length))
        labels = {"prompt_tokens": len(whole), "kept_tokens": min(limit, len(whole)), "cut": len(whole) > limit}
        return np.array(ids, dtype=np.int64), labels

    def _sample(self, item: Item, length: int) -> Sample:
        ids, labels = self.fitted(item.prompt, length, self.max_new_tokens)
        return Sample(item.name, ids, item.references, {**item.labels, **labels})

    def _cut(self, prompt: Prompt, whole: list[int], limit: int, length: int) -> str:
        """Return a prompt of at most `limit` tokens; unlike the official scripts, never one without its question."""
        text = "".join(prompt)
        if len(whole) <= limit:
            return text
        leading = len(whole) - len(self.frame.tokens(text))
        needed = max(leading + len(self.frame.tokens(prompt.before)), len(self.frame.tokens(prompt.after)))
        if limit < 2 * needed:
            raise ValueError(
                f"lengths must have room for instruction and question of {self.name}, which are never cut, got "
                f"{length}; ask for longer lengths, about {length - limit + 2 * needed}"
            )
        return self.shortened(whole, limit)

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, verbose=False)

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    @cached_property
    def _made(self) -> dict[int, list[Sample]]:
        return {}


@dataclass(frozen=True, kw_only=True)
class OfficialLongBench(LongBench, RetokenizedTask):
    """One dataset of v1, put as the official checkout puts it; its dataset holds the checkout's prompt and lengths."""

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

    def kept(self, length: int) -> int | None:
        return self.checkout.kept(length)

    def shortened(self, ids: list[int], limit: int) -> str:
        """Return the halves, each decoded by itself."""
        half = limit // 2
        return self._text(ids[:half]) + self._text(ids[-half:])

    def describe(self) -> dict[str, Any]:
        answer = "ends at a line break, at least one token" if self.min_new_tokens else "ends where the model ends it"
        return {
            **super().describe(),
            **self.checkout.describe(),
            "truncation": "official: first and last half of the prompt without chat template, decoded and tokenized",
            "answer": answer,
        }


@dataclass(frozen=True, kw_only=True)
class OfficialLongBench2(LongBench2, RetokenizedTask):
    """LongBench v2, put as the official checkout puts it."""

    checkout: CheckoutV2

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Name in results: `official_longbench2` or `official_longbench2_cot`."""
        return f"{PREFIX}{super().name}"

    def prompt(self, row: Question) -> Prompt:
        return self.checkout.prompt(self._template, row)

    def answer_prompt(self, row: Question, reasoning: str) -> Prompt:
        return self.checkout.prompt(ANSWER, row, reasoning)

    def answer_ids(self, prompt: Prompt, length: int, answer_tokens: int) -> NDArray[np.int64]:
        return self.fitted(prompt, length, answer_tokens)[0]

    def kept(self, length: int) -> int | None:
        return self.checkout.kept if self.checkout.kept <= length else None

    def shortened(self, ids: list[int], limit: int) -> str:
        """Return the halves, decoded together; the last one is the longer one of an odd number."""
        half = limit // 2
        return self._text(ids[:half] + ids[half - limit :])

    def describe(self) -> dict[str, Any]:
        described = {
            **super().describe(),
            **self.checkout.describe(),
            "template": self.checkout.text(self._template),
            "truncation": "official: first and last half of the prompt without chat template, decoded and tokenized",
        }
        if self.chain_of_thought:
            described["answer_template"] = self.checkout.text(ANSWER)
        return described

    @property
    def _template(self) -> str:
        return REASONING if self.chain_of_thought else ZERO_SHOT
