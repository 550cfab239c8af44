"""One search through the toolkit's own functions, as `longrope search` runs it, with its record in memory."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from longrope.cli.model_search import search_space
from longrope.cli.seeds import seed_options
from longrope.evaluation.objectives.base import WindowScore
from longrope.evaluation.objectives.gradients import GradientObjective, GradientScore
from longrope.evolution import (
    Budget,
    Gain,
    Genome,
    HistoryRow,
    SearchProgress,
    SearchRecord,
    Settings,
    Space,
    Strategy,
    attention_policy,
    build_seeds,
    build_strategy,
    run_search,
)
from longrope.evolution.racing import by_document
from longrope.evolution.strategies.base import PROBE
from longrope.evolution.strategies.race import window_losses
from longrope.rope import RescaleFactors

from .bench import Bench

MOST_POINTS = 8
"""Points of a trajectory that are judged, the last one included."""

Seeds = Mapping[str, Genome]


class Bound(NamedTuple):
    """What a search says of its gain, before any held-out document is seen."""

    gain: Gain | None
    """Of the best that it found over the best baseline of its selection; None: it found nothing, or can't tell."""
    over: RescaleFactors | None
    """That baseline; None if none was a finalist."""


class Point(NamedTuple):
    """The best candidate known after so many tokens."""

    tokens: int
    factors: RescaleFactors


@dataclass(frozen=True)
class Outcome:
    """What a run found, and what it cost."""

    factors: RescaleFactors
    tokens: int = 0
    """Scored tokens."""
    scores: int = 0
    """Scores, a gradient counted once."""
    trajectory: Sequence[Point] = ()
    """How it got there, without the result itself."""
    bound: Bound | None = None
    """Of searches."""


@dataclass(frozen=True)
class FreshWindows:
    """An objective for strategies that score everybody on the same documents: each call reads a window of its own.

    Windows differ in their loss, so a score is the difference from a reference candidate on the same window; the
    reference is paid for by the first score of the call.
    """

    objective: GradientObjective
    reference: RescaleFactors
    windows: list[int]
    """In the order of their use, from the end."""

    def price(self, document: int, gradient: bool) -> int:
        """Return the tokens of a score at most: its own and those of the reference."""
        return 2 * self.objective.price(document, gradient)

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> list[WindowScore]:
        """Return one score per candidate, in order, on the next window."""
        window = self.windows.pop()
        self.windows.insert(0, window)
        reference, *scores = self.objective.score([self.reference, *candidates], window)
        assert reference.nats is not None, "the reference was scored before"
        return [
            score
            if score.nats is None
            else replace(
                score,
                nats=score.nats - reference.nats,
                forwarded=score.forwarded + (reference.forwarded if number == 0 else 0),
            )
            for number, score in enumerate(scores)
        ]

    def gradient(self, candidate: RescaleFactors, document: int) -> GradientScore:
        """Refuse: the strategies this is for ask for none."""
        raise NotImplementedError


