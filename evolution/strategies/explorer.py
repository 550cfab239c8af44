"""CMA-ES (Hansen, arXiv 1604.00772) with margin for whole numbers (arXiv 2205.13482), with the cmaes package."""

import math
from collections.abc import Sequence

import numpy as np
from cmaes import CMAwM
from numpy.typing import NDArray

from ..coordinates import SmoothCoordinates
from ..space import Genome, Space


class Explorer:
    """Evolution strategy in smooth coordinates around an origin genome.

    Args:
        space: of the genomes.
        origin: where it starts.
        num_knots: knots of log lambda.
        sigma: first standard deviation of a coordinate; of the start tokens' place it is one choice.
        population_size: candidates per generation.
        seed: of the random generator.
    """

    def __init__(
        self, space: Space, origin: Genome, num_knots: int, sigma: float, population_size: int, seed: int
    ) -> None:
        self._coordinates = SmoothCoordinates(space, origin, num_knots, start_token_step=sigma)
        self._optimizer = CMAwM(
            mean=np.zeros(self._coordinates.num_coordinates),
            sigma=sigma,
            bounds=self._coordinates.bounds,
            steps=self._coordinates.steps,
            population_size=population_size,
            seed=seed,
        )
        self._points: list[NDArray[np.float64]] = []
        self._means: list[NDArray[np.float64]] = []

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
