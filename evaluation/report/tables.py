"""The tables of a report, from rankings and rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..comparison.results import LeftOut, ResultRow
from .document import Entry, Mark, Table, plain_row
from .metrics import format_interval, format_value, lower_is_better, measure, task_title
from .numbers import Rows
from .ranking import Contrast, Ranking, Standing, consistency
from .relations import MetricPair, Sensitivity
from .verdict import difference_text, p_text

NO_SCORE = Entry("–")
MAX_FAILURES = 100
"""Failures that are listed; the others are counted."""


def main_table(ranking: Ranking, methods: Sequence[str]) -> Table:
    """Return methods x lengths with intervals; the best is marked, and what is not significantly worse."""
    lengths = list(ranking.standings)
    shown = [m for m in methods if any(ranking.standing(length, m) for length in lengths)]
    rows = [[Entry(method), *(_entry(ranking.standing(length, method)) for length in lengths)] for method in shown]
    measured = measure(ranking.task, ranking.metric)
    caption = f"{measured[0].upper()}{measured[1:]} by context length, tokens"
    return Table(caption, ["method", *(f"{length:,}" for length in lengths)], rows)


def difference_table(ranking: Ranking, length: int) -> Table | None:
    """Return how much every method differs from the best at a length, None if nothing was tested."""
    standings = ranking.standings[length]
    best = standings[0].row.method
    rows = []
    for standing in standings[1:]:
        contrast = ranking.contrast(length, standing.row.method, best)
        if contrast is not None:
            value, interval = difference_text(ranking.metric, contrast)
            p = "–" if contrast.p is None else p_text(contrast.p)
            rank = "–" if standing.rank is None else str(standing.rank)
            rows.append(
                [Entry(standing.row.method), Entry(value, interval), *plain_row(p, rank, contrast.difference.n)]
            )
    caption = f"Difference to {best} at {length:,} tokens, on the same documents or samples"
    return Table(caption, ["method", "difference", "p", "rank", "n"], rows, folded=True) if rows else None


def rank_table(rankings: Sequence[Ranking], methods: Sequence[str]) -> Table:
    """Return the rank of each method on each task at the longest length of the task."""
    rows = []
    for method in methods:
        standings = [ranking.standing(max(ranking.standings), method) for ranking in rankings]
        rows.append([Entry(method), *(_rank_entry(standing) for standing in standings)])
    header = [f"{task_title(ranking.task)}, {max(ranking.standings):,}" for ranking in rankings]
    return Table("Rank by task, at the longest length in tokens; value below", ["method", *header], rows)


def consistency_table(rows: Sequence[ResultRow], task: str, metric: str) -> Table | None:
    """Return how evenly each method does over the lengths, None if there is only one."""
    found = consistency(rows, task, metric)
    if not found:
        return None
    ratio = lower_is_better(metric)
    lines = [
        plain_row(
            one.method,
            format_value(metric, one.mean),
            f"{format_value(metric, one.worst)} at {one.worst_length:,}",
            f"{one.spread:.2f} times" if ratio else f"{100 * one.spread:.1f} points",
        )
        for one in found
    ]
    meaning = "highest over lowest" if ratio else "highest minus lowest"
    caption = f"{task_title(task)} over the lengths: mean, worst, and spread ({meaning})"
    return Table(caption, ["method", "mean", "worst", "spread"], lines, folded=True)


def suite_table(rows: Sequence[ResultRow], members: Mapping[str, str], length: int, folded: bool) -> Table:
    """Return the scores of the members of a suite at one length, tasks down and methods across, the best marked."""
    chosen = [row for row in rows if row.length == length and members.get(row.task) == row.metric]
    methods = list(dict.fromkeys(row.method for row in chosen))
    cells = {(row.task, row.method): row for row in chosen}
    lines = []
    for task in members:
        own = [cells[task, method] for method in methods if (task, method) in cells]
        top = max((row.value for row in own), default=0.0)
        entries = [
            _plain_entry(cells[task, method], top) if (task, method) in cells else NO_SCORE for method in methods
        ]
        lines.append([Entry(task.partition("_")[2].replace("_", " ")), *entries])
    return Table(f"Tasks at {length:,} tokens, %", ["task", *methods], lines, folded)


def sensitivity_table(found: Sequence[Sensitivity]) -> Table:
    """Return what each parameter of one method does."""
    lines = []
    for one in found:
        effects = one.effects.values()
        low, high = min(effects), max(effects)
        share = "–" if one.share is None else f"{one.share:.0%}"
        spread = f"{format_value(one.metric, low)} to {format_value(one.metric, high)}"
        lines.append(plain_row(one.parameter, one.described_levels, spread, one.best_level, share, one.variants))
    header = ["parameter", "values", "means or fit", "best value", "variance share", "variants"]
    return Table(f"{found[0].family}: what its parameters do at {found[0].length:,} tokens", header, lines)


def best_table(best: Mapping[str, ResultRow]) -> Table:
    """Return the best variant of each family."""
    lines = [
        [Entry(family), Entry(format_value(row.metric, row.value), format_interval(row)), Entry(row.method)]
        for family, row in best.items()
    ]
    return Table("Each method at its best", ["method", "value", "variant"], lines)


def correlation_table(pairs: Sequence[MetricPair], folded: bool) -> Table:
    """Return both correlations of every pair of metrics."""
    lines = [
        plain_row(
            f"{task_title(pair.first)}, {task_title(pair.second)}",
            *(f"{pair.correlation.spearman:.2f}", f"{pair.correlation.pearson:.2f}", pair.correlation.n)
            if pair.correlation
            else "–––",
        )
        for pair in pairs
    ]
    return Table("Correlations", ["metrics", "Spearman", "Pearson", "n"], lines, folded)


def failure_table(failures: Sequence[Mapping[str, Any]]) -> Table:
    """Return what has no score, and why."""
    names = ("method", "task", "length", "item", "error")
    lines = [plain_row(*(failure.get(name, "") for name in names)) for failure in failures[:MAX_FAILURES]]
    more = "" if len(failures) <= MAX_FAILURES else f"; the first {MAX_FAILURES} of {len(failures)}"
    return Table(f"Failures{more}", list(names), lines, wordy=True)


def left_out_table(left_out: Sequence[LeftOut]) -> Table:
    """Return the lengths that a task has no room in."""
    return Table("Left out", ["task", "length", "reason"], [plain_row(*entry) for entry in left_out], wordy=True)


def cost_rows(costs: Sequence[Mapping[str, Any]]) -> Rows:
    """Return what each finished cell took, as a CSV holds it."""
    return [{**cost, "lengths": " ".join(map(str, cost["lengths"]))} for cost in costs]


def cost_table(costs: Sequence[Mapping[str, Any]], csv: str) -> Table:
    """Return seconds, speed and peak memory by task and method, over all lengths; the CSV has them by cell."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cost in costs:
        groups.setdefault((cost["task"], cost["method"]), []).append(cost)
    lines = []
    for (task, method), own in groups.items():
        seconds, tokens = sum(cost["seconds"] for cost in own), sum(cost["tokens"] for cost in own)
        peaks = [cost["peak_memory_bytes"] for cost in own if cost["peak_memory_bytes"] is not None]
        peak = f"{max(peaks) / 2**30:.2f}" if peaks else "–"
        speed = f"{tokens / seconds:,.0f}" if seconds else "–"
        lines.append(plain_row(task, method, f"{seconds:,.1f}", f"{tokens:,}", speed, peak))
    header = ["task", "method", "seconds", "tokens", "tokens per second", "peak memory, GiB"]
    return Table("What it took", header, lines, csv=csv)


