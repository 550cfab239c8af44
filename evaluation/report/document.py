"""What a report consists of, before it is written as HTML or Markdown."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .numbers import Rows

Mark = Literal["", "best", "tie"]
"""Best value; not significantly worse than the best."""


class Entry(NamedTuple):
    """One cell of a table."""

    text: str
    note: str = ""
    """In small letters below: an interval, a p-value."""
    mark: Mark = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows."""

    caption: str
    header: list[str]
    rows: list[list[Entry]]
    folded: bool = False
    """Shown after a click only."""
    wordy: bool = False
    """Cells hold text that wraps instead of numbers."""
    csv: str | None = None
    """File of the report that holds all its numbers, without suffix; Markdown shows the first rows only."""


@dataclass(frozen=True)
class Picture:
    """A figure, its numbers, and what it says to those who don't see it."""

    name: str
    """What tells it from the other pictures of the report."""
    caption: str
    alt: str
    rows: Rows
    draw: Callable[[Path], Any]
    """Writes PNG and SVG of a path."""

    @property
    def file(self) -> str:
        """Name of its files, without suffix."""
        return re.sub(r"[^\w-]+", "-", self.name).strip("-")


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, tables and pictures, in this order."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    folded: bool = False


@dataclass(frozen=True)
class Part:
    """Everything about one model under one protocol."""

    title: str
    facts: str
    """Model, lengths and data in one line."""
    verdict: str
    findings: list[str]
    """The verdict for each further length and task, one sentence each."""
    sections: list[Section]


@dataclass(frozen=True)
class Report:
    """Parts that don't compare with each other, and the numbers behind them by file name, which may name a folder."""

    parts: list[Part]
    csv: dict[str, Rows]


def plain_row(*texts: Any) -> list[Entry]:
    """Return a row of plain cells."""
    return [Entry(str(text)) for text in texts]
