"""Stages of the default search: each makes one proposal from the incumbent in its own way, at a known cost."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np

from ..operators import crossover, distinct, mutate
from ..racing import p_value_of_worse, survivors
from ..settings import HybridSettings
from ..space import Genome, Space
from .base import GRADIENT_SCORES, PROBE, Evaluation, Request
from .explorer import Explorer
from .gradient import Adam, Descent, mean_gradient
from .windows import WindowPool

BETA1 = 0.9
"""Decay of Adam's mean gradient, as its authors have it (arXiv 1412.6980)."""


@dataclass(frozen=True)
class Tools:
    """What all stages of a search use."""

    settings: HybridSettings
    space: Space
    pool: WindowPool
    rng: np.random.Generator


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
    def result(self) -> Genome | None:
        """What it proposes in the end, None if nothing."""

    def state(self) -> dict[str, Any]:
        """Return what `serialization` can store."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "tools"}

    @classmethod
    def restored(cls, tools: Tools, state: Mapping[str, Any]) -> Self:
        """Undo `state`."""
        return cls(tools, **state)


@dataclass
class Halving(Stage):
    """Successive halving: every round scores who is left on fresh windows and drops the worse half."""

    origins: dict[Genome, str]
    """Candidates and where they come from."""
    num_scores: int
    """Scores left to spend."""
    num_windows: int
    """Windows of a round."""
    losses: dict[Genome, list[float]] = field(default_factory=dict)
    """Losses of who is left, in nats per token times windows, by round."""

    def __post_init__(self) -> None:
        self.losses = self.losses or {genome: [] for genome in self.origins}

    def ask(self) -> list[Request]:
        num_needed = len(self.losses) * self.num_windows
        if len(self.losses) == 1 or num_needed > self.num_scores:
            return []
        self.num_scores -= num_needed
        windows = self.tools.pool.draw(self.num_windows)
        return [Request(genome, windows, self.origins[genome]) for genome in self.losses]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        for one in evaluations:
            self.losses[one.genome].append(loss_or_infinity(one) * len(one.request.documents))
        ranked = sorted(self.losses, key=self._total)
        self.losses = {genome: self.losses[genome] for genome in ranked[: math.ceil(len(ranked) / 2)]}

    @property
    def result(self) -> Genome | None:
        best = min(self.losses, key=self._total)
        return best if math.isfinite(self._total(best)) else None

    def _total(self, genome: Genome) -> float:
        return sum(self.losses[genome])


@dataclass
class Evolution(Stage):
    """An evolution strategy in smooth coordinates; its proposal is the average of the later means.

    Each generation shares fresh windows, so that its candidates are ranked by themselves and not by the luck of a
    window, and no window is fitted.
    """

    origin: str
    explorer: Explorer
    num_windows: int
    """Windows that the candidates of a generation share."""
    num_generations: int
    """Generations in all."""

    def ask(self) -> list[Request]:
        if self.explorer.generation == self.num_generations:
            return []
        windows = self.tools.pool.draw(self.num_windows)
        return [Request(genome, windows, self.origin) for genome in self.explorer.ask()]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self.explorer.tell([loss_or_infinity(evaluation) for evaluation in evaluations])

    @property
    def result(self) -> Genome | None:
        return self.explorer.average(self.tools.settings.averaged_share) if self.explorer.generation else None

    def state(self) -> dict[str, Any]:
        return {**super().state(), "explorer": self.explorer.state()}

    @classmethod
    def restored(cls, tools: Tools, state: Mapping[str, Any]) -> Self:
        return cls(tools, **{**state, "explorer": Explorer(tools.space, **state["explorer"])})


@dataclass
class Descending(Stage):
    """Adam on the gradient, each step on fresh windows; its proposal is the average of the later points.

    Steps shrink linearly to nothing. Together they lead a share of the range of log lambda, whatever their number, as
    long as none is larger than `largest_step`.
    """

    origin: str
    descent: Descent
    num_windows: int
    """Windows whose gradients are averaged in a step."""
    num_steps: int
    """Steps in all."""
    step: int = 0
    """Number of the next step, from 0."""
    failed: bool = False
    """Whether the first step failed: what fails at once, such as a lack of memory, will fail again."""

    def ask(self) -> list[Request]:
        if self.failed or self.step == self.num_steps:
            return []
        return [Request(self.descent.genome, self.tools.pool.draw(self.num_windows), self.origin, gradient=True)]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        (evaluation,) = evaluations
        if not evaluation.failed:
            self.descent.step(*mean_gradient(evaluation), share=1 - self.step / self.num_steps)
        elif not self.descent.num_steps:
            self.failed = True
        self.step += 1

    @property
    def result(self) -> Genome | None:
        return self.descent.average(self.tools.settings.averaged_share) if self.descent.num_steps else None

    def state(self) -> dict[str, Any]:
        return {**super().state(), "descent": self.descent.state()}

    @classmethod
    def restored(cls, tools: Tools, state: Mapping[str, Any]) -> Self:
        return cls(tools, **{**state, "descent": Descent.restored(tools.space, state["descent"])})


@dataclass
class Racing(Stage):
    """Candidates in full coordinates race: who is surely worse than the best drops out after each window."""

    origins: dict[Genome, str]
    """Who is left, and where they come from."""
    num_scores: int
    """Scores left to spend."""
    num_rounds: int
    """Windows left."""
    losses: dict[Genome, list[float]] = field(default_factory=dict)
    """Losses of all candidates, in nats per token, by window."""

    def ask(self) -> list[Request]:
        if not self.num_rounds or len(self.origins) < 2 or len(self.origins) > self.num_scores:
            return []
        self.num_rounds -= 1
        self.num_scores -= len(self.origins)
        windows = self.tools.pool.draw(1)
        return [Request(genome, windows, origin) for genome, origin in self.origins.items()]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            self.losses.setdefault(evaluation.genome, []).append(loss_or_infinity(evaluation))
        genomes = list(self.origins)
        kept = survivors([self.losses[one] for one in genomes], 1, self.tools.settings.significance)
        self.origins = {genomes[place]: self.origins[genomes[place]] for place in sorted(kept)}

    @property
    def result(self) -> Genome | None:
        scored = [one for one in self.origins if one in self.losses]
        return min(scored, key=lambda one: sum(self.losses[one]), default=None)


@dataclass
class Comparison(Stage):
    """The incumbent and a challenger on fresh windows, until one is surely better or the windows are spent."""

    incumbent: Genome
    challenger: Genome
    origin: str
    """Where the challenger comes from."""
    num_scores: int
    """Scores left to spend."""
    losses: list[list[float]] = field(default_factory=lambda: [[], []])
    """Losses of incumbent and challenger, in nats per token, by window."""
    level: float = 1.0
    """Level at which one is better than the other by the paired test."""

    def ask(self) -> list[Request]:
        settings, num_windows = self.tools.settings, len(self.losses[0])
        decided = num_windows >= settings.min_comparison_windows and self.level <= settings.significance
        if decided or num_windows >= settings.comparison_windows or self.num_scores < 2:
            return []
        self.num_scores -= 2
        windows = self.tools.pool.draw(1)
        return [Request(self.incumbent, windows, "incumbent"), Request(self.challenger, windows, self.origin)]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        for side, evaluation in zip(self.losses, evaluations, strict=True):
            side.append(loss_or_infinity(evaluation))
        old, new = map(np.array, self.losses)
        self.level = min(p_value_of_worse(new, old), p_value_of_worse(old, new))

    @property
    def result(self) -> Genome | None:
        """The challenger if its mean loss is the lower one."""
        return self.challenger if self.losses[0] and np.mean(self.losses[1]) < np.mean(self.losses[0]) else None

    @property
    def sure_gain(self) -> float:
        """How much lower the challenger's loss is, in nats per token; 0 if that is not sure."""
        if self.result is None or self.level > self.tools.settings.significance:
            return 0.0
        return float(np.mean(self.losses[0]) - np.mean(self.losses[1]))


