"""Which method is best on a task at a length, and whether the items that all methods were scored on prove it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..comparison.results import ResultRow
from ..comparison.statistics import SIGNIFICANCE, PairedDifference, holm, paired_differences
from .metrics import SUITES, better, lower_is_better, suite_of

Records = Mapping[str, Sequence[dict[str, Any]]]
Items = dict[tuple[Any, ...], tuple[float, float]]
"""Score and weight of each document or sample."""
AGREEMENT = 1e-6
"""Records prove a row if they give its value to this relative accuracy."""


class Contrast(NamedTuple):
    """Two methods at one length; differences are in nats per token for perplexities, in shares for scores."""

    length: int
    first: str
    second: str
    difference: PairedDifference
    p: float | None = None
    """Corrected p-value; None where nothing can be tested, or where neither method was the best of its step."""

    @property
    def significant(self) -> bool:
        """Whether the difference is proven."""
        return self.p is not None and self.p < SIGNIFICANCE


class Standing(NamedTuple):
    """Where a method stands among all at one length."""

    row: ResultRow
    rank: int | None
    """1 for the best and all that are not significantly worse; the next number for the best of those that are, and all
    not significantly worse than it; and so on. None if nothing was tested."""
    best: bool
    """Whether it has the best value."""


@dataclass(frozen=True)
class Ranking:
    """All methods on the headline metric of one task."""

    task: str
    metric: str
    standings: dict[int, list[Standing]]
    """By length, the best value first."""
    contrasts: list[Contrast]
    """Every pair of methods at every length, of those whose rows the records prove."""

    def contrast(self, length: int, first: str, second: str) -> Contrast | None:
        """Return the comparison of two methods, in this order; None if it was not tested."""
        for one in self.contrasts:
            if one.length == length and {one.first, one.second} == {first, second}:
                return one if one.first == first else _turned(one)
        return None

    def standing(self, length: int, method: str) -> Standing | None:
        """Return where a method stands at a length, None if it has no score there."""
        return next((one for one in self.standings.get(length, []) if one.row.method == method), None)


class Consistency(NamedTuple):
    """How evenly a method does over the lengths."""

    method: str
    mean: float
    """Over the lengths: geometric mean of perplexities, mean of shares."""
    worst: float
    worst_length: int
    spread: float
    """Highest over lowest perplexity; highest minus lowest share."""


def rank(rows: Sequence[ResultRow], records: Records, task: str, metric: str, seed: int) -> Ranking:
    """Return the ranking of one task.

    Args:
        rows: of any tasks and metrics.
        records: by task: one dict per document or sample, with its `method` and `length`.
        task: name of the task, or of a suite, whose mean is proven by the samples of all members.
        metric: the metric to rank by.
        seed: of the resampling.
    """
    chosen = [row for row in rows if (row.task, row.metric) == (task, metric)]
    lengths = sorted({row.length for row in chosen})
    standings: dict[int, list[Standing]] = {}
    contrasts: list[Contrast] = []
    for length in lengths:
        ordered = [row for row in chosen if row.length == length]
        ordered.sort(key=lambda row: row.value, reverse=not lower_is_better(metric))
        pairs = list(_pairs(length, scored(ordered, rows, records), seed))
        ranks, corrected = _ranked([row.method for row in ordered], pairs)
        standings[length] = [Standing(row, ranks.get(row.method), row.value == ordered[0].value) for row in ordered]
        contrasts += corrected
    return Ranking(task, metric, standings, contrasts)


def scored(chosen: Sequence[ResultRow], rows: Sequence[ResultRow], records: Records) -> dict[str, Items]:
    """Return the items behind each of some rows of one task and length, by method, of those that are proven by them.

    Args:
        chosen: rows of one task, metric and length.
        rows: of any tasks, for the members of a suite.
        records: by task.
    """
    first = {row.task: row.metric for row in reversed(rows)}
    heads = [row for row in rows if row.metric == first[row.task]]
    own: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for task, of_task in records.items():
        for record in of_task:
            own.setdefault(record["method"], {}).setdefault(task, []).append(record)
    return {row.method: found for row in chosen if (found := items(own.get(row.method, {}), heads, row))}


def compare_with(first: str, behind: Mapping[str, Items], length: int, seed: int) -> list[Contrast]:
    """Compare one method with each of the others, p-values corrected for their number (Holm).

    Args:
        first: name of the method.
        behind: items by method; those that all methods have are compared.
        length: at which they were scored, in tokens.
        seed: of the resampling.

    Returns:
        One contrast per other method, `first` first; none where there is no such item, or no other method.
    """
    names = [first, *(name for name in behind if name != first)]
    shared = [item for item in behind.get(first, {}) if all(item in found for found in behind.values())]
    if not shared or len(names) < 2:
        return []
    scores, weights = _matrix(names, shared, behind)
    found = paired_differences(scores, seed, weights, against=0)
    p_values: Sequence[float | None] = [one.p for one in found]
    if all(p is not None for p in p_values):
        p_values = holm([p for p in p_values if p is not None])
    return [Contrast(length, first, names[d.second], d, p) for d, p in zip(found, p_values, strict=True)]


def consistency(rows: Sequence[ResultRow], task: str, metric: str) -> list[Consistency]:
    """Return how evenly each method does, of the methods that have a score at every length of the task."""
    chosen = [row for row in rows if (row.task, row.metric) == (task, metric)]
    lengths = {row.length for row in chosen}
    found = []
    for method in dict.fromkeys(row.method for row in chosen):
        own = [row for row in chosen if row.method == method]
        if len(own) < len(lengths) or len(lengths) < 2:
            continue
        values = [row.value for row in own]
        worst = next(row for row in own if not any(better(metric, row.value, other) for other in values))
        ratio = lower_is_better(metric)
        mean = math.exp(float(np.mean(np.log(values)))) if ratio else float(np.mean(values))
        spread = max(values) / min(values) if ratio else max(values) - min(values)
        found.append(Consistency(method, mean, worst.value, worst.length, spread))
    return found


def items(records: Records, rows: Sequence[ResultRow], row: ResultRow) -> Items:
    """Return score and weight of each document or sample behind a row, empty if they don't give its value.

    Documents: nats per token, weighted as the metric says; samples: the score, all alike; of the mean of a suite: the
    samples of all members, so that each member has the same weight.
    """
    found = _task_items(records.get(row.task, ()), row)
    if row.task in SUITES:
        for member in rows:
            if suite_of(member.task) == row.task and (member.method, member.length) == (row.method, row.length):
                own = items(records, rows, member)
                found |= {(member.task, *item): (score, 1 / len(own)) for item, (score, _) in own.items()}
    return found if _proves(found, row) else {}


def _task_items(records: Sequence[dict[str, Any]], row: ResultRow) -> Items:
    found: Items = {}
    for record in records:
        if record["method"] != row.method or record["length"] != row.length or record.get("error") is not None:
            continue
        if row.metric in (scores := record.get("scores", {})):
            found[record["item"], record.get("prompt_hash")] = (float(scores[row.metric]), 1.0)
        elif lower_is_better(row.metric) and "document" in record and record.get("kind") is None and record["tokens"]:
            weight = 1.0 if row.metric == "document_weighted" else float(record["tokens"])
            found[record["document"], record["tokens"]] = (record["nats"] / record["tokens"], weight)
    return found


def _proves(found: Items, row: ResultRow) -> bool:
    if not found:
        return False
    values, weights = np.array(list(found.values())).T
    mean = float(values @ weights / weights.sum())
    return math.isclose(math.exp(mean) if lower_is_better(row.metric) else mean, row.value, rel_tol=AGREEMENT)


def _pairs(length: int, behind: Mapping[str, Items], seed: int) -> Iterator[Contrast]:
    """Yield the uncorrected comparisons at one length, on the items that all methods were scored on."""
    if len(behind) < 2:
        return
    names = list(behind)
    shared = [item for item in behind[names[0]] if all(item in found for found in behind.values())]
    if not shared:
        return
    scores, weights = _matrix(names, shared, behind)
    for one in paired_differences(scores, seed, weights):
        yield Contrast(length, names[one.first], names[one.second], one)


def _matrix(
    names: Sequence[str], shared: Sequence[tuple[Any, ...]], behind: Mapping[str, Items]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scores of shared items, shape (methods, items), and the weights of the items."""
    scores = np.array([[behind[name][item][0] for item in shared] for name in names])
    return scores, np.array([behind[names[0]][item][1] for item in shared])


