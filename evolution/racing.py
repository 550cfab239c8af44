"""The one test of the search: may one candidate's loss be above another's, given their losses on shared documents?

Losses of documents differ far more than those of candidates do, so candidates are compared by their paired differences.
Windows of one document are alike, so where a bound is claimed a document counts once, with the mean of its windows
(`by_document`). Bounds hold at all numbers of documents together: a search may look after every one, stop when it likes
and go on later. They come from the t statistic mixed over effects of normal size (Lai 1976; Wang and Ramdas, arXiv
2310.03722), exact for normal differences of unknown variance. That they hold, too, where further windows of the same
documents follow is no theorem: the tests simulate it.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

MIXTURE_PRECISION = 0.25
"""Of the effect, in squared standard deviations of a document: tight at 4 to 30 documents, what a search has."""

Losses = Sequence[float] | NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Gain:
    """How much lower one candidate's loss is than another's, in nats per token, with its confidence bounds."""

    mean: float
    low: float
    """Lower bound: above 0, the candidate is surely better."""
    high: float
    """Upper bound: below 0, it is surely worse."""
    confidence: float
    """Chance at least that both bounds hold; one alone errs at most half as often as both do."""

    def as_json(self) -> dict[str, float | None]:
        """Return the numbers by name, None where there is no bound: JSON has no infinity."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def by_document(losses: Losses, windows: Sequence[int], num_documents: int) -> NDArray[np.float64]:
    """Return the mean loss of each document over its windows, in the order of the documents.

    Args:
        losses: on each window, shape (W,), infinite where a score failed.
        windows: their indices, shape (W,); window w of document d has the index `w * num_documents + d`.
        num_documents: of the search.
    """
    documents, places = np.unique(np.asarray(windows, dtype=np.int64) % num_documents, return_inverse=True)
    return np.bincount(places, np.asarray(losses, dtype=np.float64), len(documents)) / np.bincount(places)


def gain(losses: Losses, reference: Losses, level: float) -> Gain:
    """Return the gain of a candidate over a reference.

    Args:
        losses: of the candidate, mean nats per token on each document, shape (D,); infinite where it failed.
        reference: of the other on the same documents, shape (D,).
        level: chance that a bound is ever wrong, each of the two, above 0 and below 0.5.

    Returns:
        Bounds are infinite on one document, and on few at low levels, unless the difference is the same on all.
    """
    mean, low, high = _bounds(losses, reference, level)
    return Gain(mean, low, high, confidence=1 - 2 * level)


def _bounds(losses: Losses, reference: Losses, level: float) -> tuple[float, float, float]:
    own, other = np.asarray(losses, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if not np.all(np.isfinite(other)) or len(own) == 0:
        return 0.0, -math.inf, math.inf
    if not np.all(np.isfinite(own)):
        return -math.inf, -math.inf, -math.inf
    differences = other - own
    mean = float(differences.mean())
    if np.ptp(differences) <= 1e-9 * float(np.abs(own).max()):
        return (mean, mean, mean) if len(own) > 1 else (mean, -math.inf, math.inf)
    radius = float(differences.std()) * _radius(len(own), 2 * level)
    return mean, mean - radius, mean + radius


def _radius(count: int, level: float) -> float:
    """Return the half width of the interval at a number of documents, in standard deviations (of divisor D).

    The mixed likelihood ratio of mean m is `sqrt(c / (n + c)) ((n + c)(1 + u) / (n + c (1 + u)))^(n/2)`, with c the
    precision and u the squared distance of m from the sample mean in variances; the interval is where it is below
    1 / level, solved for u.
    """
    total = count + MIXTURE_PRECISION
    ratio = math.exp(2 / count * (math.log(1 / level) + 0.5 * math.log(total / MIXTURE_PRECISION)))
    left = total - ratio * MIXTURE_PRECISION
    return math.sqrt(total * (ratio - 1) / left) if left > 0 else math.inf


def survivors(table: Sequence[Losses], level: float) -> list[int]:
    """Return which candidates are not surely worse than the best one, best first.

    Args:
        table: losses of each candidate on the same documents, shape (C, D), infinite where a score failed.
        level: of the test of each pair.

    Returns:
        Indices; none if all failed.
    """
    ranked = _ranked(dict(enumerate(table)))
    return [one for one in ranked if one == ranked[0] or gain(table[one], table[ranked[0]], level).high >= 0]


def choose(
    baselines: Mapping[Key, Losses], found: Mapping[Key, Losses], level: float
) -> tuple[Key | None, Gain | None]:
    """Return the winner among baselines and what a search found, and the gain of the best found over the best baseline.

    A baseline needs no search, so it wins unless that gain is sure. The best baseline is the one of the lowest loss
    here, which is in its favour; that the best of several found is taken is in theirs, so they share the level.

    Args:
        baselines: losses on the same documents, infinite for failures.
        found: losses there.
        level: chance that the lower bound does not hold, and the same for the upper one.

    Returns:
        The winner, None if all failed, and the gain, None unless both have a candidate that did not.
    """
    rivals, finds = (_ranked(losses) for losses in (baselines, found))
    if not rivals or not finds:
        return next(iter([*rivals, *finds]), None), None
    gained = replace(gain(found[finds[0]], baselines[rivals[0]], level / len(found)), confidence=1 - 2 * level)
    return (finds if gained.low > 0 else rivals)[0], gained


def _ranked(losses: Mapping[Key, Losses]) -> list[Key]:
    """Return who did not fail, best first."""
    means = {key: float(np.mean(own)) for key, own in losses.items() if len(own)}
    return sorted((key for key, mean in means.items() if math.isfinite(mean)), key=lambda key: means[key])
