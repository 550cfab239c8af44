"""The loop: ask, record what is asked, score, record the scores, tell."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from ..rope.factors import RescaleFactors
from .budget import Budget, cost_of
from .history import HistoryRow
from .journal import RunFolder
from .space import Genome
from .strategies import Evaluation, Gradient, Proposal, Request, Strategy


class DocumentScore(Protocol):
    """Loss of one candidate on one document."""

    @property
    def nats(self) -> float | None:
        """Summed loss, in nats; None if there is none."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens the loss is summed over."""
        ...

    @property
    def forwarded(self) -> int:
        """Tokens sent through the model for it: its cost, whether it failed or not."""
        ...

    @property
    def error(self) -> str | None:
        """Why there is no loss, None if there is."""
        ...


class Objective(Protocol):
    """What is minimised; handed in by whoever knows the model."""

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[DocumentScore]:
        """Return one score per candidate, all on the same document."""
        ...

    def price(self, document: int, gradient: bool) -> int:
        """Return the tokens that a score of one candidate on a document sends through the model at most.

        With derivatives, those of the backward pass are in it, each counted twice.
        """
        ...


class GradientScore(DocumentScore, Protocol):
    """Loss of one candidate on one document with its derivatives, which count where there is no error.

    `forwarded` has the tokens of the backward pass, too, each counted twice.
    """

    @property
    def d_log_lambda(self) -> Sequence[float]:
        """Derivative of the summed loss with respect to the log of each rescale factor, length P."""
        ...

    @property
    def d_log_attention(self) -> float:
        """Derivative of the summed loss with respect to the log of the attention factor."""
        ...


@runtime_checkable
class DifferentiableObjective(Objective, Protocol):
    """An objective for strategies that ask for gradients."""

    def gradient(self, candidate: RescaleFactors, document: int) -> GradientScore:
        """Return the score of one candidate on one document with its derivatives."""
        ...


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
    best: Evaluation | None
    """The strategy's best so far."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and what it cost."""

    best: Evaluation
    """The winner, with its score."""
    candidates: int
    """Candidates with a score."""
    scored_tokens: int
    """Tokens sent through the model."""


def run_search(
    strategy: Strategy,
    objective: Objective,
    folder: RunFolder,
    build: Callable[[Genome], RescaleFactors],
    on_progress: Callable[[SearchProgress], None] | None = None,
    budget: Budget | None = None,
) -> SearchResult:
    """Run a strategy to its end and return the best candidate; continue where the folder stands.

    Every score is asked of the objective once: candidates of a generation on the same document in one call. A run that
    has ended goes on if the budget has grown and pays for more, and else gives its result again.

    Args:
        strategy: fresh, as it was built for the run in the folder.
        objective: scores candidates.
        folder: records proposals and scores.
        build: makes rescale factors of a genome: `space.decode`, lengths, attention factor.
        on_progress: called after every call of the objective and after every generation.
        budget: where to stop; None: at the strategy's own end.

    Raises:
        ValueError: the budget does not pay for the first generation.
        RuntimeError: no candidate of the first generation could be scored, or none of the last.
    """
    run = _Run(strategy, objective, folder, build, on_progress, budget or Budget())
    run.resume()
    while not strategy.done:
        requests = strategy.ask()
        folder.propose(strategy, run.budget)
        if not strategy.final and not run.affords(requests):
            strategy.finish()
            continue
        evaluations = run.evaluate(requests, strategy.generation)
        _check_first(evaluations, strategy.generation)
        strategy.tell(evaluations)
        run.report(requests, strategy.generation - 1)
    if strategy.best is None:
        raise RuntimeError("a search must end with a scored candidate, got failures only; see error in history.jsonl")
    return SearchResult(strategy.best, *_cost(folder))


@dataclass(frozen=True)
class _Run:
    """What the steps of the loop share."""

    strategy: Strategy
    objective: Objective
    folder: RunFolder
    build: Callable[[Genome], RescaleFactors]
    on_progress: Callable[[SearchProgress], None] | None
    budget: Budget

    def resume(self) -> None:
        """Bring the strategy to where the folder stands.

        That is the generation asked for last, but if it is the final one and the budget has grown since and pays for
        more, the one before it.
        """
        last, standing = self.folder.last, self.folder.standing
        for proposal in standing:
            if last and proposal.generation < last.proposal.generation:
                self.evaluate(proposal.requests, proposal.generation)  # scores that were lost
        if last is None:
            return
        if last.proposal.final and standing and self.budget.exceeds(last.budget) and self._goes_on(standing[-1]):
            return
        self.folder.restore(self.strategy, last.proposal)

    def _goes_on(self, proposal: Proposal) -> bool:
        """Go back to a generation, which may have its scores; return whether the budget pays for what follows."""
        self.folder.restore(self.strategy, proposal)
        requests = self.strategy.ask()
        if not any(self.folder.missing(requests).values()):
            self.strategy.tell([self.folder.evaluation(request) for request in requests])
            requests = self.strategy.ask()
        return not self.strategy.final and self.affords(requests)

    def affords(self, requests: Sequence[Request]) -> bool:
        """Whether the budget allows the generation asked for and the final one after it."""
        generation, price = self.strategy.generation, self.objective.price
        reserved = sum(price(document, False) for document in self.strategy.reserved)
        if self.budget.allows(self.folder.rows, generation, requests, reserved, price):
            return True
        if generation == 0:
            raise ValueError(
                f"max_scored_tokens must be at least {cost_of(requests, price) + reserved} for the first and the last "
                f"generation, got {self.budget.max_scored_tokens}; raise it and continue with --resume, or choose "
                "smaller hyper-parameters in a new folder"
            )
        return False

    def evaluate(self, requests: Sequence[Request], generation: int) -> list[Evaluation]:
        """Return the evaluations of a generation; score what is missing."""
        for (document, gradient), genomes in self.folder.missing(requests).items():
            ask = _differentiate if gradient else _score
            self.folder.append(ask(self.objective, self.build, document, genomes, generation))
            self.report(requests, generation)
        return [self.folder.evaluation(request) for request in requests]

    def report(self, requests: Sequence[Request], generation: int) -> None:
        """Tell whoever listens where the search stands."""
        if self.on_progress is None:
            return
        num_requested = len({(r.genome, document, r.gradient) for r in requests for document in r.documents})
        num_missing = sum(map(len, self.folder.missing(requests).values()))
        num_generations, num_scored = self.strategy.num_generations, num_requested - num_missing
        cost = _cost(self.folder)
        self.on_progress(
            SearchProgress(generation, num_generations, num_scored, num_requested, *cost, best=self.strategy.best)
        )


