"""The sections of a sweep: the choice and its test, the top ten, and all configurations by method."""

from collections.abc import Mapping, Sequence
from functools import partial

from ..comparison.results import ResultRow
from ..comparison.statistics import SIGNIFICANCE
from .advice import Advice, advice_table
from .document import Entry, Picture, Section, Table, plain_row
from .figures import draw_accuracy, draw_boxes, draw_perplexity
from .maps import draw_grid
from .metrics import format_interval, format_value, lower_is_better, metric_label, task_title
from .numbers import box_rows, curve_rows, curves, grid_by_length
from .points import Point, best_by_length, middle_by_length, summaries, value_boxes
from .verdict import p_text

TOP = 10
"""Configurations that are listed over all methods."""
CHOICE = (
    "The best of hundreds of configurations is partly lucky on the documents that chose it, so each method's best was "
    "measured again on other documents and prompts, which chose nothing. There the best of all is compared with the "
    "best of each other method, on the same items; p-values are corrected for these comparisons (Holm's method). It is "
    "called a clear winner only if it is significantly better than every one of them.",
    "★ clear winner; ≈ chosen, but no clear winner; small letters: 95 % intervals.",
)
SUMMARY = (
    "Mean, best and worst over the configurations of each method, on the documents that choose; in small letters the "
    "rank of the method by that column. {} The more configurations a method has, the better its best by luck alone."
)
GEOMETRIC = "Means of perplexities are geometric, and the deviation is that of their logarithm, in per cent."
ARITHMETIC = "Deviations are in points of per cent."


def choice_section(main: Advice, advices: Sequence[Advice]) -> Section:
    """Return the test of every choice, that of the ranking unfolded."""
    return Section("What to take, by length", list(CHOICE), [advice_table(one, one is not main) for one in advices])


def top_section(
    points: Sequence[Point], rows: Sequence[ResultRow], metrics: Mapping[str, str], task: str, metric: str, length: int
) -> Section:
    """Return the best configurations over all methods, with what they reach on the other tasks at the same length."""
    others = {one: of for one, of in metrics.items() if one != task}
    values = {
        (row.method, row.task): format_value(row.metric, row.value)
        for row in rows
        if row.length == length and others.get(row.task) == row.metric
    }
    lines = []
    for point in sorted(points, key=lambda one: one.place)[:TOP]:
        row = ResultRow(point.spec, task, metric, length, point.value, point.low, point.high, point.n)
        proven = point.place_p is not None and point.place_p < SIGNIFICANCE
        mark = "best" if point.place == 1 else "" if proven or point.place_p is None else "tie"
        value = Entry(format_value(metric, point.value), format_interval(row), mark)
        p = "–" if point.place_p is None else p_text(point.place_p)
        reached = [values.get((point.spec, other), "–") for other in others]
        lines.append([Entry(point.spec), Entry(str(point.place)), value, *plain_row(*reached, p)])
    header = ["configuration", "place", task_title(task), *map(task_title, others), "p against the first"]
    text = (
        f"By {metric_label(metric)} at {length:,} tokens, on the documents that choose: their values are "
        f"optimistic. p-values are corrected for all {len(points) - 1} comparisons with the first; ≈ not significantly "
        "worse than it."
    )
    caption = f"The best {min(TOP, len(points))} of {len(points)} configurations"
    return Section("Top ten configurations over all methods", [text], [Table(caption, header, lines)])


def task_section(
    rows: Sequence[ResultRow], task: str, metric: str, lengths: Sequence[int], original_length: int | None
) -> Section:
    """Return what the configurations of each method reach on one task.

    Args:
        rows: of every configuration.
        task: name of the task.
        metric: its metric.
        lengths: at which it was measured, the longest first; the others are folded.
        original_length: context length of the pre-training, in tokens.
    """
    text = SUMMARY.format(GEOMETRIC if lower_is_better(metric) else ARITHMETIC)
    found = [summary_table(rows, task, metric, length, length != lengths[0]) for length in lengths]
    pictures = [_boxes(rows, task, metric, lengths[0])]
    if len(lengths) > 1:
        pictures += _by_length(rows, task, metric, original_length)
    return Section(f"{task_title(task)} over all configurations", [text], found, pictures)


def summary_table(rows: Sequence[ResultRow], task: str, metric: str, length: int, folded: bool) -> Table:
    """Return the methods by their mean over configurations, with their ranks by best, worst and deviation, too."""
    found = summaries(rows, task, metric, length)
    sign = 1 if lower_is_better(metric) else -1
    deviations = [one.deviation for one in found if one.deviation is not None]
    lines = []
    for one in found:
        cells = [
            _ranked(format_value(metric, value), sign * value, [sign * getattr(other, name) for other in found])
            for name, value in (("mean", one.mean), ("best", one.best), ("worst", one.worst))
        ]
        spread = Entry("–")
        if one.deviation is not None:
            spread = _ranked(_percent(metric, one.deviation), one.deviation, deviations)
        lines.append([Entry(one.method), *cells, spread, Entry(str(one.variants))])
    caption = f"{task_title(task)} at {length:,} tokens, over the configurations of each method"
    header = ["method", "mean", "best", "worst", "standard deviation", "configurations"]
    return Table(caption, header, lines, folded=folded)


def _ranked(text: str, value: float, values: Sequence[float]) -> Entry:
    rank = 1 + sum(other < value for other in values)
    return Entry(text, f"rank {rank}", "best" if rank == 1 else "")


def _percent(metric: str, deviation: float) -> str:
    return f"{100 * deviation:.1f} {'%' if lower_is_better(metric) else 'points'}"


def _boxes(rows: Sequence[ResultRow], task: str, metric: str, length: int) -> Picture:
    boxes, label = value_boxes(rows, task, metric, length), metric_label(metric)
    title = f"{task_title(task)}: configurations at {length} tokens"
    return Picture(
        f"{task}-boxes",
        f"Every configuration of each method at {length:,} tokens; boxes hold the middle half, the line is the median.",
        f"Box plots of {label} over the configurations of each method at {length:,} tokens",
        box_rows(boxes, "configuration", metric),
        partial(draw_boxes, boxes, title=title, metric=metric),
    )


def _by_length(rows: Sequence[ResultRow], task: str, metric: str, original_length: int | None) -> list[Picture]:
    grid, label = grid_by_length(best_by_length(rows, task, metric), task, metric), metric_label(metric)
    found, title = curves(middle_by_length(rows, task, metric), task, metric), f"{task_title(task)} by context length"
    draw = draw_perplexity if lower_is_better(metric) else draw_accuracy
    unit = "" if lower_is_better(metric) else ", %"
    return [
        Picture(
            f"{task}-best-map",
            f"Best {label} of each method at every length, whichever configuration has it; light is good.",
            f"Heat map of the best {label}, methods by context length",
            grid.rows(),
            lambda path: draw_grid(grid, metric, path, f"{task_title(task)}: each method at its best{unit}", "tokens"),
        ),
        Picture(
            f"{task}-by-length",
            "Median configuration of each method against context length; bands hold the middle half of them.",
            f"Line chart of the median {label} by context length, one line per method",
            curve_rows(found),
            lambda path: draw(found, original_length, path, title),
        ),
    ]
