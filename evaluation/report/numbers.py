"""The numbers of each figure, before any ink: plain arrays that a test or a CSV can hold."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...rope import RescaleFactors, RopeGeometry
from ..results import ResultRow

Array = NDArray[np.float64]


class Curve(NamedTuple):
    """One metric of one method against the context length."""

    method: str
    lengths: Array
    """Tokens."""
    values: Array
    lows: Array
    """Lower ends of the intervals; the value itself where there is no interval."""
    highs: Array


class LambdaProfile(NamedTuple):
    """Rescale factors of one method by pair, shape (P,); the mean over layers if they differ."""

    method: str
    lambdas: Array


class LambdaProfiles(NamedTuple):
    """Profiles of several methods over the wavelengths of one model."""

    profiles: list[LambdaProfile]
    wavelengths: Array
    """Pre-trained period of each pair, tokens, shape (P,)."""
    original_length: int
    critical_pair: int
    """First pair whose period is longer than the original length: never seen whole in training."""


class SearchCurve(NamedTuple):
    """Progress of a search, one entry per generation, against the best seed on the same documents."""

    scored_tokens: Array
    """Tokens scored so far."""
    best_gain: Array
    """Best loss so far minus the seed's, nats per token."""
    median_gain: Array
    """Median loss of the generation minus the seed's, nats per token."""


def curves(rows: Sequence[ResultRow], task: str, metric: str) -> list[Curve]:
    """Return one curve per method, in the order of the rows."""
    chosen = [row for row in rows if (row.task, row.metric) == (task, metric)]
    return [_curve(name, [r for r in chosen if r.method == name]) for name in dict.fromkeys(r.method for r in chosen)]


def lambda_profiles(factors: Mapping[str, RescaleFactors], geometry: RopeGeometry) -> LambdaProfiles:
    """Return the rescale factors of several methods for one model."""
    profiles = [
        LambdaProfile(name, np.atleast_2d(one.lambdas).mean(axis=0).astype(np.float64)) for name, one in factors.items()
    ]
    return LambdaProfiles(profiles, geometry.wavelengths, geometry.original_length, geometry.critical_dimension)


def _curve(method: str, rows: list[ResultRow]) -> Curve:
    rows = sorted(rows, key=lambda row: row.length)
    columns = [
        [float(row.length) for row in rows],
        [row.value for row in rows],
        [row.value if row.low is None else row.low for row in rows],
        [row.value if row.high is None else row.high for row in rows],
    ]
    return Curve(method, *(np.array(column) for column in columns))