@dataclass
class Probe(Stage):
    """A new incumbent on the probe windows, for the search curve alone: nothing is decided by it."""

    incumbent: Genome
    windows: tuple[int, ...]
    asked: bool = False

    def ask(self) -> list[Request]:
        requests = [] if self.asked else [Request(self.incumbent, self.windows, PROBE)]
        self.asked = True
        return requests

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        pass

    @property
    def result(self) -> Genome | None:
        return None


KINDS = (Halving, Evolution, Descending, Racing, Comparison, Probe)
STAGES: dict[str, type[Stage]] = {cls.__name__: cls for cls in KINDS}
"""Stages by the name they are stored under."""


@dataclass
class Record:
    """How a kind of stage has done; the search goes on with the kind that gained most per score."""

    failures: int = 0
    """Proposals in a row that were no gain: the next looks closer, on more windows."""
    proposals: int = 0
    """Proposals made."""
    rate: float = math.inf
    """Gain of the last proposal per score that it cost, in nats per token; infinite before the first."""

    def credit(self, gain: float, num_scores: int) -> None:
        """Take note of what the last proposal gained, 0 if nothing, and of what it cost."""
        self.proposals += 1
        self.failures = 0 if gain > 0 else self.failures + 1
        self.rate = gain / max(num_scores, 1)

    @property
    def num_windows(self) -> int:
        """Windows that candidates share: one at first, twice as many after each failure."""
        return 2**self.failures


