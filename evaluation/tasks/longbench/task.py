"""What LongBench v1 and v2 share as tasks: chat template, middle truncation, scores by kind of document."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel

from ...scoring.estimates import Estimate, mean_score
from ..base import Advance, Cell, Measurement
from ..prompted import PromptedTask, Sample
from .registry import Prompt
from .truncation import EncodedPrompt, encode


def mean_by(records: Iterable[Mapping[str, Any]], label: str, metric: str, seed: int = 0) -> dict[str, Estimate]:
    """Return the mean score per value of a label, in the order of the values; failed records don't count.

    Args:
        records: as `Record.to_dict` gives them.
        label: e.g. `bucket` (v1), `difficulty` or `document_length` (v2).
        metric: e.g. `f1`.
        seed: of the bootstrap.
    """
    groups: dict[str, list[float]] = {}
    for record in records:
        if record["error"] is None:
            groups.setdefault(str(record[label]), []).append(record["scores"][metric])
    return {value: mean_score(groups[value], seed) for value in sorted(groups)}


@dataclass(frozen=True)
class Item:
    """One prompt as text, and what its sample carries."""

    name: str
    prompt: Prompt
    references: tuple[str, ...]
    labels: Mapping[str, Any]

    def sample(self, prompt: EncodedPrompt, room: int) -> Sample:
        """Return the sample whose prompt has at most `room` tokens."""
        labels = {**self.labels, "prompt_tokens": len(prompt.ids), "cut": len(prompt.ids) > room}
        return Sample(self.name, prompt.fit(room), self.references, labels)


@dataclass(frozen=True, kw_only=True)
class LongBenchTask(PromptedTask):
    """Base of v1 and v2: prompts of given documents, cut in the middle where they are too long."""

    @property
    @abstractmethod
    def metric(self) -> str:
        """Name of the score."""

    @property
    @abstractmethod
    def split_by(self) -> tuple[str, ...]:
        """Labels whose values get a score of their own, e.g. `difficulty`."""

    @abstractmethod
    def items(self) -> Iterable[Item]:
        """Return what is asked, whole."""

    def samples(self, length: int) -> list[Sample]:
        room = length - self.max_new_tokens
        needed = max(min(len(prompt.ids), prompt.halves) for _, prompt in self.encoded)
        if room < needed:
            raise ValueError(
                f"lengths must be at least {needed + self.max_new_tokens} tokens for {self.name}, whose questions are "
                f"never cut, got {length}; ask for longer lengths"
            )
        return [item.sample(prompt, room) for item, prompt in self.encoded]

    @cached_property
    def encoded(self) -> list[tuple[Item, EncodedPrompt]]:
        """Every item with its whole prompt in tokens."""
        return [(item, encode(item.prompt, self.frame)) for item in self.items()]

    @property
    def chat_template(self) -> Any:
        """What the protocol says of the chat template: False, or its texts."""
        return self.frame.describe() if self.frame.is_chat else False

    def run(self, model: PreTrainedModel, lengths: Sequence[int], advance: Advance) -> Cell:
        cell = super().run(model, lengths, advance)
        for length in lengths:
            records = [record for record in cell.records if record["length"] == length]
            for label in self.split_by:
                for value, estimate in mean_by(records, label, self.metric, self.seed).items():
                    cell.measurements.append(Measurement(f"{self.metric}_{value}", length, estimate))
        return cell
