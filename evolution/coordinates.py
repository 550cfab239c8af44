"""Low-dimensional coordinates around a genome: a family of ramps, and knots over the dimension pairs.

All steps are in units of log s: an extension by 32 times has further to go than one by 2.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from .space import Genome, Space

Vector = NDArray[np.float64]

SHIFT = 2.0
"""Of the ramp's ends per unit of its coordinate, in e-folds of wavelength: a ramp is several e-folds long."""
LEVEL = 0.5
"""Of the log of the last rescale factor per unit of its coordinate."""
ATTENTION_SHARE = 0.3
"""Change of the log attention factor per unit of its coordinate: the loss feels it more than a change of log lambda."""
RAMP = (0.02, 0.95)
"""Shares of log s at which a ramp begins and ends."""


class FamilyCoordinates:
    """The origin's profile of log lambda with its ramp moved and stretched, its level and the attention factor changed.

    A point is (begin of the ramp, its end, level, log attention factor), the last where the space searches it; the zero
    point is the origin. The profile counts as 0 left of the first pair, so that the step of PI can become a ramp.
    """

    def __init__(self, space: Space, origin: Genome) -> None:
        self._space, self._origin = space, origin
        self._pairs = np.arange(-1.0, space.num_pairs)
        self._profile = np.append(0.0, np.log(space.decode(origin)))
        begin, end = (share * math.log(space.scale) for share in RAMP)
        self._begin = float(self._pairs[self._profile <= begin][-1])
        above = self._pairs[self._profile >= max(end, 1e-9)]
        self._end = float(above[0]) if len(above) else float(space.num_pairs - 1)
        self.num_coordinates = 3 + space.search_attention

    def genome(self, point: Vector) -> Genome:
        """Return the grid genome nearest to a point of shape (coordinates,), in log lambda but for the attention."""
        per_fold = pairs_per_fold(self._space)
        begin = min(max(self._begin + SHIFT * per_fold * point[0], -1.0), self._space.num_pairs - 2.0)
        end = max(self._end + SHIFT * per_fold * point[1], begin + 1.0)
        length = max(self._end - self._begin, 1.0)
        places = self._pairs[1:]
        inside = self._begin + (places - begin) * length / (end - begin)
        source = np.where(places > end, places - end + self._end, inside)
        source = np.where(places < begin, places - begin + self._begin, source)
        profile = np.interp(source, self._pairs, self._profile)
        level = 1 + LEVEL * point[2] / math.log(self._space.upper / self._space.lower)
        attention = self._space.decode_attention(self._origin)
        if attention is not None:
            attention *= math.exp(ATTENTION_SHARE * point[3])
        return self._space.encode(np.exp(profile * max(level, 0.0)), self._origin.start_tokens, attention)


def pairs_per_fold(space: Space) -> float:
    """Return how many pairs lie between two whose wavelengths differ by a factor e.

    Read off the critical dimensions, ten periods and one period in training; without them RoPE's usual theta counts.
    """
    first, last = space.critical_dimensions or (0, 0)
    return (last - first) / math.log(10) if last > first else space.num_pairs / math.log(10000)


class KnotCoordinates:
    """Changes of log lambda at K knots around an origin, linear between them, and of the log attention factor.

    A point has shape (K,), or (K + 1,) with the attention factor last where the space searches it.
    """

    def __init__(self, space: Space, origin: Genome, num_knots: int) -> None:
        self._space, self._origin = space, origin
        self.num_knots = min(num_knots, space.num_pairs)
        knots, pairs = knot_positions(space, self.num_knots), np.arange(space.num_pairs)
        self._basis = np.stack([np.interp(pairs, knots, hat) for hat in np.eye(self.num_knots)], axis=1)  # (P, K)
        self.num_coordinates = self.num_knots + space.search_attention

    def genome(self, point: Vector) -> Genome:
        """Return the grid genome nearest to a point."""
        wanted = np.log(self._space.decode(self._origin)) + self._basis @ point[: self.num_knots]
        bounds = np.log(np.array([self._space.lower, self._space.upper]) / self._space.resolution)
        allowed = np.clip(isotonic_regression(wanted).x, *bounds)
        attention = self._space.decode_attention(self._origin)
        if attention is not None:
            attention *= math.exp(ATTENTION_SHARE * point[-1])
        return self._space.encode(np.exp(allowed), self._origin.start_tokens, attention)

    def gradient(self, d_log_lambda: Vector, d_log_attention: float) -> Vector:
        """Return derivatives by the coordinates from those by log lambda, shape (P,), and the log attention factor."""
        by_knots = self._basis.T @ d_log_lambda
        if not self._space.search_attention:
            return by_knots
        return np.append(by_knots, ATTENTION_SHARE * d_log_attention)


def knot_positions(space: Space, num_knots: int) -> Vector:
    """Return the pairs where the knots are, shape (K,): the first, the last, and evenly between two that matter.

    These are the first pair that made fewer than ten periods in training and the first that makes less than one within
    the target length. Pairs left of them are best left alone, pairs right of them hardly rotate; between them a few
    per cent of lambda decide. Where the space does not know them, or the knots are too few, they are spread evenly.
    """
    last = space.num_pairs - 1
    low, high = space.sensitive_pairs or (0, 0)
    low, high = max(low, 1), min(high, last - 1)
    if high <= low or num_knots < 5:
        return np.linspace(0, last, num_knots)
    return np.concatenate([[0], np.linspace(low, high, num_knots - 2), [last]])
