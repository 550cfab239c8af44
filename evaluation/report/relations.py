"""How numbers go together: metrics over methods and lengths, and parameters of a method with what it reaches."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ..comparison.results import ResultRow
from ..comparison.statistics import Correlation, correlation, smooth_fit, variance_share
from .metrics import better
from .numbers import Array, Grid, Rows, comparable, measured

DEFAULT = "default"
"""Level of a parameter that a method specification leaves out."""
LEFT_OUT, NUMBER, WORD = range(3)
"""Kinds of levels."""
MAX_LEVELS = 8
"""Numbers that are compared one by one; more of them are points on an axis, with a smooth fit."""
LOGARITHMIC_FROM = 8
"""Greatest over least number from which that axis is logarithmic."""
GRID_POINTS = 101
"""Places at which a smooth fit is drawn."""


class MetricPair(NamedTuple):
    """Two tasks, each by its headline metric, over the methods and lengths that have both."""

    first: str
    second: str
    correlation: Correlation | None


class Trend(NamedTuple):
    """A smooth fit of a metric against a parameter of many numbers, over the variants that do not leave it out."""

    numbers: Array
    """Of each variant, shape (N,)."""
    reached: Array
    """Shape (N,)."""
    grid: Array
    """Numbers between the least and the greatest, evenly spaced on the axis, shape (G,)."""
    curve: Array
    """What the fit says there, shape (G,)."""
    logarithmic: bool
    """Whether the axis of the parameter is."""


class Sensitivity(NamedTuple):
    """What one parameter of a method does to one metric at one length, over the variants that were measured."""

    family: str
    parameter: str
    task: str
    metric: str
    length: int
    levels: list[str]
    """Of each variant, in the order of the values; numbers in ascending order."""
    values: list[float]
    share: float | None
    """Share of the variance between variants that the means of the levels explain, or the trend where there is one, on
    the log scale for perplexities; None if it can't be told."""
    trend: Trend | None = None
    """Where the levels are more than `MAX_LEVELS` numbers, as in random sweeps."""

    @property
    def means(self) -> dict[str, float]:
        """Mean over the variants of each level, geometric for perplexities."""
        groups = {level: [] for level in dict.fromkeys(self.levels)}
        for level, value in zip(self.levels, self.values, strict=True):
            groups[level].append(comparable(self.metric, value))
        return {level: measured(self.metric, float(np.mean(group))) for level, group in groups.items()}

    @property
    def effects(self) -> dict[str, float]:
        """What each level does on average: the means, or points of the trend."""
        if self.trend is None:
            return self.means
        return {f"{x:.3g}": y for x, y in zip(self.trend.grid.tolist(), self.trend.curve.tolist(), strict=True)}

    @property
    def best_level(self) -> str:
        """Level of the best effect."""
        effects = self.effects
        return next(x for x in effects if not any(better(self.metric, y, effects[x]) for y in effects.values()))

    @property
    def variants(self) -> int:
        """Number of variants behind the share."""
        return len(self.values if self.trend is None else self.trend.numbers)

    @property
    def described_levels(self) -> str:
        """The levels in words."""
        if self.trend is None:
            return ", ".join(self.means)
        numbers = self.trend.numbers
        return f"{numbers.min():.3g} to {numbers.max():.3g}, {len(set(numbers.tolist()))} numbers"


def metric_pairs(rows: Sequence[ResultRow], metrics: Mapping[str, str]) -> list[MetricPair]:
    """Return the correlations between the headline metrics of tasks; perplexities count by their logarithm."""
    values: dict[str, dict[tuple[str, int], float]] = {task: {} for task in metrics}
    for row in rows:
        if metrics.get(row.task) == row.metric:
            values[row.task][row.method, row.length] = comparable(row.metric, row.value)
    pairs = []
    for first, second in combinations(metrics, 2):
        shared = [place for place in values[first] if place in values[second]]
        x, y = ([values[task][place] for place in shared] for task in (first, second))
        pairs.append(MetricPair(first, second, correlation(x, y)))
    return pairs


def correlation_grid(pairs: Sequence[MetricPair]) -> Grid:
    """Return Spearman's correlations as a symmetric grid."""
    tasks = list(dict.fromkeys(task for pair in pairs for task in (pair.first, pair.second)))
    values = np.full((len(tasks), len(tasks)), np.nan)
    np.fill_diagonal(values, 1.0)
    for pair in pairs:
        i, j = tasks.index(pair.first), tasks.index(pair.second)
        values[i, j] = values[j, i] = np.nan if pair.correlation is None else pair.correlation.spearman
    return Grid(tasks, tasks, values)


