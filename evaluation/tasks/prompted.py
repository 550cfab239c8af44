"""Tasks that put prompts to a model and score its answers: pass key, needles, RULER, LongBench.

A task makes samples and scores answers; how the model is asked, batched and recorded is the same for all of them.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.chat import Frame, frame
from ..data.tokenized import tokenizer_fingerprint
from ..scoring.batching import Batcher
from ..scoring.estimates import mean_score
from ..scoring.generation import NOT_FINITE, Generate, end_tokens, greedy
from .base import Advance, Cell, Failure, Measurement, check_failures


@dataclass(frozen=True, eq=False)
class Sample:
    """One prompt and what its answer is judged by."""

    item: str
    """Name of the sample among those of its length, e.g. `depth 0.5 trial 2`."""
    ids: NDArray[np.int64]
    """Prompt with its leading special tokens, shape (T,)."""
    references: tuple[str, ...]
    """Right answers."""
    labels: Mapping[str, Any]
    """JSON-able facts that the records keep, e.g. depth and trial."""

    @property
    def prompt_hash(self) -> str:
        """Sha256 of the prompt's token ids."""
        return hashlib.sha256(self.ids.astype("<i8").tobytes()).hexdigest()


@dataclass(frozen=True)
class Record:
    """What a model answered to one sample; `cells.jsonl` keeps it."""

    length: int
    item: str
    prompt_hash: str
    references: tuple[str, ...]
    predicted: str
    """The text of the answer, as decoded."""
    scores: Mapping[str, float]
    """Metric to value from 0 to 1; empty if there is no answer."""
    error: str | None
    """Why there is no answer; such a sample counts neither as right nor as wrong."""
    labels: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return a flat JSON-able dict: the labels stand beside the fields."""
        fields = {name: value for name, value in vars(self).items() if name != "labels"}
        return {**self.labels, **fields, "references": list(self.references), "scores": dict(self.scores)}


@dataclass(frozen=True)
class PromptedTask(ABC):
    """Base of the tasks; a subclass is a frozen dataclass with a name, samples and a score.

    Prompt and answer together have at most the length asked for; prompts are never cut by the machinery below.
    """

    name: ClassVar[str]
    one_forward: ClassVar[bool] = False

    tokenizer: PreTrainedTokenizerBase
    batch_size: int = 1
    """Prompts per forward; prompts of different lengths never share one, so that none is padded."""
    seed: int = 0
    """Seed of the samples and of the bootstrap."""
    chat: bool = field(default=False, kw_only=True)
    """Whether prompts are messages in the tokenizer's chat template; the stem of an answer follows them."""

    @cached_property
    def frame(self) -> Frame:
        """What stands around every prompt.

        Raises:
            ValueError: a chat template is asked for, and there is none that can be used.
        """
        return frame(self.tokenizer, self.chat)

    @property
    @abstractmethod
    def max_new_tokens(self) -> int:
        """Tokens the model may answer with."""

    @property
    def min_new_tokens(self) -> int:
        """Tokens of an answer that can't be its end."""
        return 0

    def ends(self, model: PreTrainedModel) -> frozenset[int]:
        """Return the tokens that end an answer."""
        return end_tokens(model, self.tokenizer)

    @abstractmethod
    def samples(self, length: int) -> list[Sample]:
        """Return the prompts of one length, in tokens, prompt and answer together; the same on every call.

        Raises:
            ValueError: the length has no room for the question, or the data is too short.
        """

    @abstractmethod
    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        """Return metric to value, each from 0 to 1, the headline metric first."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what decides samples and scores beside tokenizer, decoding and seed, JSON-able."""

    def protocol(self) -> dict[str, Any]:
        return {
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "max_new_tokens": self.max_new_tokens,
            "length": "prompt and answer together",
            "decoding": "greedy",
            "interval": "95 %, Wilson for shares, percentile bootstrap over samples otherwise",
            "seed": self.seed,
            **self.describe(),
        }

    def check(self, model: PreTrainedModel, lengths: Sequence[int]) -> None:
        for length in {min(lengths), max(lengths)}:
            self.samples(length)

    def tokens(self, lengths: Sequence[int]) -> int:
        return sum(len(sample.ids) + self.max_new_tokens for length in lengths for sample in self.samples(length))

    def run(self, model: PreTrainedModel, lengths: Sequence[int], advance: Advance) -> Cell:
        ends, least = self.ends(model), self.min_new_tokens
        cell = Cell()
        for length in lengths:
            records = self.ask(lambda ids, n: greedy(model, ids, n, ends, least), length, advance)
            failures = [Failure(length, record.item, record.error) for record in records if record.error is not None]
            check_failures(failures, len(records))
            cell.failures += failures
            scored = [record.scores for record in records if record.error is None]
            for metric in scored[0]:
                estimate = mean_score([scores[metric] for scores in scored], self.seed)
                cell.measurements.append(Measurement(metric, length, estimate))
            cell.records += [record.to_dict() for record in records]
        return cell

    def ask(self, generate: Generate, length: int, advance: Advance = lambda tokens: None) -> list[Record]:
        """Put the samples of one length to a model and read its answers, in the order of the samples."""
        samples = self.samples(length)

        def answer(batch: Sequence[int]) -> list[Record]:
            ids = torch.from_numpy(np.stack([samples[index].ids for index in batch]))
            tokens = generate(ids, self.max_new_tokens)
            advance(len(batch) * (ids.shape[1] + self.max_new_tokens))
            return [
                self._record(length, samples[index], row.tolist()) for index, row in zip(batch, tokens, strict=True)
            ]

        order = sorted(range(len(samples)), key=lambda index: (len(samples[index].ids), index))
        records: dict[int, Record] = {}
        batcher = Batcher(self.batch_size)
        for _, group in groupby(order, key=lambda index: len(samples[index].ids)):
            alike = list(group)
            records.update(zip(alike, batcher.map(answer, alike), strict=True))
        return [records[index] for index in range(len(samples))]

    def _record(self, length: int, sample: Sample, tokens: list[int]) -> Record:
        error = "logits are not finite" if NOT_FINITE in tokens else None
        predicted = "" if error else str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        scores = {} if error else self.score(predicted, sample)
        return Record(
            length, sample.item, sample.prompt_hash, sample.references, predicted, scores, error, sample.labels
        )
