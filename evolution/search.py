"""The loop over an objective: ask, record what is asked, score, record the scores, tell."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..rope.factors import RescaleFactors
from .budget import Budget
from .history import HistoryRow
from .loop import Loop
from .objective import DifferentiableObjective, DocumentScore, Objective, rows_of_call
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

    Every score is asked of the objective once: candidates of a generation on the same document in one call. A run that
    has ended goes on if the budget has grown and pays for more, and else gives its result again.

    Args:
        strategy: fresh, as it was built for the run in the record.
        objective: scores candidates.
        record: keeps proposals and scores: a `RunFolder`, or memory.
        build: makes rescale factors of a genome: `space.decode`, lengths, attention factor.
        on_progress: called after every call of the objective and after every generation.
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
    """What the calls of the objective share."""

    strategy: Strategy
    objective: Objective
    record: SearchRecord
    build: Callable[[Genome], RescaleFactors]
    on_progress: Callable[[SearchProgress], None] | None

    def score(self, requests: Sequence[Request], generation: int) -> None:
        """Score what is missing of a generation."""
        for (document, gradient), genomes in self.record.missing(requests).items():
            started = time.perf_counter()
            scores = self._call(genomes, document, gradient)
            seconds = time.perf_counter() - started
            rows = rows_of_call(scores, genomes, generation, document, gradient, seconds)
            _check_price(self.objective, rows)
            self.record.append(rows)
            self.report(generation, requests)

    def _call(self, genomes: Mapping[Genome, str], document: int, gradient: bool) -> Sequence[DocumentScore]:
        """Ask the objective for scores on one document, or for derivatives, which it gives one by one."""
        candidates = [self.build(genome) for genome in genomes]
        if not gradient:
            return self.objective.score(candidates, document)
        if not isinstance(self.objective, DifferentiableObjective):
            raise ValueError(
                f"objective must have gradients for this strategy, got {type(self.objective).__name__}; search with "
                "another strategy or objective"
            )
        return [self.objective.gradient(candidate, document) for candidate in candidates]

    def report(self, generation: int, requests: Sequence[Request]) -> None:
        """Tell whoever listens where the search stands."""
        if self.on_progress is None:
            return
        num_requested = len({(r.genome, document, r.gradient) for r in requests for document in r.documents})
        num_missing = sum(map(len, self.record.missing(requests).values()))
        num_generations, num_scored = self.strategy.num_generations, num_requested - num_missing
        cost = self.record.candidates, self.record.scored_tokens
        self.on_progress(SearchProgress(generation, num_generations, num_scored, num_requested, *cost))


def _check_price(objective: Objective, rows: Sequence[HistoryRow]) -> None:
    """Refuse an objective that costs more than it said, since no budget would hold."""
    for row in rows:
        if row.forwarded > (price := objective.price(row.document, row.differentiated)):
            raise RuntimeError(
                f"a score must cost at most the price of {price} tokens, got {row.forwarded} on document "
                f"{row.document}; mend the objective's price"
            )