def contrast_rows(rankings: Sequence[Ranking]) -> Rows:
    """Return every comparison of two methods, as a CSV holds it."""
    return [_contrast_row(ranking, contrast) for ranking in rankings for contrast in ranking.contrasts]


def _contrast_row(ranking: Ranking, contrast: Contrast) -> dict[str, Any]:
    d = contrast.difference
    place = {"task": ranking.task, "metric": ranking.metric, "length": contrast.length}
    names = {"first": contrast.first, "second": contrast.second}
    return (
        place | names | {"difference": d.value, "low": d.low, "high": d.high, "p": d.p, "p_holm": contrast.p, "n": d.n}
    )


def _entry(standing: Standing | None) -> Entry:
    if standing is None:
        return NO_SCORE
    return Entry(format_value(standing.row.metric, standing.row.value), _ends(standing.row), _mark(standing))


def _rank_entry(standing: Standing | None) -> Entry:
    if standing is None:
        return NO_SCORE
    text = "–" if standing.rank is None else str(standing.rank)
    value = format_value(standing.row.metric, standing.row.value)
    return Entry(text, value, _mark(standing))


def _mark(standing: Standing) -> Mark:
    worthless = not lower_is_better(standing.row.metric) and standing.row.value == 0
    return "" if worthless else "best" if standing.best else "tie" if standing.rank == 1 else ""


def _plain_entry(row: ResultRow, top: float) -> Entry:
    value = format_value(row.metric, row.value).removesuffix(" %")
    return Entry(value, _ends(row), "best" if row.value == top > 0 else "")


def _ends(row: ResultRow) -> str:
    return format_interval(row).replace(" to ", "–").removesuffix(" %")
