"""The search curve: numbers for a plot, read from the history of a run folder."""

import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from .journal import HistoryRow, read_history
from .space import Genome

Scores = Mapping[int, HistoryRow]
"""Rows of one candidate by document."""


@dataclass(frozen=True)
class CurvePoint:
    """One generation of the search curve, against the best seed on the same documents: below 0 is better."""

    generation: int
    """Number of the generation, from 0."""
    scored_tokens: int
    """Tokens scored up to the end of the generation."""
    best_gain: float
    """Lowest loss so far on the documents of this generation, minus the seed's there, in nats per token."""
    median_gain: float
    """Median loss of the candidates of this generation, minus the seed's, in nats per token."""


def search_curve(path: str | Path) -> list[CurvePoint]:
    """Return the search curve of a run folder, one point per generation that can be compared with the best seed.

    Losses of different documents don't compare, so each is taken relative to the seed that was the best of the first
    generation, on the same documents. A generation is summed up by its candidates that have the most documents.
    """
    history = Path(path) / "history.jsonl"
    if not history.is_file():
        raise ValueError(f"search run must be a folder with history.jsonl, got {path}; name the folder of a search")
    rows, _ = read_history(history)
    scores: dict[Genome, dict[int, HistoryRow]] = {}
    best: dict[frozenset[int], float] = {}
    curve: list[CurvePoint] = []
    reference: Genome | None = None
    scored_tokens = 0
    for generation, group in groupby(rows, key=lambda row: row.generation):
        scored = list(group)
        scored_tokens += sum(row.tokens for row in scored)
        for row in scored:
            scores.setdefault(row.genome, {})[row.document] = row
        candidates = {row.genome for row in scored if row.genome != reference}
        reference = reference or _best_seed(scored, scores)
        documents = max((frozenset(scores[genome]) for genome in candidates), key=len, default=frozenset())
        alike = [genome for genome in candidates if frozenset(scores[genome]) == documents]
        losses = [loss for genome in alike if (loss := _loss(scores[genome].values())) is not None]
        seed = _loss_on(documents, scores[reference]) if reference else None
        if losses and seed is not None:
            best[documents] = min(best.get(documents, math.inf), *losses)
            median = statistics.median(losses)
            curve.append(CurvePoint(generation, scored_tokens, best[documents] - seed, median - seed))
    return curve


def _best_seed(rows: Collection[HistoryRow], scores: Mapping[Genome, Scores]) -> Genome | None:
    seeds = {row.genome for row in rows if row.origin.startswith("seed:")}
    losses = {genome: loss for genome in seeds if (loss := _loss(scores[genome].values())) is not None}
    return min(losses, key=lambda genome: losses[genome], default=None)


def _loss_on(documents: Collection[int], scores: Scores) -> float | None:
    return _loss([scores[document] for document in documents]) if scores.keys() >= set(documents) else None


def _loss(rows: Collection[HistoryRow]) -> float | None:
    """Return mean nats per token over documents, None if a score failed."""
    nats = [row.nats for row in rows if row.nats is not None]
    return sum(nats) / sum(row.tokens for row in rows) if len(nats) == len(rows) else None
