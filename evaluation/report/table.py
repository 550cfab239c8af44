"""Tables in text: Markdown that is readable on a terminal too."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..comparison.results import ResultRow
from .metrics import format_value, headlines, suites


def render_table(rows: Sequence[ResultRow], task: str, metric: str) -> str:
    """Return a Markdown table with one row per method and one column per length; `-` where there is no score."""
    chosen = [row for row in rows if (row.task, row.metric) == (task, metric)]
    lengths = sorted({row.length for row in chosen})
    cells = {(row.method, row.length): format_value(metric, row.value) for row in chosen}
    lines = [
        [method, *(cells.get((method, length), "-") for length in lengths)]
        for method in dict.fromkeys(row.method for row in chosen)
    ]
    return markdown([f"{task} ({metric})", *map(str, lengths)], lines)


def render_tables(rows: Sequence[ResultRow], protocols: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one table per task, of its headline metric, and one per suite and length; `results.json` has all.

    Args:
        rows: what was measured.
        protocols: by task, as provenance has them; the `note` of a protocol stands below the table.
    """
    tables = []
    for task, metric in headlines(rows).items():
        note = protocols.get(task, {}).get("note")
        tables.append(render_table(rows, task, metric) + (f"\n{note}\n" if note else ""))
    for suite, members in suites(rows).items():
        lengths = sorted({row.length for row in rows if row.task in members})
        tables += [_render_suite(rows, suite, members, length) for length in lengths]
    return "\n".join(tables)


def _render_suite(rows: Sequence[ResultRow], suite: str, members: Mapping[str, str], length: int) -> str:
    """Return a table with one row per task and one column per method."""
    chosen = [row for row in rows if row.length == length and members.get(row.task) == row.metric]
    methods = list(dict.fromkeys(row.method for row in chosen))
    cells = {(row.task, row.method): format_value(row.metric, row.value) for row in chosen}
    lines = [[task, *(cells.get((task, method), "-") for method in methods)] for task in members]
    return markdown([f"{suite} at {length}", *methods], lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned Markdown table: the first column to the left, numbers to the right."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
    return f"| {' | '.join(padded)} |\n"
