"""How numbers go together: metrics over methods and lengths, and parameters of a method with what it reaches."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ..results import ResultRow
from ..statistics import Correlation, correlation, variance_share
from .metrics import better, lower_is_better
from .numbers import Grid, Rows, comparable

DEFAULT = "default"
"""Level of a parameter that a method specification leaves out."""


class MetricPair(NamedTuple):
    """Two tasks, each by its headline metric, over the methods and lengths that have both."""

    first: str
    second: str
    correlation: Correlation | None


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
    """Share of the variance between variants that the means of the levels explain, on the log scale for perplexities;
    None if it can't be told."""

    @property
    def means(self) -> dict[str, float]:
        """Mean over the variants of each level, geometric for perplexities."""
        groups = {level: [] for level in dict.fromkeys(self.levels)}
        for level, value in zip(self.levels, self.values, strict=True):
            groups[level].append(comparable(self.metric, value))
        means = {level: float(np.mean(group)) for level, group in groups.items()}
        return {level: float(np.exp(mean)) if lower_is_better(self.metric) else mean for level, mean in means.items()}

    @property
    def best_level(self) -> str:
        """Level of the best mean."""
        means = self.means
        return next(one for one in means if not any(better(self.metric, other, means[one]) for other in means.values()))


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
            share = variance_share(at, [comparable(metric, value) for value in reached])
            found.append(Sensitivity(family, parameter, task, metric, length, at, reached, share))
    return found


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
    try:
        return (1, float(level), "")
    except ValueError:
        return (0 if level == DEFAULT else 2, 0.0, level)