def pair_rows(pairs: Sequence[MetricPair]) -> Rows:
    """Return one line per pair of metrics."""
    empty = dict.fromkeys(Correlation._fields)
    return [
        {"first": one.first, "second": one.second} | (one.correlation._asdict() if one.correlation else empty)
        for one in pairs
    ]


def parse_spec(method: str) -> tuple[str, dict[str, str]]:
    """Split a method specification: `yarn:beta_fast=16,beta_slow=2` into its family and parameters."""
    family, _, text = method.partition(":")
    parts = (part.partition("=") for part in text.split(",") if part)
    return family, {key: value for key, _, value in parts}


def families(methods: Sequence[str]) -> dict[str, list[str]]:
    """Return the variants of each family, in order."""
    found: dict[str, list[str]] = {}
    for method in methods:
        found.setdefault(parse_spec(method)[0], []).append(method)
    return found


def sensitivities(rows: Sequence[ResultRow], task: str, metric: str, length: int) -> list[Sensitivity]:
    """Return every parameter of which at least two levels were measured, by method family."""
    values = {r.method: r.value for r in rows if (r.task, r.metric, r.length) == (task, metric, length)}
    found = []
    for family, variants in families(list(values)).items():
        specs = {variant: parse_spec(variant)[1] for variant in variants}
        for parameter in dict.fromkeys(name for spec in specs.values() for name in spec):
            levels = {variant: spec.get(parameter, DEFAULT) for variant, spec in specs.items()}
            if len(set(levels.values())) < 2:
                continue
            ordered = sorted(variants, key=lambda variant: _level_key(levels[variant]))
            at, reached = [levels[v] for v in ordered], [values[v] for v in ordered]
            found.append(_sensitivity(Sensitivity(family, parameter, task, metric, length, at, reached, None)))
    return found


def _sensitivity(one: Sensitivity) -> Sensitivity:
    """Return it with its share of the variance, and with its trend if its levels are many numbers."""
    compared = [comparable(one.metric, value) for value in one.values]
    points = [(float(x), y) for x, y in zip(one.levels, compared, strict=True) if _level_key(x)[0] == NUMBER]
    numbers = [x for x, _ in points]
    if len(set(numbers)) <= MAX_LEVELS or {_level_key(level)[0] for level in one.levels} - {NUMBER, LEFT_OUT}:
        return one._replace(share=variance_share(one.levels, compared))
    low, high = min(numbers), max(numbers)
    logarithmic = low > 0 and high >= LOGARITHMIC_FROM * low
    scaled = np.log(numbers) if logarithmic else np.array(numbers)
    fit = smooth_fit(scaled.tolist(), [y for _, y in points])
    places = np.linspace(scaled.min(), scaled.max(), GRID_POINTS)
    trend = Trend(
        np.array(numbers),
        np.array([measured(one.metric, y) for _, y in points]),
        np.exp(places) if logarithmic else places,
        np.array([measured(one.metric, y) for y in fit.curve(places).tolist()]),
        logarithmic,
    )
    return one._replace(share=fit.share, trend=trend)


def sensitivity_rows(found: Sequence[Sensitivity]) -> Rows:
    """Return one line per parameter and variant."""
    return [
        {"family": one.family, "parameter": one.parameter, "level": level, one.metric: value, "length": one.length}
        for one in found
        for level, value in zip(one.levels, one.values, strict=True)
    ]


def best_variants(rows: Sequence[ResultRow], task: str, metric: str, length: int) -> dict[str, ResultRow]:
    """Return the best variant of each family of methods."""
    best: dict[str, ResultRow] = {}
    for row in rows:
        if (row.task, row.metric, row.length) == (task, metric, length):
            family = parse_spec(row.method)[0]
            if family not in best or better(metric, row.value, best[family].value):
                best[family] = row
    return best


def _level_key(level: str) -> tuple[int, float, str]:
    """Return what levels are sorted by: left out, then numbers, then words."""
    try:
        return (NUMBER, float(level), "")
    except ValueError:
        return (LEFT_OUT if level == DEFAULT else WORD, 0.0, level)
