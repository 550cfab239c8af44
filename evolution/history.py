"""The scores of a search, one per line of `history.jsonl`.

A unit (candidates scored at once on one document) that a killed run left unfinished is dropped with all its rows: a
model may round differently in a smaller batch, and a resumed run has to give the same numbers as one never stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ..rope.lines import from_line
from ..rope.parsing import check_types
from .space import Genome
from .strategies import Gradient


@dataclass(frozen=True)
class HistoryRow:
    """One candidate scored on one document."""

    generation: int
    """Generation that asked first for this score, from 0."""
    origin: str
    """Where the candidate came from: `seed:yarn`, `mutation`, ..."""
    steps: tuple[int, ...]
    """Rescale factors in grid steps, length P."""
    start_tokens: int
    """n_hat in tokens."""
    document: int
    """Index of the search document."""
    nats: float | None
    """Summed loss in nats; None if the score failed."""
    tokens: int
    """Tokens the loss is summed over; 0 if the score failed."""
    forwarded: int
    """Tokens sent through the model for it."""
    error: str | None
    """Why the score failed, None if it did not; `record.ASKED_AGAIN` takes a failure back."""
    seconds: float
    """Wall time of the unit where it was scored, divided by its candidates."""
    rows_left: int
    """Rows of the same unit that follow; 0 ends it."""
    attention: int | None = None
    """Attention factor in grid steps; None where a policy fixes it."""
    critical_dimension: int | None = None
    """Pair below which the factors follow NTK; None where all are free."""
    differentiated: bool = False
    """Whether derivatives were asked for, too."""
    gradient: Gradient | None = None
    """The derivatives; None if they were not asked for or the score failed."""

    @property
    def key(self) -> "ScoreKey":
        """What was asked for."""
        return self.genome, self.document, self.differentiated

    @cached_property
    def genome(self) -> Genome:
        """The candidate."""
        return Genome(self.steps, self.start_tokens, self.attention, self.critical_dimension)


ScoreKey = tuple[Genome, int, bool]
"""A candidate, a document, and whether derivatives are wanted, too."""


class History(NamedTuple):
    """The entries of a history that are complete."""

    rows: list[HistoryRow]
    """Every whole line up to the end, in order."""
    end: int
    """Length in bytes of the file up to the end of the last finished unit."""
    num_damaged: int
    """Lines before it that can't be read or have another checksum; their scores are lost."""
    num_unchecked: int
    """Lines before it without a checksum, as earlier versions wrote them."""


def read_history(path: Path) -> History:
    """Read the scores of a search up to the last unit that was finished."""
    rows: list[HistoryRow] = []
    num_rows = num_lines = end = position = unchecked = num_unchecked = 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True) if path.exists() else [], start=1):
        position += len(line)
        row, checked = _parse_row(line)
        if row is not None:
            rows.append(row)
            unchecked += not checked
            if row.rows_left == 0:
                num_rows, num_lines, num_unchecked, end = len(rows), number, unchecked, position
    return History(rows[:num_rows], end, num_lines - num_rows, num_unchecked)


def _parse_row(line: bytes) -> tuple[HistoryRow | None, bool]:
    """Return the row of a line, None if the line is damaged, and whether it has a checksum."""
    try:
        payload, checked = from_line(line)
        check_types(HistoryRow, payload)
        payload["steps"] = tuple(payload["steps"])
        if payload.get("gradient") is not None:
            payload["gradient"] = Gradient.from_dict(payload["gradient"])
        return HistoryRow(**payload), checked
    except (ValueError, TypeError, KeyError):
        return None, False


def last_rows(rows: Sequence[HistoryRow]) -> list[HistoryRow]:
    """Return the scores of the last generation, which are not the last in the file where lost ones were made again."""
    last = max((row.generation for row in rows), default=0)
    return [row for row in rows if row.generation == last]
