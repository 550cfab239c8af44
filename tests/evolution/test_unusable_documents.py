"""A document on which everybody fails says nothing of anybody: it costs its scores and decides nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest

from longrope.evolution import Candidate, HybridSettings, RunFolder, Score, Search, SearchRecord, SteadySettings
from longrope.evolution.curve import incumbents_curve
from longrope.evolution.history import HistoryRow
from longrope.evolution.strategies import Request

from .toy_benchmark import NUM_PAIRS, SCALE, Toy

NUM_DOCUMENTS = 12
SETTINGS = {
    "hybrid": HybridSettings(num_scores=336),
    "steady": SteadySettings(num_candidates=60, population_size=8),
}


def toy(name: str) -> Toy:
    return Toy(SETTINGS[name].space(NUM_PAIRS, SCALE), 1)


def told(one: Candidate, bad: int | None, toy: Toy) -> Score:
    if one.document == bad:
        return Score(None, error="the loss is nan")
    if not one.gradient:
        return Score(toy.loss(one.genome, one.document))
    steep = toy.gradient(one.genome, one.document)
    loss = toy.loss(one.genome, one.document)
    return Score(loss, 1, 3, None, steep.log_lambda, steep.log_attention)


def search(name: str, bad: int | None, record: SearchRecord | None = None, seed: int = 0) -> Search:
    model = toy(name)
    found = Search(
        model.space,
        SETTINGS[name],
        seeds=model.seeds(),
        num_documents=NUM_DOCUMENTS,
        gradients=True,
        seed=seed,
        record=record,
    )
    while not found.done:
        found.tell([told(one, bad, model) for one in found.ask()])
    return found


@pytest.mark.parametrize("name", ["hybrid", "steady"])
def test_wherever_it_lies_the_search_finds_about_what_it_would_have_found(name: str):
    model, seeds = toy(name), toy(name).seeds().values()
    best_seed = min(model.loss(genome) for genome in seeds)
    excess: list[float] = []
    for bad in (None, *range(NUM_DOCUMENTS)):
        best = search(name, bad).best
        assert best is not None and bad not in best.documents and math.isfinite(best.loss)
        excess.append((model.loss(best.genome) - 2) / (best_seed - 2))
    assert np.median(excess[1:]) < max(2 * excess[0], 0.9)


def test_gradients_of_the_other_windows_are_used():
    rows = search("hybrid", bad=3).rows
    generations = {row.generation for row in rows if row.differentiated}
    assert len(generations) > 1
    assert any(row.differentiated and row.error for row in rows)


@pytest.mark.parametrize("name", ["hybrid", "steady"])
def test_a_run_folder_with_one_goes_on_and_has_a_curve(name: str, tmp_path):
    with RunFolder(tmp_path, {}) as folder:
        best = search(name, 3, folder).best
    with RunFolder(tmp_path, {}, resume=True) as folder:
        assert search(name, 3, folder).best == best
        rows, last = folder.rows, folder.last
    assert last is not None and last.proposal.final
    assert all(math.isfinite(point.gain) for point in incumbents_curve(rows, last.proposal))


def test_who_fails_alone_has_failed_and_documents_are_left_out_for_all_alike():
    model = toy("hybrid")
    good, poor = list(model.seeds().values())[:2]

    def row(genome, document: int, error: str | None, generation: int = 0) -> HistoryRow:
        nats = None if error else 2.0
        known = (genome.steps, genome.start_tokens, document, nats, 0 if error else 1, 1, error, 0.1, 0)
        return HistoryRow(generation, "seed", *known, attention=genome.attention)

    record = SearchRecord([row(good, 0, None), row(good, 1, "nan"), row(poor, 0, "nan"), row(poor, 1, "nan")])
    first, second = (record.evaluation(Request(one, (0, 1), "seed"), 0) for one in (good, poor))
    assert first.documents == second.documents == (0,) and first.loss == 2.0
    assert second.failed
    record.append([row(replace(good, start_tokens=1), 1, None, generation=1)])  # it can be scored, after all
    assert record.evaluation(Request(good, (0, 1), "seed"), 0) == first
    assert record.evaluation(Request(good, (0, 1), "seed"), 1).failed
    lost = record.evaluation(Request(poor, (1,), "seed"), 0)
    assert lost.failed and lost.documents == (1,) and lost.error == "nan"
