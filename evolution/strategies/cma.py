"""CMA-ES (Hansen, arXiv 1604.00772) in smooth coordinates of the rescale factors, with the cmaes package."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from cmaes import CMA
from numpy.typing import NDArray

from ..settings import CmaSettings
from ..space import Genome, Space
from .base import Evaluation, Request, check_answer, check_seeds


@dataclass(frozen=True)
class CmaState:
    """All that was told, one row of evaluations per generation; with the random seed it fixes everything else."""

    told: tuple[tuple[Evaluation, ...], ...] = ()


class CmaStrategy:
    """Covariance-matrix adaptation of K knots of log lambda, added to the best seed.

    1. Generation 0 scores the seeds; the best becomes the origin of the coordinates.
    2. Each of the next `num_iterations` generations scores its candidates on the same few documents, drawn afresh, so
       that they are ranked by themselves and not by the luck of a document. The best seed is scored there too, which
       costs nothing in the end: the last generation needs it on all documents.
    3. The last generation scores the average of the later generations' means, which is steadier than any one candidate
       scored on one document, together with the best seed on all documents: the result is never worse there than that
       seed.

    Start tokens stay those of the seed. The state is exact on the machine that wrote it; on another the linear algebra
    may round differently, which `restore` notices and refuses.
    """

    def __init__(
        self, settings: CmaSettings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        check_seeds(space, seeds, num_documents)
        if settings.num_knots > space.num_pairs:
            raise ValueError(f"num_knots must be at most {space.num_pairs} pairs, got {settings.num_knots}; lower it")
        if settings.documents_per_generation > num_documents:
            raise ValueError(
                f"documents_per_generation must be at most the {num_documents} search documents, "
                f"got {settings.documents_per_generation}; lower it or give more documents"
            )
        self._settings = settings
        self._space = space
        self._seeds = dict(seeds)
        self._num_documents = num_documents
        self._seed = seed
        self._begin()

    def _begin(self) -> None:
        self._state = CmaState()
        self._pending: list[Request] | None = None
        self._rng = np.random.default_rng(self._seed)
        self._optimizer = CMA(
            mean=np.zeros(self._settings.num_knots),
            sigma=self._settings.sigma,
            population_size=self._settings.population_size,
            seed=int(self._rng.integers(2**32)),
        )
        self._points: list[NDArray[np.float64]] = []
        self._means: list[NDArray[np.float64]] = []

    @property
    def generation(self) -> int:
        return len(self._state.told)

    @property
    def num_generations(self) -> int:
        return self._settings.num_iterations + 2

    @property
    def done(self) -> bool:
        return self.generation >= self.num_generations

    @property
    def best(self) -> Evaluation | None:
        """The best of the latest generation: losses of different generations are of different documents."""
        return _best(self._state.told[-1]) if self._state.told else None

    def ask(self) -> list[Request]:
        if self.done:
            raise RuntimeError("ask must not follow the last generation; the search is done")
        if self._pending is None:
            if self.generation == 0:
                self._pending = self._ask_seeds()
            elif self.generation <= self._settings.num_iterations:
                self._pending = self._ask_candidates()
            else:
                self._pending = self._ask_result()
        return list(self._pending)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        check_answer(self._pending, evaluations)
        if 0 < self.generation <= self._settings.num_iterations:
            self._adapt(evaluations[: len(self._points)])
        self._state = CmaState((*self._state.told, tuple(evaluations)))
        self._pending = None

    def state(self) -> dict[str, Any]:
        return asdict(self._state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replay every tell: the optimizer has no exact state of its own to save.

        Raises:
            ValueError: the replay asks for other candidates than those that were told.
        """
        told = [[Evaluation.from_dict(evaluation) for evaluation in row] for row in state["told"]]
        self._begin()
        for evaluations in told:
            if self.ask() != [evaluation.request for evaluation in evaluations]:
                raise ValueError(
                    f"a state must replay exactly, got other candidates in generation {self.generation}; "
                    "was it written with other settings or on another machine?"
                )
            self.tell(evaluations)

    def _ask_seeds(self) -> list[Request]:
        documents = self._draw_documents()
        return [Request(genome, documents, f"seed:{name}") for name, genome in self._seeds.items()]

    def _ask_candidates(self) -> list[Request]:
        documents = self._draw_documents()
        self._points = [self._optimizer.ask() for _ in range(self._settings.population_size)]
        candidates = [Request(self._genome(point), documents, "cma") for point in self._points]
        return [*candidates, Request(self._best_seed.genome, documents, self._best_seed.origin)]

    def _ask_result(self) -> list[Request]:
        documents = tuple(range(self._num_documents))
        num_averaged = math.ceil(self._settings.averaged_share * len(self._means))
        average = self._genome(np.mean(self._means[-num_averaged:], axis=0))
        seed = self._best_seed
        return [Request(seed.genome, documents, seed.origin), Request(average, documents, "average")]

    def _draw_documents(self) -> tuple[int, ...]:
        drawn = self._rng.choice(self._num_documents, self._settings.documents_per_generation, replace=False)
        return tuple(sorted(int(document) for document in drawn))

    @property
    def _best_seed(self) -> Request:
        best = _best(self._state.told[0])
        if best is None:
            raise RuntimeError(f"no seed could be scored: {self._state.told[0][0].error}; fix the objective")
        return best.request

    def _genome(self, point: NDArray[np.float64]) -> Genome:
        """Return the grid genome of a change of log lambda at the knots, shape (K,)."""
        seed = self._best_seed.genome
        knots = np.linspace(0, self._space.num_pairs - 1, self._settings.num_knots)
        change = np.interp(np.arange(self._space.num_pairs), knots, point)
        return self._space.encode(self._space.decode(seed) * np.exp(change), seed.start_tokens)

    def _adapt(self, evaluations: Sequence[Evaluation]) -> None:
        """Move the distribution, unless so many candidates failed that a failed one would be among the parents."""
        losses = [math.inf if evaluation.failed else evaluation.loss for evaluation in evaluations]
        if sum(map(math.isfinite, losses)) >= self._settings.population_size // 2:
            self._optimizer.tell(list(zip(self._points, losses, strict=True)))
        self._means.append(self._optimizer.mean.copy())


def _best(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    return min((one for one in evaluations if not one.failed), key=lambda one: one.loss, default=None)
