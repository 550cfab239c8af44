"""The plain evolution strategy: smooth coordinates, a few documents per generation, the average of its means."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..settings import CmaSettings
from ..space import Genome, Space
from .base import Evaluation, Request, check_seeds
from .explorer import Explorer
from .generational import SelectingStrategy, best_of, unique


class CmaStrategy(SelectingStrategy):
    """Covariance-matrix adaptation in smooth coordinates around the best seed.

    1. Generation 0 scores the seeds; the best becomes the origin of the coordinates.
    2. Each of the next `num_iterations` generations scores its candidates on the same few windows, drawn afresh from
       the pool, so that they are ranked by themselves and not by the luck of a window. So is the best seed.
    3. The last generation scores the average of the later generations' means, with its own start tokens and with the
       seed's, together with the best seed on the first window of every document: the result is never worse there than
       that seed.
    """

    def __init__(
        self, settings: CmaSettings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        check_seeds(space, seeds, num_documents)
        if settings.num_knots > space.num_pairs:
            raise ValueError(f"num_knots must be at most {space.num_pairs} pairs, got {settings.num_knots}; lower it")
        self._num_windows = num_documents * settings.windows_per_document
        if settings.documents_per_generation > self._num_windows:
            raise ValueError(
                f"documents_per_generation must be at most the {self._num_windows} search documents, "
                f"got {settings.documents_per_generation}; lower it or give more documents"
            )
        super().__init__(seed)
        self._settings, self._space = settings, space
        self._seeds = dict(seeds)
        self._documents = tuple(range(num_documents))
        self._explorer: Explorer | None = None

    @property
    def num_generations(self) -> int:
        return self._count_generations(self._settings.num_iterations + 2)

    @property
    def reserved(self) -> tuple[int, ...]:
        return 3 * self._documents

    def _propose(self) -> list[Request] | None:
        if self.generation > self._settings.num_iterations:
            return None
        documents = self._draw_documents()
        if self._explorer is None:
            return [Request(genome, documents, f"seed:{name}") for name, genome in self._seeds.items()]
        candidates = [Request(genome, documents, "cma") for genome in self._explorer.ask()]
        return [*candidates, replace(self._best_seed, documents=documents)]

    def _finalists(self) -> list[Request]:
        if not self._told:
            return unique([Request(genome, self._documents, f"seed:{name}") for name, genome in self._seeds.items()])
        finalists = [replace(self._best_seed, documents=self._documents)]
        if self._explorer is not None and self._explorer.generation:
            average = self._explorer.average(self._settings.averaged_share)
            kept = replace(average, start_tokens=finalists[0].genome.start_tokens)
            finalists += [
                Request(average, self._documents, "average"),
                Request(kept, self._documents, "average:start_tokens"),
            ]
        return unique(finalists)

    def _learn(self, evaluations: Sequence[Evaluation]) -> None:
        if self._explorer is None:
            if best := best_of(evaluations):
                self._explorer = self._new_explorer(best.genome)
            return
        candidates = evaluations[: self._settings.population_size]
        self._explorer.tell([math.inf if one.failed else one.loss for one in candidates])

    def _draw_documents(self) -> tuple[int, ...]:
        drawn = self._rng.choice(self._num_windows, self._settings.documents_per_generation, replace=False)
        return tuple(sorted(int(document) for document in drawn))

    @property
    def _best_seed(self) -> Request:
        best = best_of(self._told[0])
        if best is None:
            raise RuntimeError(f"no seed could be scored: {self._told[0][0].error}; fix the objective")
        return best.request

    def _new_explorer(self, origin: Genome) -> Explorer:
        settings = self._settings
        return Explorer.start(
            self._space,
            origin,
            settings.num_knots,
            settings.sigma,
            settings.population_size,
            int(self._rng.integers(2**32)),
        )

    def _state(self) -> dict[str, Any]:
        return {"explorer": self._explorer and self._explorer.state()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        explorer = state["explorer"]
        self._explorer = explorer and Explorer(self._space, **explorer)
