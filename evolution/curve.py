"""What a search did, in numbers: by generation, by origin, against its best seed; read from its scores alone.

Losses of different documents don't compare, so candidates are compared with the best seed (`best_seed`) on the same
documents. Not every strategy scores that seed again on each window. Where it was not scored, its loss is
estimated: loss = effect of the window + effect of the candidate, fitted by token-weighted least squares to all scores.
Windows that no chain of candidates links to one of the seed's have no estimate, and what was scored there has no gain.
"""

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components

from .history import HistoryRow, last_rows, read_history
from .proposals import read_proposals
from .record import SearchRecord
from .space import Genome
from .strategies.base import PROBE, Proposal
from .strategies.race import select

Scores = Mapping[int, HistoryRow]
"""Rows of one candidate by document."""


@dataclass(frozen=True)
class CurvePoint:
    """One incumbent, on windows that are the same for all of them."""

    scored_tokens: int
    """Tokens sent through the model until it was scored there, backward passes counted twice."""
    gain: float
    """Its loss minus that of the best seed, in nats per token: below 0 is better."""


@dataclass(frozen=True)
class GenerationSummary:
    """One generation, summed up by those of its candidates that have the most documents (all the same ones)."""

    generation: int
    """Number of the generation, from 0."""
    scored_tokens: int
    """Tokens sent through the model up to the end of the generation, backward passes counted twice."""
    origins: Mapping[str, int]
    """Candidates scored in this generation by the kind of their origin, failed ones included."""
    documents: frozenset[int]
    """Indices of the documents that the losses are of."""
    best_loss: float | None
    """Lowest loss, nats per token; None if all failed."""
    best_origin: str | None
    """Where the candidate of that loss came from."""
    median_loss: float | None
    """Median loss, nats per token."""
    seed_loss: float | None
    """Loss of the best seed on these documents, measured or estimated; None if it is neither."""
    scores: int = 0
    """Scores that were made in this generation, independent of each other, so that as many devices can share them."""


@dataclass(frozen=True)
class OriginSummary:
    """What one kind of origin (seeds, mutations, ...) cost and found; a candidate belongs to whoever proposed it first.

    A gain on few documents is partly their luck: the more candidates share few documents, the better the best looks.
    """

    origin: str
    candidates: int
    """Candidates, failed ones included."""
    scored_tokens: int
    """Tokens sent through the model for them, also when others asked for them again."""
    best_gain: float | None
    """Lowest loss minus the best seed's on the same documents, nats per token; None if none can be compared."""
    documents: int
    """Documents behind that gain."""


def search_curve(path: str | Path) -> list[CurvePoint]:
    """Return the search curve of a run folder: its incumbents, from the best seed to the result.

    Raises:
        ValueError: there is no such run.
    """
    history = Path(path) / "history.jsonl"
    if not history.is_file():
        raise ValueError(f"search run must be a folder with history.jsonl, got {path}; name the folder of a search")
    lines = read_proposals(history.with_name("proposals.jsonl")).lines
    return incumbents_curve(read_history(history).rows, lines[-1].proposal if lines else None)


def incumbents_curve(rows: Sequence[HistoryRow], last: Proposal | None = None) -> list[CurvePoint]:
    """Return the incumbents of a history, each with its loss on one fixed set of windows against the best seed's.

    `hybrid`, whose candidates are scored on fresh windows, scores each incumbent on probe windows (origin `probe`).
    Without these the set is what the last generation was scored on, and the incumbent is the best so far.

    Args:
        rows: of the history.
        last: generation that was asked for last. Where it is the choice among finalists, its state says by which test
            the result at the end of the curve was chosen; without, the curve ends at the last incumbent.
    """
    reference = best_seed(rows)
    if reference is None:
        return []
    probed = _probed(rows)
    documents = probed or _documents_of_last(rows)
    completed = _completed(rows, documents)
    known = {genome: loss for genome, loss, _ in completed}
    if reference not in known:
        return []
    spent = sum(row.forwarded for row in rows)
    first = sum(row.forwarded for row in rows if row.generation == rows[0].generation)
    points, best = [CurvePoint(first, 0.0)], known[reference]
    for genome, loss, tokens in completed:
        if genome != reference and (probed or loss < best):
            best = loss
            points.append(CurvePoint(tokens, loss - known[reference]))
    final = known.get(winner, best) if (winner := _selected(rows, last)) is not None else best
    return [*points, CurvePoint(spent, final - known[reference])]


