"""What a task is to the comparison: it measures an installed model at some lengths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from transformers import PreTrainedModel

from ..scoring.estimates import Estimate

FAILURE_LIMIT = 0.1
"""Largest share of failed documents or samples of a cell; above it the cell fails as a whole."""

Advance = Callable[[int], object]
"""Called with the number of tokens just processed."""


class Measurement(NamedTuple):
    """One number of one cell."""

    metric: str
    length: int
    estimate: Estimate


class Failure(NamedTuple):
    """A document or sample that has no score, and why."""

    length: int
    item: str
    error: str


@dataclass
class Cell:
    """What one method did on one task at some lengths."""

    measurements: list[Measurement] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    """One JSON-able entry per document or sample: what the measurements were computed from."""
    failures: list[Failure] = field(default_factory=list)


class Task(Protocol):
    """A task of the comparison; one frozen dataclass each."""

    name: ClassVar[str]
    """What the task is called in every row; a property where one class stands for many tasks."""
    one_forward: ClassVar[bool]
    """Whether all lengths come out of the forward at the longest one (static factors only)."""

    def protocol(self) -> dict[str, Any]:
        """Return everything that decides the numbers, JSON-able: prompts, windows, seeds, data fingerprint."""
        ...

    def check(self, model: PreTrainedModel, lengths: Sequence[int]) -> None:
        """Raise ValueError if the model can't be measured at these lengths, before anything runs.

        The comparison asks for each length alone, and leaves out those that are refused.
        """
        ...

    def tokens(self, lengths: Sequence[int]) -> int:
        """Return the tokens one cell of these lengths has to process, for the progress bar."""
        ...

    def run(self, model: PreTrainedModel, lengths: Sequence[int], advance: Advance) -> Cell:
        """Measure the model as it is."""
        ...


def check_failures(failures: Sequence[Failure], items: int) -> None:
    """Refuse to average what is left when too much has failed.

    Raises:
        RuntimeError: more than `FAILURE_LIMIT` of the items failed.
    """
    if len(failures) > FAILURE_LIMIT * items:
        raise RuntimeError(f"{len(failures)} of {items} failed, first: {failures[0].item}: {failures[0].error}")
