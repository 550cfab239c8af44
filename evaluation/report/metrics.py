"""What readers must know about a metric: its name, its direction, how its values are written, and its suite."""

from collections.abc import Sequence

from ..comparison.results import ResultRow

LOWER_IS_BETTER = frozenset({"token_weighted", "document_weighted", "window_weighted", "longppl"})
"""Beside everything with `perplexity` in its name; of all other metrics, shares from 0 to 1, more is better."""
SUITES = {
    "ruler": "RULER",
    "official_ruler": "Official RULER",
    "longbench": "LongBench",
    "official_longbench": "Official LongBench",
}
"""Tasks `NAME_x` that are reported together, with the rows of a task `NAME` for their averages."""
TASKS = {
    "perplexity": "Perplexity",
    "perplexity_sliding": "Sliding-window perplexity",
    "longppl": "LongPPL",
    "passkey": "Pass key retrieval",
    "official_passkey": "Official pass key retrieval",
    "passkey_hard": "Hard pass key retrieval",
    "niah": "Needle in a haystack",
    "niah_multi": "Several needles in a haystack",
    "nolima": "NoLiMa-style needles",
    "official_nolima": "Official NoLiMa",
    "longbench2": "LongBench v2",
    "longbench2_cot": "LongBench v2 with chain of thought",
    **SUITES,
}
METRICS = {
    "token_weighted": "perplexity",
    "document_weighted": "perplexity, all documents alike",
    "window_weighted": "perplexity, all windows alike",
    "longppl": "LongPPL",
    "mean": "mean score",
}


def task_title(task: str) -> str:
    """Return the name of a task for headings."""
    return TASKS.get(task, task.replace("_", " ").capitalize())


def metric_label(metric: str) -> str:
    """Return the name of a metric for axes and sentences."""
    return METRICS.get(metric, metric.replace("_", " "))


def measure(task: str, metric: str) -> str:
    """Return what is measured, for sentences: `perplexity`, `LongPPL`, `accuracy on pass key retrieval`."""
    title = task_title(task)
    title = title.lower() if title[1:].islower() else title
    return title if lower_is_better(metric) else f"{metric_label(metric)} on {title}"


def lower_is_better(metric: str) -> bool:
    """Tell the direction of a metric."""
    return metric in LOWER_IS_BETTER or "perplexity" in metric


def better(metric: str, first: float, second: float) -> bool:
    """Tell whether the first value is strictly better."""
    return first < second if lower_is_better(metric) else first > second


def format_value(metric: str, value: float) -> str:
    """Write a perplexity with three or four digits, a share as per cent."""
    if lower_is_better(metric):
        return f"{value:.2f}" if value < 100 else f"{value:,.0f}"
    return f"{100 * value:.0f} %" if metric == "accuracy" else f"{100 * value:.1f} %"


def format_interval(row: ResultRow) -> str:
    """Write the 95 % interval of a row, empty if it has none."""
    if row.low is None or row.high is None:
        return ""
    low, high = format_value(row.metric, row.low), format_value(row.metric, row.high)
    return f"{low.removesuffix(' %')} to {high}"


def suite_of(task: str) -> str | None:
    """Return the suite that a task is a member of, if any."""
    return next((suite for suite in SUITES if task.startswith(f"{suite}_")), None)


def headlines(rows: Sequence[ResultRow]) -> dict[str, str]:
    """Return the headline metric, the first one, of each task in order; members of a suite are not among them.

    Example: perplexity and pass key -> `{"perplexity": "token_weighted", "passkey": "accuracy"}`.
    """
    return {task: metric for task, metric in _first_metrics(rows).items() if suite_of(task) is None}


def suites(rows: Sequence[ResultRow]) -> dict[str, dict[str, str]]:
    """Return the headline metric of each member of each suite that has any."""
    found: dict[str, dict[str, str]] = {}
    for task, metric in _first_metrics(rows).items():
        if suite := suite_of(task):
            found.setdefault(suite, {})[task] = metric
    return found


def _first_metrics(rows: Sequence[ResultRow]) -> dict[str, str]:
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(row.task, row.metric)
    return first
