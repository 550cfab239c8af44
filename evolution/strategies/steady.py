"""Steady-state evolution: child after child of the best so far, with no generation to wait for."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from ..operators import crossover, mutate
from ..racing import Gain
from ..settings import SteadySettings
from ..space import Genome, Space
from .base import Evaluation, Request, check_seeds
from .generational import SelectingStrategy
from .paper import Offspring
from .race import check_selection, select, selection_terms
from .windows import SELECTION_DOCUMENTS, split

FINALISTS = 2
"""Seeds in the choice of the result at most, and as many of those found."""


class SteadyStrategy(SelectingStrategy):
    """Mutation and crossover of a population that each child enters when its score comes, in place of the worst.

    Generation 0 is the seeds, each later one a single candidate: mutations of seeds until there are `population_size`
    candidates, then in turns a crossover of two members and a mutation of one. Candidates are scored on the same
    documents; the last generation is the choice between the best seeds and the best found, on documents that the search
    never saw, where what was found wins if its gain is sure.

    A candidate may be asked for while others have no score yet (`put_off`); who its parents are, and so the result,
    depends on which scores have come by then. What the strategy knows follows from the set of scores told and not from
    their order. Asked and told in turns it is reproducible.
    """

    def __init__(
        self, settings: SteadySettings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        check_seeds(space, seeds, num_documents)
        super().__init__(seed)
        self._settings, self._space, self._num_documents = settings, space, num_documents
        self._origins: dict[Genome, str] = {}
        for name, genome in seeds.items():
            self._origins.setdefault(genome, f"seed:{name}")
        windows, selection = split(num_documents, settings.windows_per_document, SELECTION_DOCUMENTS, seed)
        self._windows, self._selection = tuple(windows), tuple(selection)
        self._population: list[Evaluation] = []
        self._in_flight: list[tuple[Request, ...]] = []
        self._gain: Gain | None = None

    @property
    def num_generations(self) -> int:
        """The seeds, a candidate each, and the choice; less where a small space has no new candidates any more."""
        return 2 + max(self._settings.num_candidates - len(self._origins), 0)

    @property
    def best(self) -> Evaluation | None:
        """The winner once it is chosen; before that the best on the documents of the search."""
        return self._result or next(iter(self._population), None)

    @property
    def gain(self) -> Gain | None:
        """Of the best found over the best seed in the choice, once it is made; the result if it is sure."""
        return self._gain

    @property
    def reserved(self) -> tuple[int, ...]:
        return self._selection * (min(FINALISTS, len(self._origins)) + FINALISTS)

    def put_off(self, requests: Sequence[Request]) -> None:
        """Go on without the answer to requests, which may be told whenever it comes; if they are pending, ask anew."""
        self._in_flight.append(tuple(requests))
        if self._pending == list(requests):
            self._generation, self._pending = self._generation + 1, None

    def recall(self, scored: Mapping[Genome, str]) -> None:
        """Ask for candidates that have scores already, with their origins, in place of a new child, if any is new."""
        if new := {genome: origin for genome, origin in scored.items() if genome not in self._asked}:
            self._pending = [Request(genome, self._windows, origin) for genome, origin in new.items()]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        asked = tuple(evaluation.request for evaluation in evaluations)
        if asked not in self._in_flight:
            super().tell(evaluations)
            return
        self._in_flight.remove(asked)
        self._learn(evaluations)
        self._told.append(tuple(evaluations))

    def _propose(self) -> list[Request] | None:
        if self.generation == 0:
            return [Request(genome, self._windows, origin) for genome, origin in self._origins.items()]
        if self.generation >= self.num_generations - 1:
            return None
        return [Request(genome, self._windows, origin) for genome, origin in self._breed().items()] or None

    def _breed(self) -> dict[Genome, str]:
        """Return a new candidate with its origin; none where none was found."""
        first = len(self._origins) + self.generation <= self._settings.population_size
        parents = [] if first else [one.genome for one in self._population]
        parents = parents or list(self._origins)  # early on no score may have come yet
        space, rng, probability = self._space, self._rng, self._settings.mutation_probability

        def mutant() -> Genome:
            return mutate(parents[int(rng.integers(len(parents)))], space, rng, probability)

        def child() -> Genome:
            one, other = rng.choice(len(parents), size=2, replace=False)
            return crossover(parents[one], parents[other], rng)

        offspring = Offspring(self._asked, self._settings.max_attempts)
        crosses = not first and len(parents) > 1 and self.generation % 2 == 1
        if not (crosses and offspring.add("crossover", child)):
            offspring.add("mutation", mutant)
        return offspring.origins

    @property
    def _asked(self) -> set[Genome]:
        told = {one.genome for one in self._all_told}
        return told | {request.genome for requests in self._in_flight for request in requests}

    def _learn(self, evaluations: Sequence[Evaluation]) -> None:
        scored = [one for one in evaluations if not one.failed]
        self._population = sorted([*self._population, *scored], key=_rank)[: self._settings.population_size]

    def _finalists(self) -> list[Request]:
        """Return the best seeds and the best found; where no scores have come, seeds, as many as there is room for."""
        known = [one for one in self._all_told if not one.failed]
        seeds = sorted((one for one in known if one.genome in self._origins), key=_rank)
        found = [one for one in self._population if one.genome not in self._origins]
        finalists = {one.genome: one.request.origin for one in (*seeds[:FINALISTS], *found[:FINALISTS])}
        if not finalists:
            finalists = dict(list(self._origins.items())[: len(self.reserved) // len(self._selection)])
        return [Request(genome, self._selection, origin) for genome, origin in finalists.items()]

    def _choose(self, evaluations: Sequence[Evaluation]) -> Evaluation | None:
        winner, self._gain = select(evaluations, self._origins, self._num_documents, self._settings.significance)
        return winner

    def _state(self) -> dict[str, Any]:
        """Population and candidates follow from the scores; how the choice is made is for those who read a run."""
        return {"selection": selection_terms(self._settings.significance, self._num_documents, self._selection)}

    def _restore(self, state: Mapping[str, Any]) -> None:
        check_selection(state, self._selection)
        self._population, self._in_flight = [], []
        self._learn(list(self._all_told))


def _rank(evaluation: Evaluation) -> tuple[Any, ...]:
    """Return what candidates are ranked by: the loss, and the genome where that is the same."""
    return evaluation.loss, astuple(evaluation.genome)
