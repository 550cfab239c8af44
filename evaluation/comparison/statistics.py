"""Paired comparisons of methods and relations between numbers; the unit of resampling is the document or sample.

Comparisons are paired, because all methods see the same documents: intervals may overlap although every document agrees
on which method is better.
"""

from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..scoring.estimates import CONFIDENCE, RESAMPLES

SIGNIFICANCE = 0.05
"""A difference is called significant if its corrected p-value is below this."""
FIT_DEGREE = 3
"""Of the polynomial of a smooth fit."""
BATCH = 500
"""Resamples of many pairs at a time, so that they fit into memory."""


class PairedDifference(NamedTuple):
    """Weighted mean over items of what method `first` scored minus what method `second` scored on the same item."""

    first: int
    second: int
    """Rows of the two methods in the scores that were compared."""
    value: float
    low: float | None
    """Lower end of the 95 % bootstrap interval over items; None where there is too little to tell."""
    high: float | None
    p: float | None
    """Two-sided p-value of no difference, not corrected; None for fewer than two items."""
    n: int
    """Items both were scored on."""


class Correlation(NamedTuple):
    """How two metrics go together over the same n points."""

    pearson: float
    spearman: float
    n: int


class SmoothFit(NamedTuple):
    """A smooth curve through scattered points."""

    curve: np.polynomial.Polynomial
    share: float | None
    """Share of the variance that the curve explains, adjusted for its degrees of freedom; None if all are equal."""


def paired_differences(
    scores: NDArray[np.float64],
    seed: int,
    weights: NDArray[np.float64] | None = None,
    against: int | None = None,
) -> list[PairedDifference]:
    """Compare every pair of methods on the items that all of them were scored on.

    The null hypothesis is that the sign of each item's difference is random: sign-flip permutation test (exact where
    there are at most `RESAMPLES` flips); on right and wrong answers it is the exact McNemar test, a binomial test.

    Args:
        scores: shape (methods, items).
        seed: of the resampling.
        weights: of the items, shape (items,), the same for all methods, e.g. their tokens; None: all alike.
        against: compare this method alone with each of the others; None: every pair.

    Raises:
        ValueError: there are no items.
    """
    num_items = scores.shape[1]
    if num_items == 0:
        raise ValueError("paired differences need at least one item that all methods were scored on, got none")
    rows = range(len(scores))
    pairs = list(combinations(rows, 2)) if against is None else [(against, row) for row in rows if row != against]
    if not pairs:
        return []
    weights = np.ones(num_items) if weights is None else np.asarray(weights, float)
    first, second = np.array(pairs).T
    differences = scores[first] - scores[second]
    values = differences @ weights / weights.sum()
    if num_items == 1:
        return [
            PairedDifference(*pair, float(value), None, None, None, 1)
            for pair, value in zip(pairs, values, strict=True)
        ]
    lows, highs = _difference_intervals(differences, weights, seed)
    binary = bool(np.isin(scores, (0, 1)).all()) and bool((weights == weights[0]).all())
    p_values = _mcnemar(differences) if binary else _sign_flip(differences * weights, seed)
    return [
        PairedDifference(*pair, float(value), float(low), float(high), float(p), num_items)
        for pair, value, low, high, p in zip(pairs, values, lows, highs, p_values, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: the chance of any false alarm stays below the level (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.asarray(p_values, float)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(adjusted), 1.0)
    return corrected.tolist()


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Return Pearson's and Spearman's correlation, None for fewer than three points or where a metric never changes."""
    if len(x) < 3 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    spearman = np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1]
    return Correlation(float(np.corrcoef(x, y)[0, 1]), float(spearman), len(x))


def variance_share(levels: Sequence[Hashable], values: Sequence[float]) -> float | None:
    """Return the share of the variance of values that the means of their levels explain (eta squared), 0 to 1.

    None if all values are equal, or if each level occurs once: its mean would explain anything.
    """
    y = np.asarray(values, float)
    groups = [y[[level == other for other in levels]] for level in dict.fromkeys(levels)]
    total = float(((y - y.mean()) ** 2).sum())
    if total == 0 or len(groups) == len(y):
        return None
    return float(sum(len(group) * (group.mean() - y.mean()) ** 2 for group in groups)) / total


def smooth_fit(x: Sequence[float], y: Sequence[float]) -> SmoothFit:
    """Return the cubic polynomial of least squares through points, and how much of the variance it explains.

    The share is R squared adjusted for the degrees of freedom, `1 - (1 - R^2) (n - 1) / (n - 4)`, at least 0: points
    that have nothing to do with x get about 0, however many they are.

    Args:
        x: at least five different numbers.
        y: as many values.

    Raises:
        ValueError: there are fewer different numbers.
    """
    if len(set(x)) < FIT_DEGREE + 2:
        raise ValueError(f"x must hold at least {FIT_DEGREE + 2} different numbers to be fitted, got {len(set(x))}")
    values = np.asarray(y, float)
    polynomial = np.polynomial.Polynomial.fit(np.asarray(x, float), values, FIT_DEGREE)
    left = float(((values - polynomial(np.asarray(x, float))) ** 2).sum())
    total = float(((values - values.mean()) ** 2).sum())
    degrees = (len(values) - 1) / (len(values) - FIT_DEGREE - 1)
    share = None if total == 0 else max(0.0, 1 - left / total * degrees)
    return SmoothFit(polynomial, share)


def crossed_interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over runs and items, each resampled by itself.

    Runs share their items, so the cells are not independent: a resample draws rows and columns, and takes all cells
    where they meet (Owen 2007, the pigeonhole bootstrap). With one row it is the bootstrap over items.

    Args:
        values: shape (runs, items), for example differences of two methods from several seeds on the same documents.
        seed: of the resampling.
    """
    rng, (num_rows, num_columns) = np.random.default_rng(seed), values.shape
    rows = rng.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=RESAMPLES)
    columns = rng.multinomial(num_columns, np.full(num_columns, 1 / num_columns), size=RESAMPLES)
    means = ((rows @ values) * columns).sum(axis=1) / (num_rows * num_columns)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _difference_intervals(
    differences: NDArray[np.float64], weights: NDArray[np.float64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    def mean(differences: NDArray[np.float64], weights: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return (differences * weights).sum(axis=axis) / weights.sum(axis=axis)

    interval = stats.bootstrap(
        (differences, np.broadcast_to(weights, differences.shape)),
        mean,
        paired=True,
        axis=-1,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return interval.low, interval.high


def _mcnemar(differences: NDArray[np.float64]) -> list[float]:
    wins, losses = (differences > 0).sum(axis=1), (differences < 0).sum(axis=1)
    return [
        float(stats.binomtest(int(won), int(won + lost)).pvalue) if won + lost else 1.0
        for won, lost in zip(wins, losses, strict=True)
    ]


def _sign_flip(contributions: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    def total(contributions: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return contributions.sum(axis=axis)

    tested = stats.permutation_test(
        (contributions,),
        total,
        permutation_type="samples",  # of one sample: flips of its signs
        axis=-1,
        n_resamples=RESAMPLES,
        batch=BATCH,
        rng=np.random.default_rng(seed),
    )
    return np.asarray(tested.pvalue)
