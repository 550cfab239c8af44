"""CMA-ES (Hansen, arXiv 1604.00772) with margin for whole numbers (arXiv 2205.13482), with the cmaes package."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from cmaes import CMAwM
from numpy.typing import NDArray

from ..coordinates import SmoothCoordinates
from ..space import Genome, Space


class Explorer:
    """Evolution strategy in smooth coordinates around an origin genome; `start` begins one, `state` stores it.

    Args:
        space: of the genomes.
        origin: where it started.
        num_knots: knots of log lambda.
        start_token_step: distance of two choices of start tokens.
        optimizer: the distribution.
        points: candidates asked for, in the coordinates of the optimizer.
        means: of the distribution after each generation.
    """

    def __init__(
        self,
        space: Space,
        origin: Genome,
        num_knots: int,
        start_token_step: float,
        optimizer: CMAwM,
        points: Sequence[NDArray[np.float64]] = (),
        means: Sequence[NDArray[np.float64]] = (),
    ) -> None:
        self._coordinates = SmoothCoordinates(space, origin, num_knots, start_token_step)
        self._optimizer = optimizer
        self._points, self._means = list(points), list(means)

    @classmethod
    def start(
        cls, space: Space, origin: Genome, num_knots: int, sigma: float, population_size: int, seed: int
    ) -> "Explorer":
        """Return a strategy that knows nothing yet.

        Args:
            space: of the genomes.
            origin: where it starts.
            num_knots: knots of log lambda.
            sigma: first standard deviation of a coordinate; of the start tokens' place it is one choice.
            population_size: candidates per generation.
            seed: of the random generator.
        """
        coordinates = SmoothCoordinates(space, origin, num_knots, start_token_step=sigma)
        optimizer = CMAwM(
            mean=np.zeros(coordinates.num_coordinates),
            sigma=sigma,
            bounds=coordinates.bounds,
            steps=coordinates.steps,
            population_size=population_size,
            seed=seed,
        )
        vars(optimizer)["_cma"]._funhist_values.fill(0.0)  # cmaes leaves it uninitialised, and a state must be exact
        return cls(space, origin, num_knots, sigma, optimizer)

    def state(self) -> dict[str, Any]:
        """Return the arguments that go on from here, but for the space."""
        return {
            "origin": self._coordinates.origin,
            "num_knots": self._coordinates.num_knots,
            "start_token_step": self._coordinates.start_token_step,
            "optimizer": self._optimizer,
            "points": self._points,
            "means": self._means,
        }

    @property
    def generation(self) -> int:
        """Generations told."""
        return len(self._means)

    def ask(self) -> list[Genome]:
        """Return the candidates of the next generation; some may be equal once they round to the same grid point."""
        drawn = [self._optimizer.ask() for _ in range(self._optimizer.population_size)]
        self._points = [point for _, point in drawn]
        return [self._coordinates.genome(on_grid) for on_grid, _ in drawn]

    def tell(self, losses: Sequence[float]) -> None:
        """Move the distribution by the losses of the candidates, infinite where a candidate failed.

        It stays where it is if one failed: the adaptation weighs bad candidates too, and a failure is no rank.
        """
        if all(map(math.isfinite, losses)):
            self._optimizer.tell(list(zip(self._points, losses, strict=True)))
        self._means.append(self._optimizer.mean.copy())

    def average(self, share: float) -> Genome:
        """Return the mean of the means of the last generations, a share of all: steadier than any one candidate."""
        num_averaged = math.ceil(share * len(self._means))
        return self._coordinates.genome(np.mean(self._means[-num_averaged:], axis=0))
