"""Smooth coordinates of the search space: few enough for an evolution strategy to learn from a few hundred scores."""

import numpy as np
from numpy.typing import NDArray

from .space import Genome, Space

ATTENTION_SHARE = 0.3
"""Change of the log attention factor per unit of its coordinate: the loss feels it more than a change of log lambda."""


class SmoothCoordinates:
    """Points around an origin genome: K knots of log lambda, the log attention factor, the place of the start tokens.

    All are changes relative to the origin, so the zero point is the origin itself. Between knots the change of log
    lambda is linear; `knot_positions` says where they are. The attention factor has a coordinate where the space
    searches it, start tokens where they have more than one choice; theirs is discrete, one `start_token_step` a choice.
    """

    def __init__(self, space: Space, origin: Genome, num_knots: int, start_token_step: float) -> None:
        self.space, self.origin = space, origin
        self.num_knots, self.start_token_step = num_knots, start_token_step
        self.has_start_tokens = len(space.start_token_choices) > 1
        self.num_coordinates = num_knots + space.search_attention + self.has_start_tokens

    @property
    def steps(self) -> NDArray[np.float64]:
        """Grid step of each coordinate, 0 for a continuous one."""
        steps = np.zeros(self.num_coordinates)
        if self.has_start_tokens:
            steps[-1] = self.start_token_step
        return steps

    @property
    def bounds(self) -> NDArray[np.float64]:
        """Bounds of each coordinate, shape (coordinates, 2); infinite for a continuous one, which `genome` clips."""
        bounds = np.tile([-np.inf, np.inf], (self.num_coordinates, 1))
        if self.has_start_tokens:
            last = len(self.space.start_token_choices) - 1
            bounds[-1] = np.array([-self._origin_choice, last - self._origin_choice]) * self.start_token_step
        return bounds

    def genome(self, point: NDArray[np.float64]) -> Genome:
        """Return the grid genome nearest to a point of shape (coordinates,)."""
        pairs = np.arange(self.space.num_pairs)
        change = np.interp(pairs, knot_positions(self.space, self.num_knots), point[: self.num_knots])
        attention = self.space.decode_attention(self.origin)
        if attention is not None:
            attention *= float(np.exp(ATTENTION_SHARE * point[self.num_knots]))
        return self.space.encode(self.space.decode(self.origin) * np.exp(change), self._start_tokens(point), attention)

    @property
    def _origin_choice(self) -> int:
        return self.space.start_token_choices.index(self.origin.start_tokens)

    def _start_tokens(self, point: NDArray[np.float64]) -> int:
        if not self.has_start_tokens:
            return self.origin.start_tokens
        choices = self.space.start_token_choices
        place = self._origin_choice + round(float(point[-1]) / self.start_token_step)
        return choices[min(max(place, 0), len(choices) - 1)]


def knot_positions(space: Space, num_knots: int) -> NDArray[np.float64]:
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
