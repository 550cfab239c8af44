"""The search curve: numbers for a plot, read from the history of a run folder."""

import math
import statistics
from collections.abc import Collection
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from .journal import HistoryRow, read_history
from .space import Genome


@dataclass(frozen=True)
class CurvePoint:
    """One generation of the search curve."""

    generation: int
    """Number of the generation, from 0."""
    scored_tokens: int
    """Tokens scored up to the end of the generation."""
    best_loss: float
    """Lowest mean nats per token so far among candidates scored on the same documents."""
    median_loss: float
    """Median of the mean nats per token of the candidates of this generation."""


def search_curve(path: str | Path) -> list[CurvePoint]:
    """Return the search curve of a run folder, one point per generation in which a candidate got a loss.

    A generation is summed up by those of its candidates that have the most documents, and its best is compared with
    earlier generations only where they were scored on the same documents: other documents, other losses.
    """
    rows, _ = read_history(Path(path) / "history.jsonl")
    scores: dict[Genome, dict[int, HistoryRow]] = {}
    best: dict[frozenset[int], float] = {}
    curve: list[CurvePoint] = []
    scored_tokens = 0
    for generation, group in groupby(rows, key=lambda row: row.generation):
        scored = list(group)
        scored_tokens += sum(row.tokens for row in scored)
        for row in scored:
            scores.setdefault(row.genome, {})[row.document] = row
        losses: dict[frozenset[int], list[float]] = {}
        for genome in {row.genome: None for row in scored}:
            if (loss := _loss(scores[genome].values())) is not None:
                losses.setdefault(frozenset(scores[genome]), []).append(loss)
        if losses:
            documents = max(losses, key=len)
            best[documents] = min(best.get(documents, math.inf), *losses[documents])
            median = statistics.median(losses[documents])
            curve.append(CurvePoint(generation, scored_tokens, best[documents], median))
    return curve


def _loss(rows: Collection[HistoryRow]) -> float | None:
    """Return mean nats per token over documents, None if a score failed."""
    nats = [row.nats for row in rows if row.nats is not None]
    return sum(nats) / sum(row.tokens for row in rows) if len(nats) == len(rows) else None
