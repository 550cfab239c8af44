"""What is minimised: the protocols an objective follows, and its scores as rows of the history."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ..rope.factors import RescaleFactors
from .history import HistoryRow
from .space import Genome
from .strategies import Gradient


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
class Unit:
    """What is scored at once: candidates on one document."""

    candidates: tuple[RescaleFactors, ...]
    document: int
    gradient: bool
    """Whether derivatives are wanted, too."""


class UnitScores(NamedTuple):
    """The scores of a unit, and what they took."""

    scores: Sequence[DocumentScore]
    """One per candidate; `GradientScore` where derivatives are wanted."""
    seconds: float
    """Wall time of whoever scored it."""


@runtime_checkable
class UnitObjective(Objective, Protocol):
    """An objective that takes several units at once and gives them back as they end.

    It may score them where and in which order it likes: what a unit holds does not depend on that.
    """

    @property
    def unit_size(self) -> int:
        """Candidates of a unit at most; with derivatives each is a unit."""
        ...

    def score_units(self, units: Iterable[Unit | None]) -> Iterator[tuple[int, UnitScores]]:
        """Yield the place of each unit, counted from 0, and its scores, in any order.

        Args:
            units: the next one is taken when a device is free for it, and after what was yielded has been dealt with;
                None takes no place and says that there is none before another has ended.
        """
        ...


def score_unit(objective: Objective, unit: Unit) -> UnitScores:
    """Ask an objective for the scores of a unit; for derivatives candidate by candidate.

    Raises:
        ValueError: derivatives are wanted, and the objective has none.
    """
    started = time.perf_counter()
    if not unit.gradient:
        scores: Sequence[DocumentScore] = objective.score(unit.candidates, unit.document)
    elif isinstance(objective, DifferentiableObjective):
        scores = [objective.gradient(candidate, unit.document) for candidate in unit.candidates]
    else:
        raise ValueError(
            f"objective must have gradients for this strategy, got {type(objective).__name__}; search with "
            "another strategy or objective"
        )
    return UnitScores(scores, time.perf_counter() - started)


def rows_of_call(
    scores: Sequence[DocumentScore],
    genomes: Mapping[Genome, str],
    generation: int,
    document: int,
    gradient: bool,
    seconds: float,
) -> list[HistoryRow]:
    """Return the rows of one unit: the scores of genomes (with their origins) on one document, in their order.

    Args:
        scores: one per genome; `GradientScore` where derivatives were asked for.
        genomes: what was scored.
        generation: number of the generation.
        document: index of the search document.
        gradient: whether derivatives were asked for.
        seconds: wall time of the unit.

    Raises:
        RuntimeError: the numbers of scores and genomes differ.
    """
    if len(scores) != len(genomes):
        raise RuntimeError(f"the objective must give one score per candidate, got {len(scores)} for {len(genomes)}")
    rows: list[HistoryRow] = []
    for (genome, origin), score in zip(genomes.items(), scores, strict=True):
        error = _why_failed(score, len(genome.steps) if gradient else None)
        rows.append(
            HistoryRow(
                generation=generation,
                origin=origin,
                steps=genome.steps,
                start_tokens=genome.start_tokens,
                document=document,
                nats=None if error or score.nats is None else float(score.nats),
                tokens=0 if error else int(score.tokens),
                forwarded=int(score.forwarded),
                error=error,
                seconds=seconds / len(genomes),
                rows_left=len(genomes) - len(rows) - 1,
                attention=genome.attention,
                critical_dimension=genome.critical_dimension,
                differentiated=gradient,
                gradient=_gradient_of(score) if gradient and not error else None,
            )
        )
    return rows


def _gradient_of(score: Any) -> Gradient:
    return Gradient(tuple(float(value) for value in score.d_log_lambda), float(score.d_log_attention))


def _why_failed(score: DocumentScore, num_derivatives: int | None) -> str | None:
    """Return why a score is no number that can be ranked, None if it is one."""
    if score.error is not None:
        return score.error or "the objective gave no reason"
    if score.nats is None or not math.isfinite(score.nats) or score.tokens < 1:
        return f"the loss must be finite over at least one token, got {score.nats} nats over {score.tokens} tokens"
    if num_derivatives is None:
        return None
    found, by_attention = getattr(score, "d_log_lambda", ()), float(getattr(score, "d_log_attention", math.nan))
    if len(found) != num_derivatives:
        return f"the gradient must have {num_derivatives} derivatives by log lambda, got {len(found)}"
    if bad := [float(one) for one in (*found, by_attention) if not math.isfinite(one)]:
        return f"derivatives must be finite, got {bad[0]} and {len(bad) - 1} more that are not"
    return None
