"""NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6, 2002) on short- and long-context loss."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from deap import base, tools
from numpy.random import Generator

from ..operators import crossover, mutate
from ..settings import ParetoSettings
from ..space import Genome, Space
from .base import Evaluation, Request, check_seeds
from .generational import GenerationalStrategy
from .paper import Offspring


class TwoLosses(base.Fitness):
    """DEAP fitness to be minimised: mean nats per token on long and on short windows."""

    weights = (-1.0, -1.0)
    crowding_dist: float
    """Set by the selection: how far apart the neighbours on the same front are."""


@dataclass
class FrontPoint:
    """A candidate as NSGA-II ranks it; a failed one cannot become one."""

    long: Evaluation
    """Its loss on windows of the target length."""
    short: Evaluation
    """Its loss on windows of the original length."""
    fitness: TwoLosses = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.fitness = TwoLosses((self.long.loss, self.short.loss))

    @property
    def genome(self) -> Genome:
        """The candidate."""
        return self.long.genome


class ParetoStrategy(GenerationalStrategy):
    """The front of factors of which none has both a lower long-context and a lower short-context loss.

    Windows 0 to W - 1 are of the target length, W to 2 W - 1 of the original length; W counts `windows_per_document` of
    every document. Each candidate is scored on all long windows and on the first `short_documents` short ones. The
    first generation is the seeds and mutations of them. Each later one is as large: two parents, each chosen by binary
    tournament selection (rank, then crowding distance), are crossed and the child is mutated. The population is the
    best of parents and children by NSGA-II. Only numpy's Generator is drawn from: of DEAP, no tool that uses `random`.
    """

    def __init__(
        self, settings: ParetoSettings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        check_seeds(space, seeds, num_documents)
        if len(set(seeds.values())) > settings.population_size:
            raise ValueError(
                f"population_size must be at least the number of seeds ({len(seeds)}), got {settings.population_size}; "
                "raise it or hand in fewer seeds"
            )
        super().__init__(seed)
        self._settings, self._space = settings, space
        self._seeds = dict(seeds)
        num_windows = num_documents * settings.windows_per_document
        num_short = min(settings.short_documents, num_windows)
        self._long = tuple(range(num_windows))
        self._short = tuple(range(num_windows, num_windows + num_short))
        self._population: list[FrontPoint] = []
        self._front = new_front()

    @property
    def num_generations(self) -> int:
        return 1 + self._settings.num_iterations

    @property
    def done(self) -> bool:
        return self._finished or self.generation >= self.num_generations

    @property
    def front(self) -> list[FrontPoint]:
        """Every candidate of the search that no other one beats in both losses, lowest long-context loss first."""
        return sorted(self._front, key=lambda point: point.fitness.values)

    @property
    def best(self) -> Evaluation | None:
        """The long-context evaluation of the front's knee."""
        return knee(self.front).long if self._front else None

    def _ask(self) -> list[Request]:
        offspring = Offspring({one.genome for one in self._all_told}, self._settings.max_attempts)
        if not self._told:
            self._breed_first(offspring)
        else:
            for _ in range(self._settings.population_size if self._population else 0):
                offspring.add("nsga2", self._child)
        documents = self._long + self._short
        return [Request(genome, documents, origin) for genome, origin in offspring.origins.items()]

    def _breed_first(self, offspring: Offspring) -> None:
        for name, genome in self._seeds.items():
            offspring.add(f"seed:{name}", lambda genome=genome: genome)
        seeds = list(offspring.origins)
        for _ in range(self._settings.population_size - len(seeds)):
            offspring.add("mutation", lambda: self._mutant(seeds[int(self._rng.integers(len(seeds)))]))

    def _mutant(self, genome: Genome) -> Genome:
        return mutate(genome, self._space, self._rng, self._settings.mutation_probability)

    def _child(self) -> Genome:
        first = tournament(self._population, self._rng).genome
        if self._rng.random() < self._settings.crossover_probability:
            first = crossover(first, tournament(self._population, self._rng).genome, self._rng)
        return self._mutant(first)

    def _tell(self, evaluations: Sequence[Evaluation]) -> None:
        children = self._points(evaluations)
        self._front.update(children)
        self._population = tools.selNSGA2([*self._population, *children], self._settings.population_size)

    def _points(self, evaluations: Sequence[Evaluation]) -> list[FrontPoint]:
        parts = [(_on(one, self._long), _on(one, self._short)) for one in evaluations if not one.failed]
        return [FrontPoint(long, short) for long, short in parts if not long.failed and not short.failed]

    def _state(self) -> dict[str, Any]:
        return {"population": [(point.genome, point.fitness.crowding_dist) for point in self._population]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        points = self._points(tuple(self._all_told))
        self._front = new_front()
        self._front.update(points)
        known = {point.genome: point for point in points}
        self._population = [known[genome] for genome, _ in state["population"]]
        for point, (_, crowding_dist) in zip(self._population, state["population"], strict=True):
            point.fitness.crowding_dist = crowding_dist


def new_front() -> tools.ParetoFront:
    """Return an archive of what nothing beats in both losses."""
    return tools.ParetoFront(similar=lambda a, b: a.genome == b.genome)


def _on(evaluation: Evaluation, documents: tuple[int, ...]) -> Evaluation:
    """Return the part of an evaluation that is about some of its documents."""
    places = [place for place, document in enumerate(evaluation.documents) if document in documents]
    return Evaluation(
        replace(evaluation.request, documents=documents),
        tuple(evaluation.nats[place] for place in places),
        tuple(evaluation.tokens[place] for place in places),
        left_out=evaluation.left_out.intersection(documents),
    )


def tournament(population: Sequence[FrontPoint], rng: Generator) -> FrontPoint:
    """Return the better of two members: the one that dominates, else the one in the less crowded place."""
    first, second = (population[int(index)] for index in rng.integers(len(population), size=2))
    if second.fitness.dominates(first.fitness):
        return second
    if first.fitness.dominates(second.fitness):
        return first
    return second if second.fitness.crowding_dist > first.fitness.crowding_dist else first


def knee(front: Sequence[FrontPoint]) -> FrontPoint:
    """Return the knee of a front: the member farthest below the line that joins its two ends (Das 1999).

    With both losses scaled to 0 .. 1 over the front, that is the lowest sum of the two; of equal ones, as in a front of
    two, the one of lowest long-context loss.
    """
    losses = np.array([point.fitness.values for point in front])
    spread = np.ptp(losses, axis=0)
    sums = ((losses - losses.min(axis=0)) / np.where(spread > 0, spread, math.inf)).sum(axis=1)
    return min(zip(front, sums, strict=True), key=lambda pair: (round(pair[1], 9), pair[0].fitness.values))[0]
