"""Emitters of the default search: each makes a proposal from the incumbent in its own way, at a known cost.

A proposal is a generator: it yields requests, is sent their evaluations, and returns a genome, None if it has none.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import numpy as np

from ..operators import crossover, distinct, mutate
from ..racing import survivors
from ..settings import HybridSettings
from ..space import Genome, Space
from .base import GRADIENT_SCORES, Evaluation, Request
from .explorer import Explorer
from .gradient import Adam, Descent, mean_gradient
from .windows import Deck

BETA1 = 0.9
"""Decay of Adam's mean gradient, as its authors have it (arXiv 1412.6980)."""

Proposal = Generator[list[Request], Sequence[Evaluation], Genome | None]


class Emitter(ABC):
    """A way to propose something better than the incumbent; it learns from whether its proposals were."""

    def __init__(self, name: str, settings: HybridSettings, space: Space, deck: Deck, rng: np.random.Generator) -> None:
        self.name, self.settings, self.space, self.deck, self.rng = name, settings, space, deck, rng
        self.failures = 0
        """Proposals in a row that were no gain: the next looks closer, on more windows."""
        self.turns = 0
        """Proposals made."""
        self.rate = math.inf
        """Gain of the last proposal per score that it cost, in nats per token; infinite before the first."""

    @abstractmethod
    def propose(self, incumbents: Sequence[Genome], num_scores: int) -> Proposal:
        """Spend at most so many scores on a proposal that starts from the last of the incumbents."""

    def credit(self, gain: float, num_scores: int) -> None:
        """Take note of what the last proposal gained, 0 if nothing, and of what it cost."""
        self.turns += 1
        self.failures = 0 if gain > 0 else self.failures + 1
        self.rate = gain / max(num_scores, 1)

    @property
    def num_windows(self) -> int:
        """Windows that candidates share: one at first, twice as many after each failure."""
        return 2**self.failures


