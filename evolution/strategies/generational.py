"""What all strategies share: generations asked and told, and a state to go on from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..racing import Gain
from ..serialization import from_json, to_json
from .base import Evaluation, Proposal, Request, check_answer


class GenerationalStrategy(ABC):
    """A strategy of one random generator; a subclass proposes, learns, and says what of it has to be stored.

    What follows from the evaluations by comparing and counting alone, such as who was asked before, is not stored.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._generation = 0
        self._told: list[tuple[Evaluation, ...]] = []
        self._pending: list[Request] | None = None
        self._finished = False

    @abstractmethod
    def _ask(self) -> list[Request]:
        """Return the requests of the next generation, which is the final one if `_finished` is set."""

    @abstractmethod
    def _tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation, which `_told` does not hold yet."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Return what `serialization` can store, but for what this class has."""

    @abstractmethod
    def _restore(self, state: Mapping[str, Any]) -> None:
        """Undo `_state`; `_rng` and `_told` are restored already."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether there is nothing left to ask."""

    @property
    def final(self) -> bool:
        return False

    @property
    def reserved(self) -> tuple[int, ...]:
        return ()

    @property
    def gain(self) -> Gain | None:
        return None

    @property
    def generation(self) -> int:
        return self._generation

    def finish(self) -> None:
        self._finished, self._pending = True, None

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
        self._generation += 1
        self._pending = None

    def state(self) -> dict[str, Any]:
        return to_json({"rng": self._rng, "finished": self._finished, **self._state()})

    def restore(self, proposal: Proposal, told: Sequence[Sequence[Evaluation]]) -> None:
        state = from_json(dict(proposal.state))
        self._rng, self._finished = state["rng"], state["finished"]
        self._told = [tuple(evaluations) for evaluations in told]
        self._generation, self._pending = proposal.generation, list(proposal.requests)
        self._restore(state)

    @property
    def _all_told(self) -> Iterator[Evaluation]:
        return (evaluation for evaluations in self._told for evaluation in evaluations)


class SelectingStrategy(GenerationalStrategy):
    """A strategy whose last generation is the choice among finalists, on documents that are the same for all."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._result: Evaluation | None = None

    @abstractmethod
    def _propose(self) -> list[Request] | None:
        """Return the requests of the next generation, None once only the choice is left."""

    @abstractmethod
    def _finalists(self) -> list[Request]:
        """Return the requests of the choice."""

    @abstractmethod
    def _learn(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation before the choice."""

    def _choose(self, evaluations: Sequence[Evaluation]) -> Evaluation | None:
        """Return the winner of the choice, None if all failed."""
        return best_of(evaluations)

    @property
    def done(self) -> bool:
        return self._result is not None

    @property
    def final(self) -> bool:
        return self._finished

    @property
    def best(self) -> Evaluation | None:
        """The winner once it is chosen; before that the best of the latest generation, on windows of its own."""
        return self._result or (best_of(self._told[-1]) if self._told else None)

    def _ask(self) -> list[Request]:
        requests = None if self._finished else self._propose()
        if requests is None:
            self._finished = True
            requests = self._finalists()
        return requests

    def _tell(self, evaluations: Sequence[Evaluation]) -> None:
        if not self._finished:
            self._learn(evaluations)
            return
        self._result = self._choose(evaluations)
        if self._result is None:
            raise RuntimeError(
                f"a finalist must have a loss, got failures only: {evaluations[0].error}; mend that and "
                "continue with --resume, which scores the finalists again"
            )

    def restore(self, proposal: Proposal, told: Sequence[Sequence[Evaluation]]) -> None:
        super().restore(proposal, told)
        self._result = None


def best_of(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """Return the evaluation of the lowest loss that did not fail, None if all failed."""
    return min((one for one in evaluations if not one.failed), key=lambda one: one.loss, default=None)