def _selected(rows: Sequence[HistoryRow], last: Proposal | None) -> Genome | None:
    """Return the winner of the default's selection, None before it and in runs that did not store its terms."""
    if last is None or not last.final or "selection" not in last.state:
        return None
    terms, record = last.state["selection"], SearchRecord(rows)
    if record.missing(last.requests):
        return None
    evaluations = [record.evaluation(one, last.generation) for one in last.requests]
    seeds = {row.genome for row in rows if kind_of(row.origin) == "seed"}
    winner, _ = select(evaluations, seeds, terms["num_documents"], terms["level"])
    return None if winner is None else winner.genome


def _probed(rows: Sequence[HistoryRow]) -> set[int]:
    return {row.document for row in rows if row.origin == PROBE}


def _documents_of_last(rows: Sequence[HistoryRow]) -> set[int]:
    """Return the documents of the last generation, of several lengths those of the longest."""
    last = [row for row in last_rows(rows) if not row.differentiated]
    longest = max((row.forwarded for row in last), default=0)
    return {row.document for row in last if row.forwarded == longest}


def _completed(rows: Sequence[HistoryRow], documents: set[int]) -> list[tuple[Genome, float, int]]:
    """Return who has a loss on all of some documents: loss there, and tokens spent by then, in that order."""
    scores: dict[Genome, dict[int, HistoryRow]] = {}
    completed: list[tuple[Genome, float, int]] = []
    spent = 0
    for row in rows:
        spent += row.forwarded
        if row.document not in documents or row.differentiated:
            continue
        own = scores.setdefault(row.genome, {})
        own[row.document] = row
        if len(own) == len(documents) and (loss := _loss(own.values())) is not None:
            completed.append((row.genome, loss, spent))
    return completed


def generation_summaries(rows: Sequence[HistoryRow]) -> list[GenerationSummary]:
    """Return a summary of each generation of a history, in order.

    After the first generation the best seed is what others are compared with, and no candidate itself unless it is the
    only one, as where gradients are taken at it.
    """
    reference = best_seed(rows)
    seed_losses = _losses_on_all_documents(rows, reference)
    scores: dict[Genome, dict[int, HistoryRow]] = {}
    summaries: list[GenerationSummary] = []
    scored_tokens = 0
    in_order = sorted(rows, key=lambda row: row.generation)  # scores that were lost are made again later
    for generation, group in groupby(in_order, key=lambda row: row.generation):
        origins: dict[Genome, str] = {}
        num_scores = 0
        for row in group:
            num_scores += 1
            scored_tokens += row.forwarded
            scores.setdefault(row.genome, {})[row.document] = row
            origins[row.genome] = row.origin
        if summaries and reference is not None and len(origins) > 1:
            origins.pop(reference, None)
        summaries.append(replace(_summary(generation, scored_tokens, origins, scores, seed_losses), scores=num_scores))
    return summaries


def _summary(
    generation: int,
    scored_tokens: int,
    origins: Mapping[Genome, str],
    scores: Mapping[Genome, Scores],
    seed_losses: Mapping[int, float],
) -> GenerationSummary:
    documents = max((frozenset(scores[genome]) for genome in origins), key=len, default=frozenset())
    alike = [genome for genome in origins if frozenset(scores[genome]) == documents]
    losses = {genome: loss for genome in alike if (loss := _loss(scores[genome].values())) is not None}
    best = min(losses, key=lambda genome: losses[genome], default=None)
    return GenerationSummary(
        generation=generation,
        scored_tokens=scored_tokens,
        origins=Counter(kind_of(origin) for origin in origins.values()),
        documents=documents,
        best_loss=None if best is None else losses[best],
        best_origin=None if best is None else origins[best],
        median_loss=statistics.median(losses.values()) if losses else None,
        seed_loss=None if best is None else _weighted(seed_losses, scores[best].values()),
    )


def origin_summaries(rows: Sequence[HistoryRow]) -> list[OriginSummary]:
    """Return what each kind of origin cost and found, in the order of their first appearance."""
    seed_losses = _losses_on_all_documents(rows, best_seed(rows))
    finder: dict[Genome, str] = {}
    for row in rows:
        finder.setdefault(row.genome, kind_of(row.origin))
    scores = _by_genome(rows)
    summaries: list[OriginSummary] = []
    for origin in dict.fromkeys(finder.values()):
        candidates = [one.values() for genome, one in scores.items() if finder[genome] == origin]
        gains = [(gain, len(one)) for one in candidates if (gain := _gain(one, seed_losses)) is not None]
        gain, documents = min(gains, default=(None, 0))
        cost = sum(row.forwarded for row in rows if finder[row.genome] == origin)
        summaries.append(OriginSummary(origin, len(candidates), cost, gain, documents))
    return summaries


