"""CMA-ES (Hansen, arXiv 1604.00772) whose learning rate adapts to noise (arXiv 2304.03473), with the package cmaes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from cmaes import CMA

from ..coordinates import FamilyCoordinates, Vector
from ..space import Genome, Space


class Explorer:
    """Evolution strategy over the ramps around an origin genome; `start` begins one, `state` stores it.

    Args:
        space: of the genomes.
        origin: where it started.
        optimizer: the distribution.
        points: candidates asked for.
    """

    def __init__(self, space: Space, origin: Genome, optimizer: CMA, points: Sequence[Vector] = ()) -> None:
        self._coordinates = FamilyCoordinates(space, origin)
        self.origin, self._optimizer, self._points = origin, optimizer, list(points)

    @classmethod
    def start(cls, space: Space, origin: Genome, sigma: float, population_size: int, seed: int) -> "Explorer":
        """Return a strategy that knows nothing yet.

        Args:
            space: of the genomes.
            origin: where it starts.
            sigma: first standard deviation of a coordinate.
            population_size: candidates per generation.
            seed: of the random generator.
        """
        mean = np.zeros(FamilyCoordinates(space, origin).num_coordinates)
        optimizer = CMA(mean, sigma, population_size=population_size, seed=seed, lr_adapt=True)
        vars(optimizer)["_funhist_values"].fill(0.0)  # cmaes leaves it uninitialised, and a state must be exact
        return cls(space, origin, optimizer)

    def state(self) -> dict[str, Any]:
        """Return the arguments that go on from here, but for the space."""
        return {"origin": self.origin, "optimizer": self._optimizer, "points": self._points}

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

    def mean(self, share: float) -> Genome:
        """Return the mean of the distribution, or a point at a share of the way there."""
        return self._coordinates.genome(share * self._optimizer.mean)
