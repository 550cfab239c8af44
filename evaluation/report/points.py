"""The configurations of a sweep: ranked, summed up by method, and the one of each method that goes into the test."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..comparison.results import ResultRow
from ..comparison.statistics import SIGNIFICANCE
from .metrics import better, lower_is_better
from .numbers import Box, Rows, comparable, measured
from .ranking import Items, Records, compare_with, scored
from .relations import best_variants, families, parse_spec


class Point(NamedTuple):
    """One configuration of a sweep and how it did."""

    method: str
    """Name of the method without parameters."""
    spec: str
    """Text that `build_method` reads."""
    value: float
    low: float | None
    high: float | None
    n: int
    """Documents or samples."""
    rank: int
    """Place among the points of the same method, 1 the best; equal values share a place."""
    p: float | None
    """Corrected p-value of the difference from the best of the same method; None for the best itself, or untestable."""
    tied: bool
    """Whether the items do not prove it worse than the best of the same method."""
    place: int
    """Place among all points."""
    place_p: float | None
    """Corrected p-value of the difference from the best of all; None for the best itself, or untestable."""


class Summary(NamedTuple):
    """The configurations of one method on one metric at one length, in one line."""

    method: str
    variants: int
    """Configurations with a score."""
    mean: float
    """Geometric mean of perplexities, mean of shares."""
    best: float
    worst: float
    deviation: float | None
    """Standard deviation over the configurations, of the logarithm of perplexities; None for a single one."""


def rank_points(
    rows: Sequence[ResultRow], records: Records, task: str, metric: str, length: int, seed: int
) -> list[Point]:
    """Return the configurations with a score by method, the best first; methods in the order of the rows.

    Each is compared with the best of its method, and with the best of all, on the same items; p-values are corrected
    for the number of comparisons. But the best was picked on these items too, so its lead is real only on others.

    Args:
        rows: of any tasks and metrics; one configuration is one method.
        records: by task: one dict per document or sample.
        task: the task to rank by.
        metric: its metric.
        length: the length to rank at, in tokens.
        seed: of the resampling.
    """
    chosen = [row for row in rows if (row.task, row.metric, row.length) == (task, metric, length)]
    chosen.sort(key=lambda row: row.value, reverse=not lower_is_better(metric))
    behind = scored(chosen, rows, records)
    of_all = _against_first(chosen, behind, length, seed)
    points: list[Point] = []
    for method in families([row.method for row in rows]):
        alike = [row for row in chosen if parse_spec(row.method)[0] == method]
        of_method = _against_first(alike, behind, length, seed)
        for row in alike:
            p = of_method.get(row.method)
            tied = p is None or p >= SIGNIFICANCE
            places = (_place(row, alike), p, tied, _place(row, chosen), of_all.get(row.method))
            points.append(Point(method, row.method, row.value, row.low, row.high, row.n, *places))
    return points


def summaries(rows: Sequence[ResultRow], task: str, metric: str, length: int) -> list[Summary]:
    """Return what the configurations of each method reach, the best mean first."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        if (row.task, row.metric, row.length) == (task, metric, length):
            groups.setdefault(parse_spec(row.method)[0], []).append(row.value)
    found = []
    for method, values in groups.items():
        even = [comparable(metric, value) for value in values]
        ends = sorted(values, reverse=not lower_is_better(metric))
        deviation = float(np.std(even, ddof=1)) if len(even) > 1 else None
        mean = measured(metric, float(np.mean(even)))
        found.append(Summary(method, len(values), mean, ends[0], ends[-1], deviation))
    return sorted(found, key=lambda one: one.mean, reverse=not lower_is_better(metric))