def best_seed(rows: Sequence[HistoryRow]) -> Genome | None:
    """Return the seed of the lowest loss among those with the most documents, the winner of a race of seeds.

    Without seeds it is the best candidate of the first generation; None if all of them failed.
    """
    seeds = {row.genome for row in rows if kind_of(row.origin) == "seed"}
    first = {row.genome for row in rows if row.generation == rows[0].generation}
    scores = _by_genome([row for row in rows if row.genome in (seeds or first)])
    losses = {genome: loss for genome, one in scores.items() if (loss := _loss(one.values())) is not None}
    return min(losses, key=lambda genome: (-len(scores[genome]), losses[genome]), default=None)


def best_seed_on(rows: Sequence[HistoryRow], documents: Collection[int]) -> tuple[str, float] | None:
    """Return origin and loss (nats per token) of the best seed on some documents, None if no seed has all of them."""
    names = {row.genome: row.origin for row in reversed(rows) if kind_of(row.origin) == "seed"}
    chosen = [row for row in rows if row.genome in names and row.document in documents]
    losses = [
        (loss, names[genome])
        for genome, scores in _by_genome(chosen).items()
        if len(scores) == len(set(documents)) and (loss := _loss(scores.values())) is not None
    ]
    if not losses:
        return None
    loss, origin = min(losses)
    return origin, loss


def kind_of(origin: str) -> str:
    """Return the kind of an origin, `seed` for `seed:yarn`."""
    return origin.partition(":")[0]


def _losses_on_all_documents(rows: Sequence[HistoryRow], genome: Genome | None) -> dict[int, float]:
    """Return the loss of a candidate on each document, nats per token: measured, else estimated if it is linked."""
    sound = [row for row in rows if row.nats is not None]
    measured = {row.document: _loss_of(row) for row in sound if row.genome == genome}
    tokens = {row.document: row.tokens for row in sound}
    if not measured or measured.keys() == tokens.keys():
        return measured
    documents = sorted(tokens)
    effects, parts = _document_effects(sound, {document: place for place, document in enumerate(documents)})
    known = [documents.index(document) for document in measured]
    above = [measured[documents[place]] - effects[place] for place in known]
    level = float(np.average(above, weights=[tokens[documents[place]] for place in known]))
    linked = (place for place in range(len(documents)) if parts[place] == parts[known[0]])
    return {documents[place]: level + float(effects[place]) for place in linked} | measured


def _document_effects(rows: Sequence[HistoryRow], places: Mapping[int, int]) -> tuple[Any, Any]:
    """Return the document effects of the additive model, and the linked part that each document belongs to.

    With the candidates' effects eliminated, the normal equations are a graph Laplacian over the documents.
    """
    laplacian, right = np.zeros((len(places), len(places))), np.zeros(len(places))
    for scores in _by_genome(rows).values():
        at = [places[document] for document in scores]
        tokens = np.array([row.tokens for row in scores.values()], dtype=np.float64)
        losses = np.array([_loss_of(row) for row in scores.values()])
        laplacian[np.ix_(at, at)] += np.diag(tokens) - np.outer(tokens, tokens) / tokens.sum()
        right[at] += tokens * (losses - tokens @ losses / tokens.sum())
    links: Any = connected_components(laplacian != 0, directed=False)
    return np.linalg.lstsq(laplacian, right)[0], links[1]


def _by_genome(rows: Iterable[HistoryRow]) -> dict[Genome, dict[int, HistoryRow]]:
    scores: dict[Genome, dict[int, HistoryRow]] = {}
    for row in rows:
        scores.setdefault(row.genome, {})[row.document] = row
    return scores


def _gain(rows: Collection[HistoryRow], seed_losses: Mapping[int, float]) -> float | None:
    loss, seed = _loss(rows), _weighted(seed_losses, rows)
    return None if loss is None or seed is None else loss - seed


def _weighted(losses: Mapping[int, float], rows: Collection[HistoryRow]) -> float | None:
    """Return the mean of losses by document over the documents and tokens of rows, None if one is missing."""
    if not all(row.document in losses for row in rows):
        return None
    return sum(losses[row.document] * row.tokens for row in rows) / sum(row.tokens for row in rows)


def _loss(rows: Collection[HistoryRow]) -> float | None:
    """Return mean nats per token over documents, None if a score failed."""
    nats = [row.nats for row in rows if row.nats is not None]
    return sum(nats) / sum(row.tokens for row in rows) if len(nats) == len(rows) else None


def _loss_of(row: HistoryRow) -> float:
    return (row.nats or 0.0) / row.tokens
