"""Algorithm 1 of LongRoPE (arXiv 2402.13753): mutation and crossover of the top-k, on DEAP."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deap import base, tools
from numpy.random import Generator

from ..operators import crossover, distinct, mutate
from ..piecewise import mutate_piecewise
from ..settings import LongRope2Settings, PaperSettings
from ..space import Genome, Space
from .base import Evaluation, Request, check_seeds
from .generational import GenerationalStrategy


class Loss(base.Fitness):
    """DEAP fitness to be minimised: mean nats per token."""

    weights = (-1.0,)


@dataclass
class Individual:
    """An evaluation as DEAP ranks it; a failed one cannot become an individual."""

    evaluation: Evaluation
    fitness: Loss = field(init=False)

    def __post_init__(self) -> None:
        self.fitness = Loss((self.evaluation.loss,))


class PaperStrategy(GenerationalStrategy):
    """The paper's search: 64 + 40 * (16 + 16) = 1344 candidates with its settings.

    Generation 0 is the seeds and mutations of them. Each later one is `num_mutations` mutations and `num_crossovers`
    crossovers of the top-k, which stay in the population. Counted this way the last children are scored too; read
    literally, the paper's loop would breed them in vain. A small space may run out of new genomes; generations then
    get smaller. Only numpy's Generator is drawn from: of DEAP, no tool that uses the global `random`.

    With `pieces` mutations also move the breakpoints between 1, free factors and s. Every seed has its own: PI's are
    (0, 0), where the official search starts. A crossover takes the head of one parent and the tail of another, and so
    the first breakpoint of one and the second of the other.
    """

    def __init__(
        self,
        settings: PaperSettings | LongRope2Settings,
        space: Space,
        seeds: Mapping[str, Genome],
        num_documents: int,
        seed: int,
    ) -> None:
        check_seeds(space, seeds, num_documents)
        if len(set(seeds.values())) > settings.population_size:
            raise ValueError(
                f"population_size must be at least the number of seeds ({len(seeds)}), got {settings.population_size}; "
                "raise it or hand in fewer seeds"
            )
        super().__init__(seed)
        self._settings = settings
        self._seeds = dict(seeds)
        self._documents = tuple(range(num_documents))
        self._toolbox: Any = base.Toolbox()
        mutation = mutate_piecewise if isinstance(settings, PaperSettings) and settings.pieces else mutate
        self._toolbox.register("mutate", mutation, space=space, probability=settings.mutation_probability)
        self._toolbox.register("mate", crossover)
        self._toolbox.register("select", tools.selBest, k=settings.num_parents)
        self._parents: list[Individual] = []

    @property
    def num_generations(self) -> int:
        return 1 + self._settings.num_iterations

    @property
    def done(self) -> bool:
        """Whether all generations are told or the budget has ended: the best is scored on all documents already."""
        return self._finished or self.generation >= self.num_generations

    @property
    def best(self) -> Evaluation | None:
        return self._parents[0].evaluation if self._parents else None

    def _ask(self) -> list[Request]:
        offspring = Offspring({evaluation.genome for evaluation in self._all_told}, self._settings.max_attempts)
        breed = self._breed_offspring if self.generation else self._breed_first_population
        breed(offspring, self._rng)
        return [Request(genome, self._documents, origin) for genome, origin in offspring.origins.items()]

    def _tell(self, evaluations: Sequence[Evaluation]) -> None:
        scored = [Individual(evaluation) for evaluation in evaluations if not evaluation.failed]
        self._parents = self._toolbox.select([*self._parents, *scored])

    def _state(self) -> dict[str, Any]:
        """Parents are stored by their place among all candidates told."""
        places = {evaluation.genome: place for place, evaluation in enumerate(self._all_told)}
        return {"parents": [places[parent.evaluation.genome] for parent in self._parents]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        told = list(self._all_told)
        self._parents = [Individual(told[place]) for place in state["parents"]]

    def _breed_first_population(self, offspring: "Offspring", rng: Generator) -> None:
        """Every seed, and mutations of seeds up to the population size."""
        for name, genome in self._seeds.items():
            offspring.add(f"seed:{name}", lambda genome=genome: genome)
        seeds = list(offspring.origins)
        for _ in range(self._settings.population_size - len(seeds)):
            offspring.add("mutation", lambda: self._toolbox.mutate(_pick(seeds, rng), rng=rng))

    def _breed_offspring(self, offspring: "Offspring", rng: Generator) -> None:
        """Mutations of parents, and crossovers of two parents each."""
        parents = [parent.evaluation.genome for parent in self._parents]
        if not parents:
            return

        def mutant() -> Genome:
            return self._toolbox.mutate(_pick(parents, rng), rng=rng)

        def child() -> Genome:
            first, second = rng.choice(len(parents), size=2, replace=False)
            return self._toolbox.mate(parents[first], parents[second], rng=rng)

        settings = self._settings
        assert isinstance(settings, PaperSettings), "LongRoPE2 breeds in its own way"
        for _ in range(settings.num_mutations):
            offspring.add("mutation", mutant)
        for _ in range(settings.num_crossovers):
            # Parents too few or too alike to cross give a mutation instead, as in the authors' code.
            if len(parents) < 2 or not offspring.add("crossover", child):
                offspring.add("mutation", mutant)


@dataclass
class Offspring:
    """The new genomes of one generation, with their origins, none of them seen before."""

    seen: set[Genome]
    max_attempts: int
    origins: dict[Genome, str] = field(default_factory=dict)

    def add(self, origin: str, propose: Callable[[], Genome]) -> bool:
        """Take in the first new genome proposed; False if there was none."""
        genome = distinct(propose, self.seen, self.max_attempts)
        if genome is None:
            return False
        self.seen.add(genome)
        self.origins[genome] = origin
        return True


def _pick(genomes: Sequence[Genome], rng: Generator) -> Genome:
    return genomes[int(rng.integers(len(genomes)))]
