"""NoLiMa (arXiv 2502.05167) with the needles, books and templates of an official checkout.

The task is called `official_nolima`; `nolima` has facts and questions of our own.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..data.chat import Frame, frame
from ..data.seeding import seeded
from .nolima_checkout import Checkout, NeedleQuestion
from .prompted import PromptedTask, Sample

NEAR = 0.9
"""Share of the room from which on an official context length is taken rather than the room itself."""


@dataclass(frozen=True, eq=False, kw_only=True)
class OfficialNoLiMa(PromptedTask):
    """Accuracy over needles, books and depths of an official checkout.

    Names are drawn with the official seeds, so that prompts are the same in every evaluation; `seed` chooses samples.
    """

    name: ClassVar[str] = "official_nolima"

    checkout: Checkout
    num_samples: int = 500
    """Prompts per length, a selection by the seed of all tests, books and depths; more than there are: all."""

    @property
    def max_new_tokens(self) -> int:
        return self.checkout.max_new_tokens

    @cached_property
    def frame(self) -> Frame:
        """What stands around every prompt: in a chat template, the official system prompt too.

        Raises:
            ValueError: a chat template is asked for, and there is none that can be used.
        """
        return frame(self.tokenizer, self.chat, self.checkout.system_prompt)

    def samples(self, length: int) -> list[Sample]:
        if length not in self._made:
            context = self.context(length)
            made = [self._sample(place, context) for place in self._chosen]
            while (excess := max(len(sample.ids) for sample in made) + self.max_new_tokens - length) > 0:
                context -= excess  # tokens at the seams of snippet and template
                made = [self._sample(place, context) for place in self._chosen]
            self._made[length] = made
        return self._made[length]

    def context(self, length: int) -> int:
        """Return the tokens of the book snippets: an official number where one is near what there is room for.

        Raises:
            ValueError: the length has no room for needle, question and template, or the books are too short.
        """
        room = length - self.max_new_tokens - self._around
        if room < 1:
            raise ValueError(
                f"lengths must be at least {length - room + 1} tokens for {self.name}, whose needles and questions are "
                f"never cut, got {length}; ask for longer lengths"
            )
        return max((n for n in self.checkout.contexts if NEAR * room <= n <= room), default=room)

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        """Return 1 if the answer contains a right one, letter by letter."""
        return {"accuracy": float(any(reference in predicted for reference in sample.references))}

    def describe(self) -> dict[str, Any]:
        return {
            **self.checkout.describe(),
            "context": "official number of tokens of the book snippet where one is near what there is room for",
            "samples": min(self.num_samples, self._total),
            "scoring": "answer contains the name",
            "template": self.frame.describe(),
        }

    @property
    def _total(self) -> int:
        return len(self.checkout.books) * len(self.checkout.tests) * self.checkout.depths

    @cached_property
    def _chosen(self) -> list[int]:
        """Numbers of the samples, counted over books, tests and depths."""
        if self.num_samples < 1:
            raise ValueError(f"samples must be at least 1 per length, got {self.num_samples}")
        count = min(self.num_samples, self._total)
        return sorted(random.Random(seeded(self.name, self.seed)).sample(range(self._total), count))

    @cached_property
    def _around(self) -> int:
        """Tokens of the longest prompt without its snippet."""
        longest = [
            test.template.format(haystack=f" {test.needle}\n", question=test.question) for test in self.checkout.tests
        ]
        names = max(
            (len(self.frame.tokens(name)) for test in self.checkout.tests for name in test.characters), default=0
        )
        return max(len(self.frame.encode(text)) for text in longest) + 2 * names

    def _sample(self, place: int, context: int) -> Sample:
        rest, at = divmod(place, self.checkout.depths)
        book, number = divmod(rest, len(self.checkout.tests))
        test = self.checkout.tests[number]
        depth = np.linspace(0, 100, self.checkout.depths)[at] / 100
        needle, question, answers = self._named(test, book, at)
        try:
            placed = self._haystacks[book].generate_w_needle_placement(
                needle=needle,
                token_count_func=lambda text: len(self.frame.tokens(text)),
                encoding_func=self.frame.tokens,
                decoding_func=self.tokenizer.decode,
                context_length=context,
                depth=depth,
            )
        except (AssertionError, ValueError) as error:
            file = self.checkout.books[book]
            raise ValueError(
                f"books must have {context} tokens after every depth, got fewer in {file}; take shorter lengths"
            ) from error
        text = test.template.format(haystack=placed["text"], question=question)
        labels = {"pair": test.name, "book": self.checkout.books[book].stem, "context_tokens": context}
        item = f"{test.name} book {book} depth {round(float(depth), 6)}"
        ids = np.array(self.frame.encode(text), dtype=np.int64)
        return Sample(item, ids, answers, {**labels, "depth": round(float(depth), 6)})

    def _named(self, test: NeedleQuestion, book: int, at: int) -> tuple[str, str, tuple[str, ...]]:
        """Return needle, question and answers with the name that the official seed draws at a depth."""
        if "{CHAR}" not in test.needle:
            return test.needle, test.question, test.answers
        draws = np.random.RandomState(test.seed + book)
        name = [str(draws.choice(test.characters)) for _ in range(at + 1)][-1]
        return test.needle.replace("{CHAR}", name), test.question.replace("{CHAR}", name), (name,)

    @cached_property
    def _haystacks(self) -> list[Any]:
        return [self.checkout.haystack(book) for book in self.checkout.books]

    @cached_property
    def _made(self) -> dict[int, list[Sample]]:
        return {}