class SmoothEmitter(Emitter):
    """An evolution strategy in smooth coordinates; its proposal is the average of the later means.

    Each generation shares fresh windows, so that its candidates are ranked by themselves and not by the luck of a
    window, and no window is fitted.
    """

    def __init__(self, *args: object, num_knots: int) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.num_knots = min(num_knots, self.space.num_pairs)

    def propose(self, incumbents: Sequence[Genome], num_scores: int) -> Proposal:
        settings = self.settings
        size = settings.population_size
        sigma = settings.sigma * settings.sigma_decay**self.turns
        explorer = Explorer(self.space, incumbents[-1], self.num_knots, sigma, size, int(self.rng.integers(2**32)))
        num_windows = min(self.num_windows, max(num_scores // (size * settings.min_generations), 1))
        for _ in range(num_scores // (size * num_windows)):
            windows = self.deck.draw(num_windows)
            evaluations = yield [Request(genome, windows, self.name) for genome in explorer.ask()]
            explorer.tell([loss_or_infinity(evaluation) for evaluation in evaluations])
        return explorer.average(settings.averaged_share) if explorer.generation else None


class DescentEmitter(Emitter):
    """Adam on the gradient, each step on fresh windows; its proposal is the average of the later points.

    Steps shrink linearly to nothing. Together they lead a share of the range of log lambda, whatever their number, as
    long as none is larger than `largest_step`.
    """

    def propose(self, incumbents: Sequence[Genome], num_scores: int) -> Proposal:
        settings = self.settings
        num_steps = num_scores // (GRADIENT_SCORES * self.num_windows)
        if num_steps == 0:
            return None
        span = math.log(self.space.upper / self.space.lower)
        share = 2 * settings.descent_travel * settings.sigma_decay**self.turns / num_steps
        adam = Adam(span * min(share, settings.largest_step), BETA1, settings.beta2)
        num_knots = min(settings.num_descent_knots, self.space.num_pairs)
        descent = Descent(self.space, incumbents[-1], num_knots, adam)
        for number in range(num_steps):
            windows = self.deck.draw(self.num_windows)
            (evaluation,) = yield [Request(descent.genome, windows, self.name, gradient=True)]
            if not evaluation.failed:
                descent.step(*mean_gradient(evaluation), share=1 - number / num_steps)
            elif not descent.num_steps:
                return None
        return descent.average(settings.averaged_share)


class StartTokenEmitter(Emitter):
    """The incumbent with each choice of start tokens, halved round by round."""

    def propose(self, incumbents: Sequence[Genome], num_scores: int) -> Proposal:
        incumbent = incumbents[-1]
        choices = self.space.start_token_choices[:: max(3 - self.failures, 1)]
        candidates = [incumbent, *(replace(incumbent, start_tokens=choice) for choice in choices)]
        best = yield from halve(candidates, self.deck, self.name, num_scores, self.num_windows)
        return best


class BreedingEmitter(Emitter):
    """Mutations of the incumbent and crossovers with earlier ones, in full coordinates, raced against it."""

    def propose(self, incumbents: Sequence[Genome], num_scores: int) -> Proposal:
        runners = self._breed(incumbents)
        losses: dict[Genome, list[float]] = {}
        for _ in range(self.settings.race_rounds * self.num_windows):
            if len(runners) < 2 or len(runners) > num_scores:
                break
            num_scores -= len(runners)
            windows = self.deck.draw(1)
            evaluations = yield [Request(genome, windows, origin) for genome, origin in runners.items()]
            for evaluation in evaluations:
                losses.setdefault(evaluation.genome, []).append(loss_or_infinity(evaluation))
            names = list(runners)
            kept = survivors([losses[one] for one in names], 1, self.settings.significance)
            runners = {names[place]: runners[names[place]] for place in sorted(kept)}
        scored = [one for one in runners if one in losses]
        return min(scored, key=lambda one: sum(losses[one]), default=None)

    def _breed(self, incumbents: Sequence[Genome]) -> dict[Genome, str]:
        """Return the incumbent and new children with their origins."""
        incumbent, settings, rng = incumbents[-1], self.settings, self.rng
        children = {incumbent: "incumbent"}

        def mutant() -> Genome:
            return mutate(incumbent, self.space, rng, settings.mutation_probability)

        def child() -> Genome:
            return crossover(incumbent, incumbents[int(rng.integers(len(incumbents)))], rng)

        makers: list[tuple[str, Callable[[], Genome]]] = [("mutation", mutant)] * settings.num_mutations
        makers += [("crossover", child)] * settings.num_crossovers
        for origin, make in makers:
            if (genome := distinct(make, children, settings.max_attempts)) is not None:
                children[genome] = origin
        return children


def halve(
    candidates: Sequence[Genome], deck: Deck, origin: str | Callable[[Genome], str], num_scores: int, num_windows: int
) -> Proposal:
    """Return the best of the candidates: every round scores who is left on fresh windows and drops the worse half."""
    losses: dict[Genome, list[float]] = {one: [] for one in dict.fromkeys(candidates)}
    while len(losses) > 1 and len(losses) * num_windows <= num_scores:
        num_scores -= len(losses) * num_windows
        windows = deck.draw(num_windows)
        name = origin if callable(origin) else lambda genome: origin
        evaluations = yield [Request(genome, windows, name(genome)) for genome in losses]
        for evaluation in evaluations:
            losses[evaluation.genome].append(loss_or_infinity(evaluation) * len(windows))
        ranked = sorted(losses, key=lambda one: sum(losses[one]))
        losses = {one: losses[one] for one in ranked[: math.ceil(len(ranked) / 2)]}
    best = min(losses, key=lambda one: sum(losses[one]))
    return best if math.isfinite(sum(losses[best])) else None


def loss_or_infinity(evaluation: Evaluation) -> float:
    """Return the loss to rank by, infinite for a failure."""
    return math.inf if evaluation.failed else evaluation.loss
