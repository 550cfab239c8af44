"""What decides in the default search: candidates on windows that all of them share, until the test decides."""

import math
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from ..racing import Gain, by_document, choose, gain, survivors
from ..settings import HybridSettings
from ..space import Genome, Space
from .base import Evaluation, Request
from .windows import WindowPool

ROUND_WINDOWS = 4
"""Windows of a round at least: below four, the test says little."""
ACCEPTANCE = 0.25
"""Chance that an equal challenger becomes the incumbent: nothing is claimed of it before the selection."""


@dataclass(frozen=True)
class Tools:
    """What all stages of a search use."""

    settings: HybridSettings
    space: Space
    pool: WindowPool
    rng: np.random.Generator
    width: int
    """Scores that a generation offers, which devices can share."""

    def num_windows(self, num_candidates: int, least: int) -> int:
        """Return the windows that so many candidates share to be a generation."""
        return max(least, math.ceil(self.width / max(num_candidates, 1)))


@dataclass
class Stage(ABC):
    """A part of the search, generation by generation; its fields but for the tools are its state."""

    tools: Tools

    @abstractmethod
    def ask(self) -> list[Request]:
        """Return the next generation, which is empty once the stage has ended."""

    @abstractmethod
    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from that generation."""

    @property
    @abstractmethod
    def proposals(self) -> dict[Genome, str]:
        """What it has found in the end, best first, with origins."""

    def state(self) -> dict[str, Any]:
        """Return what `serialization` can store."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "tools"}

    @classmethod
    def restored(cls, tools: Tools, state: Mapping[str, Any]) -> Self:
        """Undo `state`."""
        return cls(tools, **state)


@dataclass
class Race(Stage):
    """Rounds on fresh windows. With an incumbent, challengers drop out freely and one wins only by the test.

    Without, as among the baselines, the test alone drops a candidate, and who is left is undecided. Windows count as
    independent here. Those of a document are alike, but a race draws them from all documents, and as many as a search
    affords do not make the test err more often than it says (tests/evolution/test_racing.py).
    """

    origins: dict[Genome, str]
    """Who is left and where they come from."""
    num_scores: int
    """Scores left to spend."""
    incumbent: Genome | None = None
    losses: dict[Genome, list[float]] = field(default_factory=dict)
    """Losses of all candidates, in nats per token, by window."""
    windows: list[int] = field(default_factory=list)
    """Asked for so far; a window is no news a second time, so that a race ends with the last one."""

    def ask(self) -> list[Request]:
        affordable = self.num_scores // len(self.origins)
        if len(self.origins) < 2 or affordable < 1 or self.gain > 0:
            return []
        count = min(self.tools.num_windows(len(self.origins), ROUND_WINDOWS), affordable)
        windows = self.tools.pool.draw(count, self.windows)
        if not windows:
            return []
        self.windows += windows
        self.num_scores -= len(windows) * len(self.origins)
        return [Request(genome, windows, origin) for genome, origin in self.origins.items()]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        for one in evaluations:
            self.losses.setdefault(one.genome, []).extend(window_losses(one))
        left = list(self.origins)
        if self.incumbent is None:
            places = survivors([self.losses[one] for one in left], self.tools.settings.significance)
            kept = [left[place] for place in places] or left
        else:
            kept = [self.incumbent, *self._better()]
        self.origins = {one: self.origins[one] for one in kept}

    def _better(self) -> list[Genome]:
        """Return the better half of the challengers, of those that are better than the incumbent."""
        challengers = [one for one in self.origins if one != self.incumbent]
        ranked = sorted(challengers, key=self._mean)[: math.ceil(len(challengers) / 2)]
        return [one for one in ranked if self._mean(one) < self._mean(self.incumbent)]

    @property
    def gain(self) -> float:
        """Of the best challenger that is surely better than the incumbent, in nats per token; 0 if there is none."""
        return max(self._sure_gains().values(), default=0.0)

    @property
    def proposals(self) -> dict[Genome, str]:
        if self.incumbent is None:
            return self.origins if self.losses or len(self.origins) == 1 else {}  # one seed needs no race
        gains = self._sure_gains()
        return {one: self.origins[one] for one in sorted(gains, key=lambda one: -gains[one])[:1]}

    def _sure_gains(self) -> dict[Genome, float]:
        if self.incumbent is None or not self.losses:
            return {}
        old = self.losses[self.incumbent]
        gains = {one: gain(self.losses[one], old, ACCEPTANCE) for one in self.origins if one != self.incumbent}
        return {one: found.mean for one, found in gains.items() if found.low > 0}

    def _mean(self, genome: Genome | None) -> float:
        return float(np.mean(self.losses[genome])) if genome in self.losses else math.inf


def select(
    evaluations: Sequence[Evaluation], baselines: Container[Genome], num_documents: int, level: float
) -> tuple[Evaluation | None, Gain | None]:
    """Return the winner among finalists, and the gain of the best that is no baseline; see `racing.choose`.

    Args:
        evaluations: of the finalists, on the same windows.
        baselines: which of them need no search.
        num_documents: of the search.
        level: chance that a bound of the gain does not hold.
    """
    losses = {one.genome: by_document(window_losses(one), one.documents, num_documents) for one in evaluations}
    known = {genome: own for genome, own in losses.items() if genome in baselines}
    found = {genome: own for genome, own in losses.items() if genome not in baselines}
    winner, gained = choose(known, found, level)
    return next((one for one in evaluations if one.genome == winner), None), gained


def selection_terms(level: float, num_documents: int, windows: Sequence[int]) -> dict[str, Any]:
    """Return what a state holds of the choice among finalists: for who reads the run, and to go on with the same."""
    return {"level": level, "num_documents": num_documents, "windows": list(windows)}


def check_selection(state: Mapping[str, Any], windows: Sequence[int]) -> None:
    """Refuse the state of a search that keeps other windows for the choice, which it may have searched on.

    Raises:
        ValueError: its windows are others, as in runs of earlier versions.
    """
    if state["selection"].get("windows") != list(windows):
        raise ValueError("the windows of the selection must be those of this version, which chooses them by the seed")


def window_losses(evaluation: Evaluation) -> list[float]:
    """Return the loss on each of the `documents`, which are windows, in nats per token, infinite for a failure."""
    if evaluation.failed:
        return [math.inf] * len(evaluation.documents)
    return [nats / tokens for nats, tokens in zip(evaluation.nats, evaluation.tokens, strict=True)]


def loss_or_infinity(evaluation: Evaluation) -> float:
    """Return the loss to rank by, infinite for a failure."""
    return math.inf if evaluation.failed else evaluation.loss