def _score(
    objective: Objective,
    build: Callable[[Genome], RescaleFactors],
    document: int,
    genomes: Mapping[Genome, str],
    generation: int,
) -> list[HistoryRow]:
    """Score genomes (with their origins) on one document in one call."""
    started = time.perf_counter()
    scores = objective.score([build(genome) for genome in genomes], document)
    seconds = time.perf_counter() - started
    if len(scores) != len(genomes):
        raise RuntimeError(f"the objective must give one score per candidate, got {len(scores)} for {len(genomes)}")
    rows = _rows(scores, genomes, generation=generation, document=document, seconds=seconds / len(genomes))
    _check_price(objective, rows)
    return rows


def _check_price(objective: Objective, rows: Sequence[HistoryRow]) -> None:
    """Refuse an objective that costs more than it said, since no budget would hold."""
    for row in rows:
        if row.forwarded > (price := objective.price(row.document, row.differentiated)):
            raise RuntimeError(
                f"a score must cost at most the price of {price} tokens, got {row.forwarded} on document "
                f"{row.document}; mend the objective's price"
            )


def _differentiate(
    objective: Objective,
    build: Callable[[Genome], RescaleFactors],
    document: int,
    genomes: Mapping[Genome, str],
    generation: int,
) -> list[HistoryRow]:
    """Score genomes (with their origins) on one document, one by one, with derivatives."""
    if not isinstance(objective, DifferentiableObjective):
        raise ValueError(
            f"objective must have gradients for this strategy, got {type(objective).__name__}; search with another "
            "strategy or objective"
        )
    started = time.perf_counter()
    scores = [objective.gradient(build(genome), document) for genome in genomes]
    seconds = (time.perf_counter() - started) / len(genomes)
    gradients = [None if _why_failed(score) else _gradient_of(score) for score in scores]
    rows = _rows(scores, genomes, generation=generation, document=document, seconds=seconds, differentiated=True)
    _check_price(objective, rows)
    return [replace(row, gradient=gradient) for row, gradient in zip(rows, gradients, strict=True)]


def _rows(scores: Sequence[DocumentScore], genomes: Mapping[Genome, str], **shared: Any) -> list[HistoryRow]:
    rows: list[HistoryRow] = []
    for (genome, origin), score in zip(genomes.items(), scores, strict=True):
        error = _why_failed(score)
        rows.append(
            HistoryRow(
                origin=origin,
                steps=genome.steps,
                start_tokens=genome.start_tokens,
                attention=genome.attention,
                critical_dimension=genome.critical_dimension,
                nats=None if error or score.nats is None else float(score.nats),
                tokens=0 if error else int(score.tokens),
                forwarded=int(score.forwarded),
                error=error,
                rows_left=len(genomes) - len(rows) - 1,
                **shared,
            )
        )
    return rows


def _gradient_of(score: GradientScore) -> Gradient:
    return Gradient(tuple(float(value) for value in score.d_log_lambda), float(score.d_log_attention))


def _why_failed(score: DocumentScore) -> str | None:
    """Return why a score is no number that can be ranked, None if it is one."""
    if score.error is not None:
        return score.error or "the objective gave no reason"
    if score.nats is None or not math.isfinite(score.nats) or score.tokens < 1:
        return f"the loss must be finite over at least one token, got {score.nats} nats over {score.tokens} tokens"
    return None


def _check_first(evaluations: Sequence[Evaluation], generation: int) -> None:
    if generation == 0 and all(evaluation.failed for evaluation in evaluations):
        raise RuntimeError(
            f"the first generation must hold a candidate that can be scored, got {len(evaluations)} failures, of "
            f"which the first: {evaluations[0].error}; mend that and start in a new run folder"
        )


def _cost(folder: RunFolder) -> tuple[int, int]:
    """Return the number of distinct candidates scored, and of tokens sent through the model for them."""
    return len({row.genome for row in folder.rows}), sum(row.forwarded for row in folder.rows)
