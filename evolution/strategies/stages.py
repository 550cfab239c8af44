"""Where the default search's challengers come from: ramps, gradients, mutation and crossover."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from deap import base

from ..coordinates import KnotCoordinates, Vector
from ..operators import crossover, distinct, mutate
from ..space import Genome
from .base import GRADIENT_SCORES, Evaluation, Request
from .explorer import Explorer
from .race import ROUND_WINDOWS, Race, Stage, Tools, loss_or_infinity

POPULATION = 8
"""Candidates of an evolution strategy at least; more devices get more."""
NUM_KNOTS = 16
"""Knots of a profile: all pairs follow the noise of single windows, few knots miss the sensitive ones."""
FAR = "profile:far"
"""Origin of the longest step along the gradient."""
STEP_LENGTHS = (2.0, 1.0, 0.5, 0.25, 0.125)
"""Shares of the trust region that a step along the gradient is tried with."""
SIGMA = 0.5
"""First standard deviation of CMA-ES, as a share of the trust region."""
LEAST_GRADIENTS = 2
"""Windows of a gradient at least: from one alone nobody knows what of it is noise."""
NUM_SLOPELESS_KNOTS = 8
"""Knots of a profile without gradients: evolution learns few from few scores."""
MUTATION_PROBABILITY = 0.1
"""Of a gene: about three of 32 pairs."""
MAX_ATTEMPTS = 20
"""Draws of a new child before giving up on it."""


@dataclass
class Evolution(Stage):
    """CMA-ES around the incumbent; it proposes means, and the incumbent with other start tokens."""

    kind: str
    """`family` over ramps, `profile` over knots."""
    explorer: Explorer
    num_generations: int
    """Generations left."""
    start_tokens: tuple[int, ...]
    """Start tokens that the incumbent is tried with, too."""

    def ask(self) -> list[Request]:
        if not self.num_generations:
            return []
        self.num_generations -= 1
        genomes = self.explorer.ask()
        windows = self.tools.pool.draw(self.tools.num_windows(len(genomes), 1))
        return [Request(genome, windows, self.kind) for genome in genomes]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self.explorer.tell([loss_or_infinity(one) for one in evaluations])

    @property
    def proposals(self) -> dict[Genome, str]:
        variants = [replace(self.explorer.origin, start_tokens=one) for one in self.start_tokens]
        return dict.fromkeys(self.explorer.proposals(), self.kind) | dict.fromkeys(variants, "start_tokens")

    def state(self) -> dict[str, Any]:
        return {**super().state(), "explorer": self.explorer.state()}

    @classmethod
    def restored(cls, tools: Tools, state: Mapping[str, Any]) -> Self:
        return cls(tools, **{**state, "explorer": Explorer(tools.space, **state["explorer"])})


@dataclass
class Gradients(Stage):
    """Gradients at the incumbent over many windows in one generation; it proposes steps of several lengths."""

    origin: Genome
    num_windows: int
    radius: float
    """Of the trust region: change of log lambda that steps are shares of."""
    samples: list[Vector] = field(default_factory=list)
    """Gradient of each window."""
    asked: bool = False

    def ask(self) -> list[Request]:
        if self.asked:
            return []
        self.asked = True
        return [Request(self.origin, self.tools.pool.draw(self.num_windows), "profile", gradient=True)]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        (one,) = evaluations
        if not one.failed:
            pairs = zip(one.gradients, one.tokens, strict=True)
            knots = self._knots
            self.samples = [knots.gradient(np.array(g.log_lambda), g.log_attention) / tokens for g, tokens in pairs]

    @property
    def proposals(self) -> dict[Genome, str]:
        if len(self.samples) < LEAST_GRADIENTS:
            return {}
        direction = descent_direction(np.array(self.samples))
        steps = [self._knots.genome(self.radius * share * direction) for share in STEP_LENGTHS]
        return {one: "profile" if number else FAR for number, one in enumerate(steps)}

    @property
    def _knots(self) -> KnotCoordinates:
        return KnotCoordinates(self.tools.space, self.origin, NUM_KNOTS)


def descent_direction(samples: Vector) -> Vector:
    """Return where to go, with 1 as the largest change of a coordinate.

    A coordinate's mean gradient is divided by its standard deviation between windows, which is large where the loss
    is steep or curved, and shrunk towards 0 by the share of its square that is noise: `1 / t^2`, with t its t value.

    Args:
        samples: gradient of each window, shape (W, D).
    """
    mean, deviation = samples.mean(axis=0), samples.std(axis=0, ddof=1)
    known = deviation > 1e-9 * np.abs(mean)  # else the same on all windows, but for rounding
    ratio = np.divide(mean, deviation, out=np.sign(mean), where=known)
    noise = np.divide(1, len(samples) * ratio**2, out=np.ones_like(ratio), where=ratio != 0)
    direction = -ratio * np.where(known, np.maximum(1 - noise, 0), 1)
    largest = float(np.abs(direction).max())
    return direction / largest if largest else direction


@dataclass
class Polish(Stage):
    """Mutation and crossover in full coordinates; it proposes the best of its last generation."""

    parents: list[Genome]
    """Who breeds, best first."""
    num_generations: int
    """Generations left."""
    scored: dict[Genome, str] = field(default_factory=dict)
    """The last generation, best first, and where they come from."""

    def ask(self) -> list[Request]:
        if not self.num_generations:
            return []
        self.num_generations -= 1
        self.scored = self._children()
        windows = self.tools.pool.draw(self.tools.num_windows(len(self.scored), 1))
        return [Request(genome, windows, origin) for genome, origin in self.scored.items()]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        ranked = sorted((one for one in evaluations if not one.failed), key=lambda one: one.loss)
        self.scored = {one.genome: self.scored[one.genome] for one in ranked}
        best = list(self.scored)[: math.ceil(len(ranked) / 4)]
        self.parents = best if len(best) > 1 else [*best, *self.parents]

    @property
    def proposals(self) -> dict[Genome, str]:
        return dict(list(self.scored.items())[: len(STEP_LENGTHS)])

    def _children(self) -> dict[Genome, str]:
        space, rng = self.tools.space, self.tools.rng
        toolbox: Any = base.Toolbox()
        toolbox.register("mutate", mutate, space=space, rng=rng, probability=MUTATION_PROBABILITY)
        toolbox.register("mate", crossover, rng=rng)

        def parent() -> Genome:
            return self.parents[int(rng.integers(len(self.parents)))]

        makers: dict[str, Callable[[], Genome]] = {
            "mutation": lambda: toolbox.mutate(parent()),
            "crossover": lambda: toolbox.mutate(toolbox.mate(parent(), parent())),
        }
        children: dict[Genome, str] = {}
        for number in range(population_size(self.tools)):
            origin = ("mutation", "crossover")[number % 2]
            if (child := distinct(makers[origin], {*children, *self.parents}, MAX_ATTEMPTS)) is not None:
                children[child] = origin
        return children


KINDS = (Race, Evolution, Gradients, Polish)
STAGES: dict[str, type[Stage]] = {cls.__name__: cls for cls in KINDS}
"""Stages by the name they are stored under."""


@dataclass
class Record:
    """How a kind of stage has done; the search goes on with the kind that gained most per score."""

    failures: int = 0
    """Stages in a row without a gain: the next looks closer, on more windows."""
    rate: float = math.inf
    """Gain of the last one per score that it cost, in nats per token; infinite before the first."""

    radius: float = 1.0
    """Share of the trust region: half after a failure, twice after a success of the longest step."""

    def credit(self, gain: float, num_scores: int, origin: str = "") -> None:
        """Take note of what the last stage gained, 0 if nothing, what it cost, and where the winner came from."""
        self.failures = 0 if gain > 0 else self.failures + 1
        self.radius *= 0.5 if self.failures else 2.0 if origin == FAR else 1.0
        self.rate = gain / max(num_scores, 1)


def population_size(tools: Tools) -> int:
    """Return the candidates of a generation: more where more are scored at once, in proportion to the root."""
    return max(POPULATION, round(math.sqrt(2 * tools.width)))


def new_stage(
    kind: str, tools: Tools, record: Record, incumbents: Sequence[Genome], num_scores: int, gradients: bool
) -> Stage:
    """Return a stage of a kind.

    Args:
        kind: family, profile or polish.
        tools: of the search.
        record: of the kind.
        incumbents: so far; it starts from the last one.
        num_scores: what it may spend.
        gradients: whether the objective has any.
    """
    radius = record.radius * tools.settings.trust_radius * math.log(tools.space.scale)
    num_gradients = min(num_scores // GRADIENT_SCORES, max(tools.width, LEAST_GRADIENTS))
    if kind == "profile" and gradients and num_gradients >= LEAST_GRADIENTS:
        return Gradients(tools, incumbents[-1], num_gradients, radius)
    size = population_size(tools)
    cost = size * tools.num_windows(size, 1)
    if kind == "polish":
        return Polish(tools, list(incumbents[-2:]), max(num_scores // cost, 1))
    seed, num_knots = int(tools.rng.integers(2**32)), NUM_SLOPELESS_KNOTS if kind == "profile" else 0
    explorer = Explorer.start(tools.space, incumbents[-1], num_knots, SIGMA * radius, size, seed)
    start_tokens = _start_tokens(tools, incumbents[-1]) if kind == "family" else ()
    return Evolution(tools, kind, explorer, max(num_scores // cost, 1), start_tokens)


def _start_tokens(tools: Tools, incumbent: Genome) -> tuple[int, ...]:
    """Return other start tokens than the incumbent's, as many as fit into a generation."""
    choices = [one for one in tools.space.start_token_choices if one != incumbent.start_tokens]
    count = max(tools.width // ROUND_WINDOWS - 4, 1)
    return tuple(choices[int(place)] for place in tools.rng.permutation(len(choices))[:count])
