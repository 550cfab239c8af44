"""RULER's summary: the mean of its tasks, with and without `cwe`, by category, and the effective length.

Tasks made here and tasks of an official checkout have means of their own: `ruler` and `official_ruler`.
"""

import math
from collections.abc import Sequence

from ..tasks.ruler.official import PREFIX
from ..tasks.ruler.tasks import RULER
from .results import ResultRow

TASK = "ruler"
THRESHOLD = 0.856
"""Mean score of Llama-2-7B at its 4096 tokens, by which RULER calls a length effective (arXiv 2404.06654)."""
CATEGORIES = dict.fromkeys(task.category for task in RULER.values())
GROUPS: dict[str, list[str]] = {
    "mean": list(RULER),
    "mean_without_cwe": [name for name in RULER if name != "ruler_cwe"],
    **{category: [name for name, task in RULER.items() if task.category == category] for category in CATEGORIES},
}
"""Means and the tasks that each is taken over; `cwe` collapses first, so the mean without it is worth a look."""


def ruler_means(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Return the means over tasks, each task alike, by method and length.

    A mean over fewer tasks than its group has says so in its name, e.g. `mean_of_11`: it compares with no other mean
    than that of the same tasks. Intervals add those of the tasks in squares, on either side (MOVER, Zou and Donner
    2008); `n` counts the samples of all tasks.

    Args:
        rows: rows of any tasks; those of RULER's own metrics are used.
    """
    cells: dict[tuple[str, str, int], dict[str, ResultRow]] = {}
    for row in rows:
        name = row.task.removeprefix(PREFIX)
        if name in RULER and row.metric == RULER[name].metric:
            cells.setdefault((row.method, row.task.removesuffix(name) + TASK, row.length), {})[name] = row
    means: list[ResultRow] = []
    for (method, suite, length), cell in cells.items():
        for metric, tasks in GROUPS.items():
            if present := [cell[task] for task in tasks if task in cell]:
                name = metric if len(present) == len(tasks) else f"{metric}_of_{len(present)}"
                means.append(_mean(method, suite, name, length, present))
    return means


def effective_lengths(
    rows: Sequence[ResultRow], metric: str = "mean", threshold: float = THRESHOLD, task: str = TASK
) -> dict[str, int | None]:
    """Return for each method the longest length at which its mean reaches the threshold, None if there is none.

    Args:
        rows: rows of `ruler_means`.
        metric: which mean; by default that of all thirteen tasks.
        threshold: mean score, 0 to 1.
        task: `ruler`, or `official_ruler` for the tasks of an official checkout.
    """
    means = [row for row in rows if row.task == task and row.metric == metric]
    reached = {
        row.method: [m.length for m in means if m.method == row.method and m.value >= threshold] for row in means
    }
    return {method: max(lengths, default=None) for method, lengths in reached.items()}


def _mean(method: str, suite: str, metric: str, length: int, rows: Sequence[ResultRow]) -> ResultRow:
    value = sum(row.value for row in rows) / len(rows)
    below = [row.value - row.low for row in rows if row.low is not None]
    above = [row.high - row.value for row in rows if row.high is not None]
    low = max(0.0, value - math.hypot(*below) / len(rows)) if len(below) == len(rows) else None
    high = min(1.0, value + math.hypot(*above) / len(rows)) if len(above) == len(rows) else None
    return ResultRow(method, suite, metric, length, value, low, high, sum(row.n for row in rows))
