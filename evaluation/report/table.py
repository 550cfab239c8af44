"""Tables in text: methods x lengths, as Markdown that is readable on a terminal too."""

from collections.abc import Sequence

from ..results import ResultRow

AS_PERCENT = {"accuracy"}
HEADLINES = {"token_weighted", "accuracy"}


def render_table(rows: Sequence[ResultRow], task: str, metric: str) -> str:
    """Return a Markdown table with one row per method and one column per length; `-` where there is no score."""
    chosen = [row for row in rows if (row.task, row.metric) == (task, metric)]
    lengths = sorted({row.length for row in chosen})
    cells = {(row.method, row.length): _cell(row) for row in chosen}
    lines = [[f"{task} ({metric})", *map(str, lengths)]]
    for method in dict.fromkeys(row.method for row in chosen):
        lines.append([method, *(cells.get((method, length), "-") for length in lengths)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "".join(_line(line, widths) for line in lines)


def render_tables(rows: Sequence[ResultRow]) -> str:
    """Return one table per task, of its headline metric; all metrics are in `results.json`."""
    kinds = dict.fromkeys((row.task, row.metric) for row in rows if row.metric in HEADLINES)
    return "\n".join(render_table(rows, task, metric) for task, metric in kinds)


def _cell(row: ResultRow) -> str:
    return f"{100 * row.value:.0f} %" if row.metric in AS_PERCENT else f"{row.value:.2f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
    return f"| {' | '.join(padded)} |\n"
