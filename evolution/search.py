"""The loop over an objective: ask, record what is asked, score, record the scores, tell."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from ..rope.factors import RescaleFactors
from .budget import Budget
from .history import HistoryRow
from .loop import Loop
from .objective import Objective, Unit, UnitObjective, UnitScores, rows_of_call, score_unit
from .racing import Gain
from .record import SearchRecord
from .space import Genome
from .steady_loop import SteadyLoop
from .strategies import Evaluation, Request, SteadyStrategy, Strategy


@dataclass(frozen=True)
class SearchProgress:
    """Where a search stands."""

    generation: int
    """Generation at work, from 0."""
    num_generations: int | None
    """Generations of the whole search, None if not known."""
    num_scored: int
    """Scores (one candidate on one document) known of those this generation asks for."""
    num_requested: int
    """Scores this generation asks for."""
    candidates: int
    """Candidates with a score, in the whole run."""
    scored_tokens: int
    """Tokens sent through the model in the whole run."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and what it cost."""

    best: Evaluation
    """The winner, with its score."""
    candidates: int
    """Candidates with a score."""
    scored_tokens: int
    """Tokens sent through the model."""
    gain: Gain | None
    """Of the best incumbent over the best baseline, where the strategy can tell: the result if it is sure."""


def run_search(
    strategy: Strategy,
    objective: Objective,
    record: SearchRecord,
    build: Callable[[Genome], RescaleFactors],
    on_progress: Callable[[SearchProgress], None] | None = None,
    budget: Budget | None = None,
) -> SearchResult:
    """Run a strategy to its end and return the best candidate; continue where the record stands.

    Every score is asked of the objective once: candidates of a generation on the same document in one call, or of a
    `UnitObjective` all units of a generation together; in a steady-state search the units of each candidate follow
    those of the one before as devices get free. A run that has ended goes on if the budget has grown and pays for
    more, and else gives its result again.

    Args:
        strategy: fresh, as it was built for the run in the record.
        objective: scores candidates.
        record: keeps proposals and scores: a `RunFolder`, or memory.
        build: makes rescale factors of a genome: `space.decode`, lengths, attention factor.
        on_progress: called after every unit and after every generation.
        budget: where to stop; None: at the strategy's own end.

    Raises:
        ValueError: the budget does not pay for the first generation, or not for the choice among the finalists, of
            which scores were lost or failed.
        RuntimeError: no candidate of the first generation could be scored, or none of the last.
    """
    run = _Run(strategy, objective, record, build, on_progress)
    if isinstance(strategy, SteadyStrategy):
        run.score(SteadyLoop(strategy, record, budget or Budget(), objective.price, run.report))
    else:
        for asked in Loop(strategy, record, budget or Budget(), objective.price, run.report):
            run.score([asked])
    if strategy.best is None:
        raise RuntimeError("a search must end with a scored candidate, got failures only; see error in history.jsonl")
    return SearchResult(strategy.best, record.candidates, record.scored_tokens, strategy.gain)


@dataclass(frozen=True)
class _Run:
    """What the units of a search share."""

    strategy: Strategy
    objective: Objective
    record: SearchRecord
    build: Callable[[Genome], RescaleFactors]
    on_progress: Callable[[SearchProgress], None] | None

    def score(self, asked: Iterable[tuple[int, Sequence[Request]]]) -> None:
        """Score what is missing of generations, with their numbers; each unit is recorded as it ends."""
        taken: dict[int, _Part] = {}
        for place, (scores, seconds) in self._score_units(self._units(asked, taken)):
            part = taken.pop(place)
            rows = rows_of_call(scores, part.genomes, part.generation, part.document, part.gradient, seconds)
            _check_price(self.objective, rows)
            self.record.append(rows)
            self.report(part.generation, part.requests)

    def _units(
        self, asked: Iterable[tuple[int, Sequence[Request]]], taken: dict[int, "_Part"]
    ) -> Iterator[Unit | None]:
        """Yield the units of generations, which are put into `taken` by their place; None where others have to end."""
        places = count()
        for generation, requests in asked:
            parts = [part for part in self._parts(generation, requests) if part not in taken.values()]
            for part in parts:
                taken[next(places)] = part
                yield Unit(tuple(map(self.build, part.genomes)), part.document, part.gradient)
            while not parts and self.record.missing(requests):
                yield None

    def _score_units(self, units: Iterator[Unit | None]) -> Iterator[tuple[int, UnitScores]]:
        if isinstance(self.objective, UnitObjective):
            return self.objective.score_units(units)
        return ((place, score_unit(self.objective, unit)) for place, unit in enumerate(units) if unit is not None)

    def _parts(self, generation: int, requests: Sequence[Request]) -> list["_Part"]:
        """Divide what is missing into units.

        What a unit holds follows from the requests alone, and a unit is recorded as a whole or not at all: a run that
        goes on, however its units ended, divides what is left into the same ones.
        """
        parts: list[_Part] = []
        for (document, gradient), genomes in self.record.missing(requests).items():
            size = 1 if gradient else getattr(self.objective, "unit_size", len(genomes))
            items = list(genomes.items())
            groups = [dict(items[n : n + size]) for n in range(0, len(items), size)]
            parts += [_Part(generation, tuple(requests), document, gradient, group) for group in groups]
        return parts

    def report(self, generation: int, requests: Sequence[Request]) -> None:
        """Tell whoever listens where the search stands."""
        if self.on_progress is None:
            return
        num_requested = len({(r.genome, document, r.gradient) for r in requests for document in r.documents})
        num_missing = sum(map(len, self.record.missing(requests).values()))
        num_generations, num_scored = self.strategy.num_generations, num_requested - num_missing
        cost = self.record.candidates, self.record.scored_tokens
        self.on_progress(SearchProgress(generation, num_generations, num_scored, num_requested, *cost))


class _Part(NamedTuple):
    """A unit as the record knows it."""

    generation: int
    requests: tuple[Request, ...]
    """What the generation asks for."""
    document: int
    gradient: bool
    genomes: dict[Genome, str]
    """With their origins."""


def _check_price(objective: Objective, rows: Sequence[HistoryRow]) -> None:
    """Refuse an objective that costs more than it said, since no budget would hold."""
    for row in rows:
        if row.forwarded > (price := objective.price(row.document, row.differentiated)):
            raise RuntimeError(
                f"a score must cost at most the price of {price} tokens, got {row.forwarded} on document "
                f"{row.document}; mend the objective's price"
            )