def _ranked(ordered: Sequence[str], pairs: Sequence[Contrast]) -> tuple[dict[str, int], list[Contrast]]:
    """Rank the methods of one length step by step: who is not significantly worse than the best left shares its rank.

    In each step the comparisons with the best are one family for the correction.
    """
    found = {frozenset((one.first, one.second)): one for one in pairs}
    tested = set().union(*(pair for pair, one in found.items() if one.difference.p is not None))
    left = [method for method in ordered if method in tested]
    ranks: dict[str, int] = {}
    step = 0
    while left:
        step += 1
        family = [frozenset((left[0], other)) for other in left[1:]]
        p_values = holm([found[pair].difference.p or 0.0 for pair in family])
        found |= {pair: found[pair]._replace(p=p) for pair, p in zip(family, p_values, strict=True)}
        worse = [other for other, pair in zip(left[1:], family, strict=True) if found[pair].significant]
        ranks |= {method: step for method in left if method not in worse}
        left = worse
    return ranks, list(found.values())


def _turned(one: Contrast) -> Contrast:
    d = one.difference
    low, high = (None, None) if d.low is None or d.high is None else (-d.high, -d.low)
    turned = PairedDifference(d.second, d.first, -d.value, low, high, d.p, d.n)
    return Contrast(one.length, one.second, one.first, turned, one.p)