def new_stage(kind: str, tools: Tools, record: Record, incumbents: Sequence[Genome], num_scores: int) -> Stage:
    """Return a stage of a kind that starts from the last incumbent and spends at most so many scores."""
    if kind == "descent":
        return _new_descent(kind, tools, record, incumbents[-1], num_scores)
    if kind == "variation":
        num_rounds = tools.settings.race_rounds * record.num_windows
        return Racing(tools, _children(tools, incumbents), num_scores, num_rounds)
    if kind == "start_tokens":
        choices = tools.space.start_token_choices[:: max(3 - record.failures, 1)]
        incumbent = incumbents[-1]
        variants = [incumbent, *(replace(incumbent, start_tokens=choice) for choice in choices)]
        return Halving(tools, dict.fromkeys(variants, kind), num_scores, record.num_windows)
    num_knots = tools.settings.num_knots if kind == "smooth" else tools.settings.num_fine_knots
    return _new_evolution(kind, tools, record, incumbents[-1], num_scores, num_knots)


def _new_evolution(
    kind: str, tools: Tools, record: Record, incumbent: Genome, num_scores: int, num_knots: int
) -> Evolution:
    settings, space = tools.settings, tools.space
    size = settings.population_size
    sigma = settings.sigma * settings.sigma_decay**record.proposals
    seed = int(tools.rng.integers(2**32))
    explorer = Explorer.start(space, incumbent, min(num_knots, space.num_pairs), sigma, size, seed)
    num_windows = min(record.num_windows, max(num_scores // (size * settings.min_generations), 1))
    return Evolution(tools, kind, explorer, num_windows, num_scores // (size * num_windows))


def _new_descent(kind: str, tools: Tools, record: Record, incumbent: Genome, num_scores: int) -> Descending:
    settings, space = tools.settings, tools.space
    num_steps = num_scores // (GRADIENT_SCORES * record.num_windows)
    span = math.log(space.upper / space.lower)
    share = 2 * settings.descent_travel * settings.sigma_decay**record.proposals / max(num_steps, 1)
    adam = Adam(span * min(share, settings.largest_step), BETA1, settings.beta2)
    descent = Descent(space, incumbent, min(settings.num_descent_knots, space.num_pairs), adam)
    return Descending(tools, kind, descent, record.num_windows, num_steps)


def _children(tools: Tools, incumbents: Sequence[Genome]) -> dict[Genome, str]:
    """Return the incumbent, mutations of it, and crossovers of it with earlier ones, with their origins."""
    incumbent, settings, rng = incumbents[-1], tools.settings, tools.rng
    children = {incumbent: "incumbent"}

    def mutant() -> Genome:
        return mutate(incumbent, tools.space, rng, settings.mutation_probability)

    def child() -> Genome:
        return crossover(incumbent, incumbents[int(rng.integers(len(incumbents)))], rng)

    makers: list[tuple[str, Callable[[], Genome]]] = [("mutation", mutant)] * settings.num_mutations
    makers += [("crossover", child)] * settings.num_crossovers
    for origin, make in makers:
        if (genome := distinct(make, children, settings.max_attempts)) is not None:
            children[genome] = origin
    return children


def loss_or_infinity(evaluation: Evaluation) -> float:
    """Return the loss to rank by, infinite for a failure."""
    return math.inf if evaluation.failed else evaluation.loss
