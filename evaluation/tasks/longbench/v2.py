"""LongBench v2 (arXiv 2412.15204): multiple choice over long documents, answered by generation.

The model writes an answer and its letter is read from it, as in the official scripts; ranking the log-likelihoods of
the letters, as other harnesses do, is another measurement. The wording of the prompts is our own in the official
structure; decoding is greedy, officially with temperature 0.1.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...scoring.generation import Generate
from ..base import Advance
from ..prompted import Record, Sample
from .data import LETTERS, Question, fingerprint
from .registry import Prompt
from .task import Item, LongBenchTask
from .truncation import EncodedPrompt, encode

ANSWER_TOKENS = 128
REASONING_TOKENS = 1024

QUESTION = "Which answer to this question is correct: {question}\nChoices:\n{choices}\n\n"
STEPS = "Let's think step by step:"
FORM = 'Reply in this form: "The correct answer is (insert the letter here)".'
BEFORE = "Read the text below and answer the question after it.\n\n<text>\n"
AFTER = "\n</text>\n\n"
OMITTED = "Read the text below and answer the question after it.\n\nThe text is too long and left out here.\n\n"
CONCLUSION = f"\n\nGiven all this, which single choice is the most likely one? {FORM}"


def parse_answer(predicted: str) -> str | None:
    """Return the letter that an answer names, by the official rule; None: it names none."""
    text = predicted.replace("*", "")
    found = re.search(r"The correct answer is \(([A-D])\)", text) or re.search(r"The correct answer is ([A-D])", text)
    return found.group(1) if found else None


@dataclass(frozen=True, kw_only=True)
class LongBench2(LongBenchTask):
    """All of LongBench v2, or a selection, with scores by difficulty and length of the document."""

    rows: tuple[Question, ...]
    chain_of_thought: bool = False
    """Whether the model first reasons about the text, and then answers from its reasoning without the text."""

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Name in results."""
        return "longbench2_cot" if self.chain_of_thought else "longbench2"

    @property
    def metric(self) -> str:
        return "accuracy"

    @property
    def split_by(self) -> tuple[str, ...]:
        return ("difficulty", "document_length")

    @property
    def max_new_tokens(self) -> int:
        return REASONING_TOKENS if self.chain_of_thought else ANSWER_TOKENS

    def items(self) -> Iterator[Item]:
        for place, row in enumerate(self.rows):
            labels = {
                "domain": row.domain,
                "sub_domain": row.sub_domain,
                "difficulty": row.difficulty,
                "document_length": row.document_length,
            }
            yield Item(f"{place} {row.id}", self.prompt(row), (row.answer,), labels)

    def prompt(self, row: Question) -> Prompt:
        """Return what the model reads first: text and question."""
        return Prompt(BEFORE, row.context, AFTER + _asked(row) + self._ending)

    def answer_prompt(self, row: Question, reasoning: str) -> Prompt:
        """Return what it reads after a chain of thought: question and reasoning, without the text."""
        return Prompt(f"{OMITTED}{_asked(row)}{STEPS} ", reasoning, CONCLUSION)

    def samples(self, length: int) -> list[Sample]:
        needed = max((prompt.halves + ANSWER_TOKENS for prompt in self._answer_prompts), default=0)
        if length < needed:
            raise ValueError(
                f"lengths must be at least {needed} tokens for {self.name}, whose questions are never cut, "
                f"got {length}; ask for longer lengths"
            )
        return super().samples(length)

    def ask(self, generate: Generate, length: int, advance: Advance = lambda tokens: None) -> list[Record]:
        """Put the samples to a model; with chain of thought twice, the second time with its reasoning for the text.

        Progress counts the first prompts only; the records' prompt hashes are theirs, too.
        """
        records = super().ask(generate, length, advance)
        if not self.chain_of_thought:
            return records
        reasoned = [index for index, record in enumerate(records) if record.error is None]
        conclude = _Conclusions(
            tokenizer=self.tokenizer,
            batch_size=self.batch_size,
            seed=self.seed,
            chat=self.chat,
            rows=self.rows,
            prepared=tuple(self._conclusion(index, records[index]) for index in reasoned),
        )
        for index, answer in zip(reasoned, conclude.ask(generate, length), strict=True):
            records[index] = replace(answer, prompt_hash=records[index].prompt_hash)
        return records

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        """Return 1 for the right letter; another one, or none, is wrong."""
        return {self.metric: float(parse_answer(predicted) in sample.references)}

    def describe(self) -> dict[str, Any]:
        described = {
            "benchmark": "LongBench v2 (arXiv 2412.15204)",
            "measurement": "generation: the letter is read from the answer; no log-likelihoods of letters",
            "scoring": "letter after `The correct answer is`; an answer without one is wrong",
            "chain_of_thought": self.chain_of_thought,
            "template": BEFORE + "{context}" + AFTER + QUESTION + self._ending,
            "chat_template": self.chat_template,
            "truncation": "middle: first and last half of the tokens",
            "samples": len(self.rows),
            "data": fingerprint(self.rows),
        }
        if self.chain_of_thought:
            described["answer_template"] = OMITTED + QUESTION + STEPS + " {reasoning}" + CONCLUSION
            described["answer_tokens"] = ANSWER_TOKENS
        return described

    @property
    def _ending(self) -> str:
        return STEPS if self.chain_of_thought else FORM

    @cached_property
    def _answer_prompts(self) -> list[EncodedPrompt]:
        """The second prompts of a chain of thought, still without reasoning."""
        if not self.chain_of_thought:
            return []
        return [encode(self.answer_prompt(row, ""), self.frame) for row in self.rows]

    def answer_ids(self, prompt: Prompt, length: int, answer_tokens: int) -> NDArray[np.int64]:
        """Return the tokens of the prompt after a chain of thought, at most `length - answer_tokens`."""
        return encode(prompt, self.frame).fit(length - answer_tokens)

    def _conclusion(self, index: int, thought: Record) -> Sample:
        prompt = self.answer_prompt(self.rows[index], thought.predicted.strip())
        ids = self.answer_ids(prompt, thought.length, ANSWER_TOKENS)
        return Sample(thought.item, ids, thought.references, {**thought.labels, "reasoning": thought.predicted})

    def _record(self, length: int, sample: Sample, tokens: list[int]) -> Record:
        record = super()._record(length, sample, tokens)
        return replace(record, labels={**record.labels, "parsed": parse_answer(record.predicted)})


@dataclass(frozen=True, kw_only=True)
class _Conclusions(LongBench2):
    """The second prompts of a chain of thought, as a task of their own."""

    prepared: tuple[Sample, ...]

    def samples(self, length: int) -> list[Sample]:
        return list(self.prepared)


def _asked(row: Question) -> str:
    choices = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, row.choices, strict=True))
    return QUESTION.format(question=row.question, choices=choices)