@dataclass
class Search:
    """A search that is ready to run."""

    bench: Bench
    settings: Settings
    seed: int
    best: list[tuple[int, Genome]] = field(default_factory=list)
    """The strategy's best after each generation, with the tokens spent by then."""

    def __post_init__(self) -> None:
        config, geometry = self.bench.config(self.seed), self.bench.geometry
        self.space: Space = search_space(self.settings, config, geometry)
        self.options = seed_options(config, geometry)
        self.policy = attention_policy(config.attention_factor, geometry, self.space)
        self.objective = self.bench.objective(self.settings, self.seed)

    def build(self, genome: Genome) -> RescaleFactors:
        """Return the factors of a genome."""
        return self.space.factors(genome, self.bench.geometry, self.bench.target_length, self.policy)

    def seeds(self) -> Seeds:
        """Return what `longrope search` begins at with these settings."""
        return build_seeds(self.options, self.bench.geometry, self.space)

    def same_seeds(self) -> Seeds:
        """Return the rescale factors that a search with an attention gene begins at, in a space without one."""
        wide = build_seeds(self.options, self.bench.geometry, replace(self.space, search_attention=True))
        seeds: dict[str, Genome] = {}
        for name, genome in wide.items():
            if (plain := replace(genome, attention=None)) not in seeds.values():
                seeds[name] = plain
        return seeds

    def fresh(self, reference: RescaleFactors) -> FreshWindows:
        """Return the objective on windows that no two calls share, as long as there are any."""
        return FreshWindows(self.objective, reference, self.window_order())

    def window_order(self) -> list[int]:
        """Return all windows of the search documents, shuffled."""
        data = self.bench.search_documents(self.settings, self.seed)
        count = len(data.documents) * self.settings.windows_per_document
        return np.random.default_rng(self.seed).permutation(count).tolist()

    def run(
        self, seeds: Seeds, scores: int | None = None, objective: Any = None, documents: int | None = None
    ) -> Outcome:
        """Search to the end.

        Args:
            seeds: where to begin.
            scores: what may be spent; None: what the strategy asks for.
            objective: in place of the own one.
            documents: that the strategy knows of, where they are not those of the settings.
        """
        price = self.objective.price(0, False)
        known = len(self.bench.search_documents(self.settings, self.seed).documents)
        strategy = build_strategy(self.settings, self.space, seeds, documents or known, self.seed)
        record = SearchRecord()
        budget = Budget(None if scores is None else scores * price)
        listener = self._listener(strategy) if scores is not None else None
        result = run_search(strategy, objective or self.objective, record, self.build, listener, budget)
        points = [Point(tokens, self.build(genome)) for tokens, genome in self._points(record.rows)]
        spent = sum(row.forwarded for row in record.rows)
        over = best_baseline(record, set(seeds.values()), known)
        bound = Bound(result.gain, None if over is None else self.build(over))
        return Outcome(self.build(result.best.genome), spent, len(record.rows), points, bound)

    def _listener(self, strategy: Strategy) -> Callable[[SearchProgress], None]:
        def listen(progress: SearchProgress) -> None:
            if (best := strategy.best) is not None:
                self.best.append((progress.scored_tokens, best.genome))

        return listen

    def _points(self, rows: Sequence[HistoryRow]) -> list[tuple[int, Genome]]:
        """Return who was the best known when, at some places of the search."""
        if any(row.origin == PROBE for row in rows):
            found = probed(rows)
        else:
            found = changes(self.best) if self.best else best_by_generation(rows)
        places = np.unique(np.geomspace(1, len(found), MOST_POINTS - 1).round().astype(int)) if found else []
        return [found[place - 1] for place in places]


def best_baseline(record: SearchRecord, baselines: Collection[Genome], num_documents: int) -> Genome | None:
    """Return the baseline that did best among the finalists, None if none is there."""
    if record.last is None:
        return None
    last = record.last.proposal
    finalists = [record.evaluation(one, last.generation) for one in last.requests if one.genome in baselines]
    losses = {
        one.genome: float(by_document(window_losses(one), one.documents, num_documents).mean()) for one in finalists
    }
    return min(losses, key=lambda genome: losses[genome], default=None)


def probed(rows: Sequence[HistoryRow]) -> list[tuple[int, Genome]]:
    """Return the incumbents of a strategy that probes each one, with the tokens spent by then."""
    spent, found = 0, {}
    for row in rows:
        spent += row.forwarded
        if row.origin == PROBE:
            found[row.genome] = spent
    return [(tokens, genome) for genome, tokens in found.items()]


def changes(best: Sequence[tuple[int, Genome]]) -> list[tuple[int, Genome]]:
    """Return where a best candidate gives way to another."""
    return [point for place, point in enumerate(best) if place == 0 or point[1] != best[place - 1][1]]


def best_by_generation(rows: Sequence[HistoryRow]) -> list[tuple[int, Genome]]:
    """Return the candidate of the lowest mean loss after each generation, for strategies that score all alike."""
    losses: dict[Genome, list[float]] = {}
    ends = {row.generation: place for place, row in enumerate(rows)}
    points: list[tuple[int, Genome]] = []
    spent = 0
    for place, row in enumerate(rows):
        spent += row.forwarded
        losses.setdefault(row.genome, []).append(math.inf if row.nats is None else row.nats / row.tokens)
        if ends[row.generation] == place:
            points.append((spent, min(losses, key=lambda genome: sum(losses[genome]))))
    return points
