"""CMA-ES (Hansen, arXiv 1604.00772) whose learning rate adapts to noise (arXiv 2304.03473), with the package cmaes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from cmaes import CMA

from ..coordinates import FamilyCoordinates, KnotCoordinates, Vector
from ..space import Genome, Space


class Explorer:
    """Evolution strategy around an origin genome, over ramps or knots; `start` begins one, `state` stores it.

    Args:
        space: of the genomes.
        origin: where it started.
        num_knots: of log lambda; 0 for ramps.
        optimizer: the distribution.
        points: candidates asked for.
        means: of the distribution after each generation.
    """

    def __init__(
        self,
        space: Space,
        origin: Genome,
        num_knots: int,
        optimizer: CMA,
        points: Sequence[Vector] = (),
        means: Sequence[Vector] = (),
    ) -> None:
        self._coordinates = _coordinates(space, origin, num_knots)
        self.origin, self._num_knots, self._optimizer = origin, num_knots, optimizer
        self._points, self._means = list(points), list(means)

    @classmethod
    def start(
        cls, space: Space, origin: Genome, num_knots: int, sigma: float, population_size: int, seed: int
    ) -> "Explorer":
        """Return a strategy that knows nothing yet.

        Args:
            space: of the genomes.
            origin: where it starts.
            num_knots: of log lambda; 0 for ramps.
            sigma: first standard deviation of a coordinate.
            population_size: candidates per generation.
            seed: of the random generator.
        """
        mean = np.zeros(_coordinates(space, origin, num_knots).num_coordinates)
        optimizer = CMA(mean, sigma, population_size=population_size, seed=seed, lr_adapt=True)
        vars(optimizer)["_funhist_values"].fill(0.0)  # cmaes leaves it uninitialised, and a state must be exact
        return cls(space, origin, num_knots, optimizer)

    def state(self) -> dict[str, Any]:
        """Return the arguments that go on from here, but for the space."""
        return {
            "origin": self.origin,
            "num_knots": self._num_knots,
            "optimizer": self._optimizer,
            "points": self._points,
            "means": self._means,
        }

    def ask(self) -> list[Genome]:
        """Return the candidates of the next generation; some may be equal once they round to the same grid point."""
        self._points = [self._optimizer.ask() for _ in range(self._optimizer.population_size)]
        return [self._coordinates.genome(point) for point in self._points]

    def tell(self, losses: Sequence[float]) -> None:
        """Move the distribution by the losses of the candidates, infinite where a candidate failed.

        It stays where it is if one failed: the adaptation weighs bad candidates too, and a failure is no rank.
        """
        if all(map(math.isfinite, losses)):
            self._optimizer.tell(list(zip(self._points, losses, strict=True)))
        self._means.append(self._optimizer.mean.copy())

    def proposals(self) -> list[Genome]:
        """Return the mean of the later half of the means, steadier than the last one, the last one, and half of it."""
        if not self._means:
            return []
        later = np.mean(self._means[len(self._means) // 2 :], axis=0)
        return [self._coordinates.genome(point) for point in (later, self._means[-1], self._means[-1] / 2)]


def _coordinates(space: Space, origin: Genome, num_knots: int) -> FamilyCoordinates | KnotCoordinates:
    return KnotCoordinates(space, origin, num_knots) if num_knots else FamilyCoordinates(space, origin)
