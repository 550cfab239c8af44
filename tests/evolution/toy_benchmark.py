"""A model of what a search meets: a smooth optimum, documents that each pull to a side, and few of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from longrope.evolution import Evaluation, Genome, Gradient, Request, Settings, Space, Strategy, build_strategy

NUM_PAIRS, SCALE, NUM_DOCUMENTS = 32, 8.0, 12
POSITION = np.linspace(0, 1, NUM_PAIRS)
BEST = np.log(SCALE) * np.clip(1.25 * POSITION - 0.1, 0, 1.1) ** 1.7
WEIGHT = 0.02 * np.exp(-(((POSITION - 0.6) / 0.35) ** 2))
BEST_ATTENTION = 1.15


@cache
def pull(window: int) -> np.ndarray:
    """Return to where a window moves the optimum: its document and itself each pull smoothly to a random side."""
    document = np.random.default_rng((1, window % NUM_DOCUMENTS)).normal(size=5)
    own = np.random.default_rng((2, window)).normal(size=5)
    knots = np.linspace(0, 1, 5)
    return np.interp(POSITION, knots, (document + own) / np.sqrt(2))


@cache
def difficulty(window: int) -> float:
    """Return what is added to every loss on a window."""
    return float(np.random.default_rng((3, window)).normal(0, 0.3))


@dataclass
class Toy:
    """Loss of a genome on a window: difficulty of the window, and distances to an optimum of its own."""

    space: Space
    windows_per_document: int
    spread: float = 0.25

    def optimum(self, window: int | None) -> np.ndarray:
        """Log lambda that is best on a window (None: on all)."""
        return BEST if window is None else BEST + self.spread * pull(window)

    def loss(self, genome: Genome, window: int | None = None) -> float:
        """Return nats per token on a window; None: expected over documents never seen, up to a constant."""
        distance = np.log(self.space.decode(genome)) - self.optimum(window)
        attention = self.space.decode_attention(genome) or BEST_ATTENTION
        added = 0.0 if window is None else difficulty(window)
        start = 1e-4 * genome.start_tokens
        return 2 + added + float(WEIGHT @ distance**2) + (attention - BEST_ATTENTION) ** 2 + start

    def gradient(self, genome: Genome, window: int) -> Gradient:
        """Return the derivatives of the loss on a window."""
        distance = np.log(self.space.decode(genome)) - self.optimum(window)
        attention = self.space.decode_attention(genome) or BEST_ATTENTION
        return Gradient(tuple(2 * WEIGHT * distance), 2 * (attention - BEST_ATTENTION) * attention)

    def answer(self, request: Request, penalty: float = 0.0) -> Evaluation:
        """Return the evaluation of a request, each window one token long."""
        nats = tuple(self.loss(request.genome, window) + penalty for window in request.documents)
        gradients = tuple(self.gradient(request.genome, window) for window in request.documents if request.gradient)
        return Evaluation(request, nats, (1,) * len(nats), gradients=gradients)

    def seeds(self) -> Mapping[str, Genome]:
        """PI, NTK and a YaRN-like ramp, each with the attention factor 1 where that is searched."""
        attention = 1.0 if self.space.search_attention else None
        ramp = np.clip((POSITION - 0.3) / 0.4, 0, 1)
        lambdas = {"pi": np.full(NUM_PAIRS, SCALE), "ntk": SCALE**POSITION, "yarn": 1 / (ramp / SCALE + 1 - ramp)}
        return {name: self.space.encode(values, 0, attention) for name, values in lambdas.items()}


@dataclass(frozen=True)
class Outcome:
    """What a search found, and what it cost."""

    heldout: float
    num_scores: int
    strategy: Strategy


def benchmark(settings: Settings, num_documents: int, seed: int) -> Outcome:
    """Run a search on the toy; return its excess over the least held-out loss, and its scores."""
    toy = Toy(settings.space(NUM_PAIRS, SCALE), settings.windows_per_document)
    strategy = build_strategy(settings, toy.space, toy.seeds(), num_documents, seed)
    num_scores: dict[tuple[Genome, int, bool], int] = {}
    while not strategy.done:
        requests = strategy.ask()
        for one in requests:
            num_scores |= {(one.genome, window, one.gradient): one.scores_per_document for window in one.documents}
        strategy.tell([toy.answer(request) for request in requests])
    assert strategy.best is not None
    return Outcome(toy.loss(strategy.best.genome) - 2, sum(num_scores.values()), strategy)
