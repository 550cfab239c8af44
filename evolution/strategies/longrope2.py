"""The search of LongRoPE2 (arXiv 2502.20082, algorithms 1 and 2): the critical dimension and what lies right of it."""

from collections.abc import Mapping
from typing import Any

from numpy.random import Generator

from ..operators import ntk_left, redraw
from ..settings import LongRope2Settings
from ..space import Genome, Space
from .paper import Offspring, PaperStrategy


class LongRope2Strategy(PaperStrategy):
    """Mutation of the factors right of the real critical dimension, NTK left of it; no crossover.

    Generation 0 holds, for each critical dimension from ten periods to one period in training, a constant right part
    drawn from s to 2s, and mutations of these up to the population size. Each later generation mutates every one of the
    top-k once. Seeds have no part in it. As in the paper a critical dimension is inherited and never mutated.
    """

    def __init__(
        self, settings: LongRope2Settings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        if space.critical_dimensions is None:
            raise ValueError("critical_dimensions must be set in the space for longrope2, got None; hand in two pairs")
        super().__init__(settings, space, seeds, num_documents, seed)
        self._probability = settings.mutation_probability
        self._space = space

    def _breed_first_population(self, offspring: Offspring, rng: Generator) -> None:
        first, last = self._space.critical_dimensions or (0, 0)
        for critical in range(first, last + 1):
            if len(offspring.origins) < self._settings.population_size:
                offspring.add("initial", lambda critical=critical: initial_genome(self._space, critical, rng))
        parents = list(offspring.origins)
        while len(offspring.origins) < self._settings.population_size:
            if not offspring.add("mutation", lambda: self._mutant(parents[int(rng.integers(len(parents)))], rng)):
                break

    def _breed_offspring(self, offspring: Offspring, rng: Generator) -> None:
        for parent in self._parents:
            offspring.add("mutation", lambda genome=parent.evaluation.genome: self._mutant(genome, rng))

    def _mutant(self, parent: Genome, rng: Generator) -> Genome:
        return mutate_right(parent, self._space, rng, self._probability)


def initial_genome(space: Space, critical: int, rng: Generator) -> Genome:
    """Return algorithm 1's candidate: a whole multiple from s to 2s right of the critical dimension, NTK left of it."""
    low, high = round(space.scale), round(2 * space.scale)
    step = min(max(int(rng.integers(low, high, endpoint=True)) * space.resolution, space.scale_step), space.upper)
    right = (step,) * (space.num_pairs - critical)
    return Genome(ntk_left(space, critical, step) + right, critical_dimension=critical)


def mutate_right(parent: Genome, space: Space, rng: Any, probability: float) -> Genome:
    """Return algorithm 2's mutation: the right part redrawn within [s, 2s], the left part from it."""
    critical = parent.critical_dimension
    if critical is None:
        raise ValueError(f"parent must have a critical dimension, got {parent}; make it with initial_genome")
    right = redraw(parent.steps[critical:], space.scale_step, space.upper, rng, probability)
    return Genome(ntk_left(space, critical, right[0]) + right, critical_dimension=critical)
