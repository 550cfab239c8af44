"""The loop over an objective: ask, record what is asked, score, record the scores, tell."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..rope.factors import RescaleFactors
from .budget import Budget
from .history import HistoryRow
from .loop import Loop
from .objective import Objective, Unit, UnitObjective, UnitScores, rows_of_call, score_unit
from .racing import Gain
from .record import SearchRecord
from .space import Genome
from .strategies import Evaluation, Request, Strategy


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
    `UnitObjective` all units of a generation at once. A run that has ended goes on if the budget has grown and pays for
    more, and else gives its result again.

    Args:
        strategy: fresh, as it was built for the run in the record.
        objective: scores candidates.
        record: keeps proposals and scores: a `RunFolder`, or memory.
        build: makes rescale factors of a genome: `space.decode`, lengths, attention factor.
        on_progress: called after every unit and after every generation.
        budget: where to stop; None: at the strategy's own end.

    Raises:
        ValueError: the budget does not pay for the first generation.
        RuntimeError: no candidate of the first generation could be scored, or none of the last.
    """
    run = _Run(strategy, objective, record, build, on_progress)
    for generation, requests in Loop(strategy, record, budget or Budget(), objective.price, run.report):
        run.score(requests, generation)
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

    def score(self, requests: Sequence[Request], generation: int) -> None:
        """Score what is missing of a generation; each unit is recorded as it ends."""
        parts = self._parts(requests)
        units = [Unit(tuple(map(self.build, part.genomes)), part.document, part.gradient) for part in parts]
        for number, (scores, seconds) in self._score_units(units):
            document, gradient, genomes = parts[number]
            rows = rows_of_call(scores, genomes, generation, document, gradient, seconds)
            _check_price(self.objective, rows)
            self.record.append(rows)
            self.report(generation, requests)

    def _score_units(self, units: Sequence[Unit]) -> Iterator[tuple[int, UnitScores]]:
        if isinstance(self.objective, UnitObjective):
            return self.objective.score_units(units)
        return ((number, score_unit(self.objective, unit)) for number, unit in enumerate(units))

    def _parts(self, requests: Sequence[Request]) -> list["_Part"]:
        """Divide what is missing into units.

        What a unit holds follows from the requests alone, and a unit is recorded as a whole or not at all: a run that
        goes on, however its units ended, divides what is left into the same ones.
        """
        parts: list[_Part] = []
        for (document, gradient), genomes in self.record.missing(requests).items():
            size = 1 if gradient else getattr(self.objective, "unit_size", len(genomes))
            items = list(genomes.items())
            parts += [_Part(document, gradient, dict(items[n : n + size])) for n in range(0, len(items), size)]
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
