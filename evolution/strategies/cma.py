"""The plain evolution strategy: smooth coordinates, a few documents per generation, the average of its means."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..settings import CmaSettings
from ..space import Genome, Space
from .base import Evaluation, Request, check_seeds
from .explorer import Explorer
from .replay import CountedStrategy, best_of, unique


class CmaStrategy(CountedStrategy):
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
        self._settings = settings
        self._space = space
        self._seeds = dict(seeds)
        self._num_documents = num_documents
        self._seed = seed
        super().__init__()

    def _begin(self) -> None:
        self._rng = np.random.default_rng(self._seed)
        self._explorer: Explorer | None = None

    @property
    def num_final_scores(self) -> int:
        return 3 * self._num_documents

    @property
    def _last(self) -> int:
        return self._settings.num_iterations + 1 if self._finished_at is None else self._finished_at

    def _ask(self) -> list[Request]:
        if self.generation == self._last:
            return self._ask_result()
        documents = self._draw_documents()
        if self._explorer is None:
            return [Request(genome, documents, f"seed:{name}") for name, genome in self._seeds.items()]
        candidates = [Request(genome, documents, "cma") for genome in self._explorer.ask()]
        return [*candidates, replace(self._best_seed, documents=documents)]

    def _ask_result(self) -> list[Request]:
        documents = tuple(range(self._num_documents))
        if self._explorer is None or not self._explorer.generation:
            return unique([Request(genome, documents, f"seed:{name}") for name, genome in self._seeds.items()])
        best = self._best_seed
        average = self._explorer.average(self._settings.averaged_share)
        kept = replace(average, start_tokens=best.genome.start_tokens)
        finalists = {best.origin: best.genome, "average": average, "average:start_tokens": kept}
        return unique([Request(genome, documents, origin) for origin, genome in finalists.items()])

    def _tell(self, evaluations: Sequence[Evaluation]) -> None:
        if self.generation == 0:
            self._seed_scores = evaluations
            if self._last > 0 and best_of(evaluations):
                self._explorer = self._new_explorer()
        elif self._explorer and self.generation < self._last:
            candidates = evaluations[: self._settings.population_size]
            self._explorer.tell([math.inf if one.failed else one.loss for one in candidates])

    def _draw_documents(self) -> tuple[int, ...]:
        drawn = self._rng.choice(self._num_windows, self._settings.documents_per_generation, replace=False)
        return tuple(sorted(int(document) for document in drawn))

    @property
    def _best_seed(self) -> Request:
        best = best_of(self._seed_scores)
        if best is None:
            raise RuntimeError(f"no seed could be scored: {self._seed_scores[0].error}; fix the objective")
        return best.request

    def _new_explorer(self) -> Explorer:
        settings = self._settings
        return Explorer(
            self._space,
            self._best_seed.genome,
            settings.num_knots,
            settings.sigma,
            settings.population_size,
            int(self._rng.integers(2**32)),
        )
