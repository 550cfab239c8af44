"""What strategies share whose whole state is what they were told."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..space import Genome
from .base import Evaluation, Request, check_answer


class ReplayStrategy(ABC):
    """A strategy that is brought back by telling it everything again; its optimizers need no exact state of their own.

    The replay is exact on the machine that wrote the state; on another the linear algebra may round differently, which
    `restore` notices and refuses.
    """

    def __init__(self) -> None:
        self._told: list[tuple[Evaluation, ...]] = []
        self._pending: list[Request] | None = None
        self._finished_at: int | None = None
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Set up everything that changes during the search."""

    @abstractmethod
    def _ask(self) -> list[Request]:
        """Return the requests of the next generation, which is the last one if `_finished_at` is set."""

    @abstractmethod
    def _tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether there is nothing left to ask."""

    @property
    def generation(self) -> int:
        return len(self._told)

    def finish(self) -> None:
        if self._finished_at is None:
            self._finished_at, self._pending = self.generation, None

    def ask(self) -> list[Request]:
        if self.done:
            raise RuntimeError("ask must not follow the last generation; the search is done")
        if self._pending is None:
            self._pending = self._ask()
        return list(self._pending)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        check_answer(self._pending, evaluations)
        self._tell(evaluations)
        self._told.append(tuple(evaluations))
        self._pending = None

    def state(self) -> dict[str, Any]:
        told = [[asdict(evaluation) for evaluation in evaluations] for evaluations in self._told]
        return {"told": told, "finished_at": self._finished_at}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replay every tell.

        Raises:
            ValueError: the replay asks for other candidates than those that were told.
        """
        told = [[Evaluation.from_dict(evaluation) for evaluation in row] for row in state["told"]]
        finished_at = state["finished_at"]
        ReplayStrategy.__init__(self)
        for evaluations in told:
            self._finish_again(finished_at)
            if self.ask() != [evaluation.request for evaluation in evaluations]:
                raise ValueError(
                    f"a state must replay exactly, got other candidates in generation {self.generation}; "
                    "was it written with other settings or on another machine?"
                )
            self.tell(evaluations)
        self._finish_again(finished_at)

    def _finish_again(self, finished_at: int | None) -> None:
        if self.generation == finished_at and self._finished_at is None:
            self.ask()  # the generation that was dropped had been drawn
            self.finish()


class CountedStrategy(ReplayStrategy):
    """A replayed strategy whose number of generations is known; the last one scores the finalists."""

    @property
    @abstractmethod
    def _last(self) -> int:
        """Number of the last generation, from 0."""

    @property
    def num_generations(self) -> int:
        return self._last + 1

    @property
    def done(self) -> bool:
        return self.generation > self._last

    @property
    def best(self) -> Evaluation | None:
        """The best of the latest generation: losses of different generations are of different documents."""
        return best_of(self._told[-1]) if self._told else None


def best_of(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """Return the evaluation of the lowest loss that did not fail, None if all failed."""
    return min((one for one in evaluations if not one.failed), key=lambda one: one.loss, default=None)


def unique(requests: Sequence[Request]) -> list[Request]:
    """Return the requests without those for a genome that an earlier one asks for."""
    first: dict[Genome, Request] = {}
    for request in requests:
        first.setdefault(request.genome, request)
    return list(first.values())
