"""The sections of a report, each from the numbers it is about; without numbers there is no section."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ...rope import RescaleFactors, RopeGeometry
from ..comparison.results import ResultRow
from . import tables
from .document import Entry, Picture, Section, Table, plain_row
from .figures import (
    draw_accuracy,
    draw_boxes,
    draw_lambdas,
    draw_perplexity,
    draw_positions,
    draw_search,
    draw_sensitivities,
)
from .maps import draw_correlations, draw_depth_maps, draw_grid
from .metrics import SUITES, lower_is_better, metric_label, task_title
from .numbers import (
    SearchCurve,
    box_rows,
    curve_rows,
    curves,
    depth_maps,
    depth_rows,
    grid_by_length,
    grid_by_task,
    lambda_profiles,
    loss_boxes,
    position_curves,
    position_rows,
)
from .ranking import Ranking, Records
from .relations import (
    best_variants,
    correlation_grid,
    families,
    metric_pairs,
    pair_rows,
    sensitivities,
    sensitivity_rows,
)
from .runs import Evaluation
from .verdict import verdict

LEGEND = "★ best value; ≈ not significantly worse than the best; small letters: 95 % intervals."
METHOD = (
    "Intervals are 95 % intervals over documents or samples: percentile bootstrap, Wilson for shares of right answers.",
    "All methods are scored on the same documents or samples, so they are compared by their differences on each: "
    "sign-flip permutation test, or the exact McNemar test for right and wrong answers. A difference can be "
    "significant (p below 0.05) although two intervals overlap.",
    "At each length of a table the p-values of the comparisons with the best are corrected for their number (Holm's "
    "method); lengths and tables are not corrected for each other. differences.csv has every pair of methods, with "
    "p-values before and after the correction.",
)
SEED = 0
"""Of the intervals that a report computes itself."""


def task_section(
    ranking: Ranking,
    rows: Sequence[ResultRow],
    records: Records,
    original_length: int | None,
    is_main: bool,
    note: str | None = None,
) -> Section:
    """Return the table of one task and all its figures; the verdict on the main task stands above all sections.

    The note of the task's protocol says what readers must know to read its numbers.
    """
    task, metric, longest = ranking.task, ranking.metric, max(ranking.standings)
    methods = list(dict.fromkeys(row.method for row in rows))
    shown = [tables.main_table(ranking, methods), tables.difference_table(ranking, longest)]
    shown.append(tables.consistency_table(rows, task, metric))
    behind = records.get(task, ())
    return Section(
        task_title(task),
        [LEGEND if is_main else verdict(ranking, longest), *([note] if note else [])],
        [table for table in shown if table is not None],
        [
            *_by_length(rows, task, metric, original_length),
            *_depths(behind, task, metric),
            *_losses(behind, task, longest, original_length),
        ],
    )


def suite_section(
    suite: str,
    members: Mapping[str, str],
    ranking: Ranking | None,
    rows: Sequence[ResultRow],
    records: Records,
    original_length: int | None,
) -> Section:
    """Return the means of a suite by length, and its tasks at each length."""
    lengths = sorted({row.length for row in rows if row.task in members})
    by_task = [tables.suite_table(rows, members, length, length != lengths[-1]) for length in reversed(lengths)]
    grid = grid_by_task(rows, members, lengths[-1])
    grid = grid._replace(row_labels=[name.partition("_")[2].replace("_", " ") for name in grid.row_labels])
    title = f"{SUITES[suite]} at {lengths[-1]} tokens, %"
    metric = next(iter(members.values()))
    picture = Picture(
        f"{suite}-tasks",
        f"Scores of every method on every task of {SUITES[suite]} at {lengths[-1]:,} tokens.",
        f"Heat map of tasks by method of {SUITES[suite]} at {lengths[-1]:,} tokens",
        grid.rows(),
        partial(draw_grid, grid, metric, title=title, x_label="method"),
    )
    if ranking is None:
        return Section(SUITES[suite], [], by_task, [picture])
    whole = task_section(ranking, rows, records, original_length, is_main=False)
    return Section(whole.title, whole.paragraphs, [*whole.tables, *by_task], [*whole.pictures, picture])


def rank_section(rankings: Sequence[Ranking], methods: Sequence[str]) -> Section:
    """Return the ranks of all methods over all tasks."""
    text = (
        "The best method and all that are not significantly worse share rank 1; the best of the others, and all that "
        "are not significantly worse than it, share rank 2; and so on."
    )
    return Section("Ranks over all tasks", [text], [tables.rank_table(rankings, methods)])


def lambda_section(factors: Mapping[str, RescaleFactors]) -> Section:
    """Return the rescale factors by pair and wavelength."""
    one = next(iter(factors.values()))
    profiles = lambda_profiles(factors, RopeGeometry(one.rotary_dim, one.theta, one.original_length))
    caption = (
        "Rescale factor of each dimension pair, as installed for the longest length; above, the wavelength of the pair "
        f"without any factor. Grey: pairs whose period is longer than the {one.original_length:,} tokens of training."
    )
    alt = f"Step plot of the rescale factors of {', '.join(factors)} by dimension pair"
    return Section(
        "Rescale factors", [], [], [Picture("lambdas", caption, alt, profiles.rows(), partial(draw_lambdas, profiles))]
    )


def search_section(searches: Mapping[str, SearchCurve]) -> Section:
    """Return the progress of each search."""
    caption = "{}: perplexity of the incumbent against the best seed, always on the same windows; below 0 is better."
    pictures = [
        Picture(
            "search" if len(searches) == 1 else f"search-{place}",
            caption.format(name),
            f"Line chart of the search {name}",
            curve.rows(),
            partial(draw_search, curve),
        )
        for place, (name, curve) in enumerate(searches.items(), start=1)
    ]
    return Section("Search", [], [], pictures)


def sensitivity_section(rows: Sequence[ResultRow], task: str, metric: str, length: int) -> Section | None:
    """Return what the parameters of each method do, None if no parameter was varied."""
    found = sensitivities(rows, task, metric, length)
    if not found:
        return None
    text = (
        f"{task_title(task)} at {length:,} tokens. The variance share tells how much of the differences between the "
        "variants of a method the value of one parameter explains; where a parameter took many numbers, that a smooth "
        "curve through them explains, adjusted for its degrees of freedom. The best variant was chosen on these "
        "documents, so its value is a little optimistic."
    )
    by_family = {
        family: [one for one in found if one.family == family] for family in dict.fromkeys(f.family for f in found)
    }
    pictures = [
        Picture(
            f"sensitivity-{family}",
            f"{family}: every variant by the value of each parameter, and the mean of each value or a smooth fit.",
            f"Dot plots of {metric_label(metric)} by parameter of {family}",
            sensitivity_rows(own),
            partial(draw_sensitivities, own),
        )
        for family, own in by_family.items()
    ]
    best = tables.best_table(best_variants(rows, task, metric, length))
    return Section(
        "Parameter sensitivity", [text], [best, *map(tables.sensitivity_table, by_family.values())], pictures
    )


def correlation_section(rows: Sequence[ResultRow], metrics: Mapping[str, str]) -> Section | None:
    """Return how the metrics go together, None if there are fewer than two or too few points."""
    pairs = metric_pairs(rows, metrics)
    if not any(pair.correlation for pair in pairs):
        return None
    text = (
        "Over all methods and lengths that have both. Perplexities count by their logarithm, and less of them is "
        "better, so with scores they should go in opposite directions. Points of one method or one length are not "
        "independent, so no p-values are given."
    )
    grid = correlation_grid(pairs)
    titles = [task_title(task) for task in grid.row_labels]
    picture = Picture(
        "correlations",
        "Rank correlation between the metrics.",
        "Heat map of the rank correlations between metrics",
        pair_rows(pairs),
        partial(draw_correlations, grid._replace(row_labels=titles, column_labels=titles)),
    )
    many = len(pairs) > 1
    return Section(
        "How the metrics go together", [text], [tables.correlation_table(pairs, folded=many)], [picture] if many else []
    )


def failure_section(evaluation: Evaluation) -> Section | None:
    """Return what has no score, None if everything has."""
    shown: list[Table] = []
    if evaluation.failures:
        shown.append(tables.failure_table(evaluation.failures))
    if evaluation.left_out:
        shown.append(tables.left_out_table(evaluation.left_out))
    text = "Failures are never scored: they are missing from every mean and every table above."
    title = f"Failures ({len(evaluation.failures)}) and lengths left out ({len(evaluation.left_out)})"
    return Section(title, [text], shown, folded=True) if shown else None


def provenance_section(evaluation: Evaluation, csv: str) -> Section:
    """Return where the numbers come from: model, versions, protocols, costs, which the CSV holds too."""
    found = [
        _fact_table(source, _facts(origin))
        for source, origin in zip(evaluation.sources, evaluation.provenances, strict=True)
    ]
    found += [_fact_table(f"Protocol of {task}", one) for task, one in evaluation.protocols.items()]
    if evaluation.costs:
        found.append(tables.cost_table(evaluation.costs, csv))
    return Section("Provenance: model, data, versions, protocols", [], found, folded=True)


def method_section() -> Section:
    """Return how intervals and significance came about."""
    return Section("How the methods are compared", list(METHOD), folded=True)


def all_metrics_section(rows: Sequence[ResultRow], csv: str) -> Section:
    """Return every number that was measured; the CSV holds them too."""
    lines = [
        [
            *plain_row(row.method, row.task, row.metric, f"{row.length:,}", f"{row.value:.4g}"),
            _ends(row),
            Entry(str(row.n)),
        ]
        for row in rows
    ]
    header = ["method", "task", "metric", "length", "value", "95 % interval", "n"]
    return Section("All numbers", [], [Table("Every row of results.json", header, lines, csv=csv)], folded=True)


def sweep_note(methods: Sequence[str], shown: Sequence[str], ranking_task: str, length: int) -> str:
    """Say which of many methods are compared, and what that does to their numbers."""
    return (
        f"Of {len(methods)} methods in {len(families(methods))} families the best variant of each by "
        f"{task_title(ranking_task)} at {length:,} tokens is compared: {', '.join(shown)}. They were chosen on these "
        "same documents, so their numbers are a little optimistic."
    )


def _by_length(rows: Sequence[ResultRow], task: str, metric: str, original_length: int | None) -> list[Picture]:
    found, title = curves(rows, task, metric), f"{task_title(task)} by context length"
    draw = draw_perplexity if lower_is_better(metric) else draw_accuracy
    label, grid = metric_label(metric), grid_by_length(rows, task, metric)
    if len(grid.column_labels) == 1:  # the table says it all
        return []
    return [
        Picture(
            f"{task}-by-length",
            f"{label.capitalize()} against context length, with 95 % intervals.",
            f"Line chart of {label} by context length, one line per method",
            curve_rows(found),
            lambda path: draw(found, original_length, path, title),
        ),
        Picture(
            f"{task}-map",
            f"{label.capitalize()} of every method at every length; light is good.",
            f"Heat map of {label}, methods by context length",
            grid.rows(),
            lambda path: draw_grid(grid, metric, path, f"{title}{'' if lower_is_better(metric) else ', %'}", "tokens"),
        ),
    ]


def _depths(records: Sequence[dict[str, Any]], task: str, metric: str) -> list[Picture]:
    maps = depth_maps(records, metric)
    title = f"{task_title(task)} by depth and length"
    caption = f"{metric_label(metric).capitalize()} by depth of the needle (0 % is the start) and context length."
    alt = f"Heat maps of {metric_label(metric)} by depth and context length, one per method"
    draw = partial(draw_depth_maps, maps, title=title)
    return [Picture(f"{task}-depths", caption, alt, depth_rows(maps), draw)] if maps else []


def _losses(records: Sequence[dict[str, Any]], task: str, length: int, original_length: int | None) -> list[Picture]:
    found = []
    if boxes := loss_boxes(records, length):
        title = f"{task_title(task)}: documents at {length} tokens"
        caption = f"Loss of every document at {length:,} tokens; boxes hold the middle half, the line is the median."
        alt = f"Box plots of the loss per document at {length:,} tokens, one box per method"
        found.append(
            Picture(f"{task}-documents", caption, alt, box_rows(boxes), partial(draw_boxes, boxes, title=title))
        )
    if positions := position_curves(records, length, SEED):
        title = f"Loss by position within {length} tokens"
        caption = f"Mean loss by position within documents of {length:,} tokens, with 95 % intervals over documents."
        alt = "Line chart of the loss by position, one line per method"
        draw = partial(draw_positions, positions, original_length, title=title)
        found.append(Picture(f"{task}-positions", caption, alt, position_rows(positions), draw))
    return found


def _facts(provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in provenance.items() if name not in ("protocols", "factors")
    }  # shown elsewhere


def _fact_table(caption: str, facts: Mapping[str, Any]) -> Table:
    return Table(caption, ["", "value"], [plain_row(name, _text(value)) for name, value in facts.items()], wordy=True)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_text(inner)}" for name, inner in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def _ends(row: ResultRow) -> Entry:
    return Entry("–" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}")
