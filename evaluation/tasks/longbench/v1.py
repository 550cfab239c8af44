"""LongBench v1 (arXiv 2308.14508): one task per dataset, with its official answer length, metric and truncation.

The official scripts end answers to `samsum` at the first line break; here they go on, and only their first line is
scored, as there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...data.chat import Frame, frame
from ..prompted import Sample
from .data import Row, fingerprint
from .metrics import first_line
from .registry import Dataset
from .task import Item, LongBenchTask

BUCKETS = ((4000, "0-4k"), (8000, "4-8k"))


def length_bucket(words: int) -> str:
    """Return LongBench-E's name for a document length: `0-4k`, `4-8k` or `8k+` words."""
    return next((name for limit, name in BUCKETS if words < limit), "8k+")


@dataclass(frozen=True, kw_only=True)
class LongBench(LongBenchTask):
    """One dataset of LongBench v1; of LongBench-E with a score for each bucket of document lengths."""

    dataset: Dataset
    rows: tuple[Row, ...]
    extended: bool = False
    """Whether the rows are LongBench-E's."""

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Name in results, e.g. `longbench_qasper`."""
        return f"longbench_{self.dataset.name}" + ("_e" if self.extended else "")

    @property
    def metric(self) -> str:
        return self.dataset.metric.name

    @property
    def split_by(self) -> tuple[str, ...]:
        return ("bucket",) if self.extended else ()

    @property
    def max_new_tokens(self) -> int:
        return self.dataset.max_new_tokens

    @cached_property
    def frame(self) -> Frame:
        """What stands around every prompt; no chat template where the prompt is to be continued, as officially.

        Raises:
            ValueError: a chat template is asked for, and there is none that can be used.
        """
        return frame(self.tokenizer, self.chat and self.dataset.chat)

    def items(self) -> Iterator[Item]:
        for place, row in enumerate(self.rows):
            labels = {"language": row.language, "document_words": row.words, "bucket": length_bucket(row.words)}
            yield Item(f"{place} {row.id}", self.dataset.prompt(row.context, row.input), row.answers, labels)

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        """Return the highest score over the references."""
        scored = first_line(predicted) if self.dataset.first_line else predicted
        return {self.metric: self.dataset.metric.best(scored, sample.references, self.rows[0].classes)}

    def describe(self) -> dict[str, Any]:
        return {
            "benchmark": "LongBench v1 (arXiv 2308.14508)" + (", LongBench-E" if self.extended else ""),
            "dataset": self.dataset.name,
            "group": self.dataset.group,
            "measurement": "generation",
            "scoring": f"{self.dataset.metric.rule}; highest over the references",
            "scored_text": "first line" if self.dataset.first_line else "whole answer",
            "template": self.dataset.template,
            "chat_template": self.chat_template,
            "truncation": "middle: first and last half of the tokens",
            "samples": len(self.rows),
            "data": fingerprint(self.rows),
        }