def finalists(
    rows: Sequence[ResultRow], task: str, metric: str, length: int, ranked_by: tuple[str, str]
) -> list[ResultRow]:
    """Return the best configuration of each method, the best of all first.

    Of equal ones, as pass keys have many, that which is better by the metric of the ranking at the same length.

    Args:
        rows: of the documents that choose.
        task: the task to choose by.
        metric: its metric.
        length: the length to choose at, in tokens.
        ranked_by: task and metric of the ranking.
    """
    seconds = {row.method: row.value for row in rows if (row.task, row.metric, row.length) == (*ranked_by, length)}

    def key(row: ResultRow) -> tuple[float, float]:
        second = seconds.get(row.method)
        return _cost(metric, row.value), math.inf if second is None else _cost(ranked_by[1], second)

    best = best_variants(sorted(rows, key=key), task, metric, length)
    return sorted(best.values(), key=key)


def value_boxes(rows: Sequence[ResultRow], task: str, metric: str, length: int) -> list[Box]:
    """Return what the configurations of each method reach at a length, methods as `summaries` has them."""
    chosen = [row for row in rows if (row.task, row.metric, row.length) == (task, metric, length)]
    own = {
        one.method: [r for r in chosen if parse_spec(r.method)[0] == one.method]
        for one in summaries(chosen, task, metric, length)
    }
    return [Box(name, [r.method for r in of], np.array([r.value for r in of])) for name, of in own.items()]


def best_by_length(rows: Sequence[ResultRow], task: str, metric: str) -> list[ResultRow]:
    """Return the best value of each method at each length, whichever configuration has it, under the method's name."""
    lengths = sorted({row.length for row in rows if (row.task, row.metric) == (task, metric)})
    return [
        replace(row, method=method)
        for length in lengths
        for method, row in best_variants(rows, task, metric, length).items()
    ]


def middle_by_length(rows: Sequence[ResultRow], task: str, metric: str) -> list[ResultRow]:
    """Return the median configuration of each method at each length, between the quartiles of the configurations."""
    groups: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if (row.task, row.metric) == (task, metric):
            groups.setdefault((parse_spec(row.method)[0], row.length), []).append(row.value)
    return [
        ResultRow(method, task, metric, length, float(middle), float(low), float(high), len(values))
        for (method, length), values in groups.items()
        for low, middle, high in [np.quantile(values, [0.25, 0.5, 0.75])]
    ]


def method_rows(rows: Sequence[ResultRow], points: Sequence[Point]) -> dict[str, Rows]:
    """Return by method one line per configuration: parameters, every number by task, metric and length, and ranks."""
    numbers: dict[str, dict[str, float]] = {}
    for row in rows:
        numbers.setdefault(row.method, {})[f"{row.task} {row.metric} {row.length}"] = row.value
    columns = list(dict.fromkeys(name for own in numbers.values() for name in own))
    ranks = {point.spec: point for point in points}
    tables: dict[str, Rows] = {}
    for method, specs in families(list(numbers)).items():
        parameters = list(dict.fromkeys(name for spec in specs for name in parse_spec(spec)[1]))
        tables[method] = [
            {"spec": spec}
            | {name: parse_spec(spec)[1].get(name) for name in parameters}
            | {name: numbers[spec].get(name) for name in columns}
            | {"rank": ranks[spec].rank if spec in ranks else None, "p": ranks[spec].p if spec in ranks else None}
            for spec in specs
        ]
    return tables


def _against_first(
    ordered: Sequence[ResultRow], behind: Mapping[str, Items], length: int, seed: int
) -> dict[str, float | None]:
    """Return the corrected p-value of each row's difference from the first, of those that can be tested."""
    known = {row.method: behind[row.method] for row in ordered if row.method in behind}
    if not ordered or ordered[0].method not in known:
        return {}
    return {one.second: one.p for one in compare_with(ordered[0].method, known, length, seed)}


def _cost(metric: str, value: float) -> float:
    return value if lower_is_better(metric) else -value


def _place(row: ResultRow, among: Sequence[ResultRow]) -> int:
    return 1 + sum(better(row.metric, other.value, row.value) for other in among)
