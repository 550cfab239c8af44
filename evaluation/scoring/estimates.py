"""Values with intervals; the unit of resampling is the document or sample.

Bootstrap over documents for perplexity and for scores between 0 and 1, Wilson for shares of right answers.
"""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999
LARGEST = math.log(sys.float_info.max)
"""Loss in nats per token, about 710, beyond which a perplexity is no float."""


class Estimate(NamedTuple):
    """A value with the ends of its 95 % interval (None where there is too little to tell)."""

    value: float
    low: float | None
    high: float | None
    n: int
    """Documents or samples behind it."""


def perplexity(loss: float) -> float:
    """Return the perplexity of a loss in nats per token, infinite beyond floats."""
    return math.exp(loss) if loss <= LARGEST else math.inf


def perplexity_change(difference: float) -> float:
    """Return the relative change of perplexity of a difference of losses in nats per token, infinite beyond floats."""
    return math.expm1(difference) if difference <= LARGEST else math.inf


def token_weighted_perplexity(nats: Sequence[float], tokens: Sequence[int], seed: int) -> Estimate:
    """Return `exp(sum of nats / sum of tokens)` over documents, with a bootstrap interval over documents."""

    def ratio(nats: NDArray[np.float64], tokens: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return np.exp(nats.sum(axis=axis) / tokens.sum(axis=axis))

    return _bootstrap((np.asarray(nats, float), np.asarray(tokens, float)), ratio, seed)


def document_weighted_perplexity(nats: Sequence[float], tokens: Sequence[int], seed: int) -> Estimate:
    """Return `exp(mean over documents of nats / tokens)`, with a bootstrap interval over documents."""

    def mean(losses: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return np.exp(losses.mean(axis=axis))

    return _bootstrap((np.asarray(nats, float) / np.asarray(tokens, float),), mean, seed)


def accuracy(correct: Sequence[bool]) -> Estimate:
    """Return the share of correct answers with its Wilson score interval.

    Raises:
        ValueError: there are no answers.
    """
    if not correct:
        raise ValueError("accuracy needs at least one answer, got none")
    interval = stats.binomtest(sum(correct), len(correct)).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(sum(correct) / len(correct), float(interval.low), float(interval.high), len(correct))


def mean_score(scores: Sequence[float], seed: int) -> Estimate:
    """Return the mean of scores from 0 to 1: Wilson interval if all are 0 or 1, else bootstrap over samples.

    Raises:
        ValueError: there are no scores.
    """
    if all(score in (0, 1) for score in scores):
        return accuracy([score == 1 for score in scores])

    def mean(scores: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return scores.mean(axis=axis)

    return _bootstrap((np.asarray(scores, float),), mean, seed)


def _bootstrap(samples: tuple[NDArray[np.float64], ...], statistic: object, seed: int) -> Estimate:
    n = len(samples[0])
    if n == 0:
        raise ValueError("an estimate needs at least one document or sample, got none")
    value = float(statistic(*samples))  # type: ignore[operator]
    if n < 2:
        return Estimate(value, None, None, n)
    interval = stats.bootstrap(
        samples,
        statistic,
        paired=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",  # bias-corrected intervals are undefined when all documents score alike
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), n)
