"""Algorithm 1 of LongRoPE (arXiv 2402.13753): mutation and crossover of the top-k, on DEAP."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from deap import base, tools
from numpy.random import PCG64, Generator

from ..operators import crossover, distinct, mutate
from ..settings import LongRope2Settings, PaperSettings
from ..space import Genome, Space
from .base import Evaluation, Request, check_answer, check_seeds, genome_from_dict


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


@dataclass(frozen=True)
class PaperState:
    """Everything that changes during the search."""

    generation: int
    """Generations told."""
    parents: tuple[Evaluation, ...]
    """The top-k of all generations, best first."""
    seen: tuple[Genome, ...]
    """Every genome asked so far; none is asked twice."""
    logbook: tuple[dict[str, Any], ...]
    """One record per generation."""
    rng: dict[str, Any]
    """State of the bit generator."""
    finished: bool = False
    """Whether the budget ended the search early."""


class PaperStrategy:
    """The paper's search: 64 + 40 * (16 + 16) = 1344 candidates with its settings.

    Generation 0 is the seeds and mutations of them. Each later one is `num_mutations` mutations and `num_crossovers`
    crossovers of the top-k, which stay in the population. Counted this way the last children are scored too; read
    literally, the paper's loop would breed them in vain. A small space may run out of new genomes; generations then
    get smaller. Only numpy's Generator is drawn from: of DEAP, no tool that uses the global `random`.
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
        self._settings = settings
        self._seeds = dict(seeds)
        self._documents = tuple(range(num_documents))
        self._toolbox: Any = base.Toolbox()
        self._toolbox.register("mutate", mutate, space=space, probability=settings.mutation_probability)
        self._toolbox.register("mate", crossover)
        self._toolbox.register("select", tools.selBest, k=settings.num_parents)
        self._hall_of_fame = tools.HallOfFame(1, similar=lambda a, b: a.evaluation.genome == b.evaluation.genome)
        self._state = PaperState(0, (), (), (), _state_of(Generator(PCG64(seed))))
        self._pending: list[Request] | None = None
        self._rng_after_ask: dict[str, Any] = {}

    @property
    def generation(self) -> int:
        return self._state.generation

    @property
    def num_generations(self) -> int:
        return 1 + self._settings.num_iterations

    @property
    def done(self) -> bool:
        return self._state.finished or self.generation >= self.num_generations

    @property
    def num_final_scores(self) -> int:
        return 0

    def finish(self) -> None:
        """End the search here: its best is scored on all documents already."""
        self._state, self._pending = replace(self._state, finished=True), None

    @property
    def best(self) -> Evaluation | None:
        return self._hall_of_fame[0].evaluation if self._hall_of_fame else None

    @property
    def logbook(self) -> tools.Logbook:
        """One record per generation: candidates, failed, and best and median loss of those that did not fail."""
        logbook = tools.Logbook()
        logbook.extend(self._state.logbook)
        return logbook

    def ask(self) -> list[Request]:
        if self.done:
            raise RuntimeError("ask must not follow the last generation; the search is done")
        rng = _generator(self._state.rng)
        brood = Brood(set(self._state.seen), self._settings.max_attempts)
        breed = self._breed_offspring if self.generation else self._breed_first_population
        breed(brood, rng)
        self._pending = [Request(genome, self._documents, origin) for genome, origin in brood.origins.items()]
        self._rng_after_ask = _state_of(rng)
        return list(self._pending)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        check_answer(self._pending, evaluations)
        scored = [Individual(evaluation) for evaluation in evaluations if not evaluation.failed]
        population = [Individual(parent) for parent in self._state.parents] + scored
        self._hall_of_fame.update(scored)
        self._state = PaperState(
            generation=self.generation + 1,
            parents=tuple(individual.evaluation for individual in self._toolbox.select(population)),
            seen=self._state.seen + tuple(evaluation.genome for evaluation in evaluations),
            logbook=(*self._state.logbook, _record(self.generation, evaluations)),
            rng=self._rng_after_ask,
        )
        self._pending = None

    def state(self) -> dict[str, Any]:
        return asdict(self._state)

    def restore(self, state: Mapping[str, Any]) -> None:
        self._state = PaperState(
            generation=state["generation"],
            parents=tuple(Evaluation.from_dict(parent) for parent in state["parents"]),
            seen=tuple(genome_from_dict(genome) for genome in state["seen"]),
            logbook=tuple(state["logbook"]),
            rng=_state_of(_generator(state["rng"])),
            finished=state["finished"],
        )
        self._pending = None
        self._hall_of_fame.clear()
        self._hall_of_fame.update([Individual(parent) for parent in self._state.parents])

    def _breed_first_population(self, brood: "Brood", rng: Generator) -> None:
        """Every seed, and mutations of seeds up to the population size."""
        for name, genome in self._seeds.items():
            brood.add(f"seed:{name}", lambda genome=genome: genome)
        seeds = list(brood.origins)
        for _ in range(self._settings.population_size - len(seeds)):
            brood.add("mutation", lambda: self._toolbox.mutate(_pick(seeds, rng), rng=rng))

    def _breed_offspring(self, brood: "Brood", rng: Generator) -> None:
        """Mutations of parents, and crossovers of two parents each."""
        parents = [parent.genome for parent in self._state.parents]
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
            brood.add("mutation", mutant)
        for _ in range(settings.num_crossovers):
            # Parents too few or too alike to cross give a mutation instead, as in the authors' code.
            if len(parents) < 2 or not brood.add("crossover", child):
                brood.add("mutation", mutant)


@dataclass
class Brood:
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


def _generator(state: dict[str, Any]) -> Generator:
    rng = Generator(PCG64())
    rng.bit_generator.state = state
    return rng


def _state_of(rng: Generator) -> dict[str, Any]:
    return dict(rng.bit_generator.state)


def _record(generation: int, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    losses = [evaluation.loss for evaluation in evaluations if not evaluation.failed]
    return {
        "generation": generation,
        "candidates": len(evaluations),
        "failed": len(evaluations) - len(losses),
        "best": min(losses, default=None),
        "median": statistics.median(losses) if losses else None,
    }
