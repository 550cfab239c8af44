"""A document on which everybody fails says nothing of anybody: it costs its scores and decides nothing."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longrope.evolution import (
    Candidate,
    Evaluation,
    Genome,
    HybridSettings,
    RunFolder,
    Score,
    Search,
    SearchRecord,
    SteadySettings,
    Strategy,
    build_strategy,
    run_search,
)
from longrope.evolution.curve import incumbents_curve
from longrope.evolution.history import HistoryRow
from longrope.evolution.strategies import Request
from longrope.evolution.strategies.base import PROBE
from longrope.rope import RescaleFactors

from .conftest import SEEDS, ToyObjective, ToyScore, build, new_strategy
from .conftest import SPACE as TOY_SPACE
from .test_units import Shuffled
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


STEPS = [Genome((100, 200 + number), 0) for number in range(4)]


def row(candidate: int, document: int, error: str | None, generation: int = 0, **more: Any) -> HistoryRow:
    nats = None if error else 2.0
    known = (STEPS[candidate].steps, 0, document, nats, 0 if error else 1, 1, error, 0.1, 0)
    return HistoryRow(generation, more.pop("origin", "mutation"), *known, **more)


def asked(candidate: int, *documents: int) -> Request:
    return Request(STEPS[candidate], documents, "mutation")


def test_who_fails_alone_has_failed_and_documents_are_left_out_for_all_alike():
    record = SearchRecord([row(0, 0, None), row(0, 1, "nan"), row(1, 0, "nan"), row(1, 1, "nan")])
    first, second = (record.evaluation(asked(one, 0, 1), 0) for one in (0, 1))
    assert first.documents == second.documents == (0,) and first.loss == 2.0
    assert second.failed
    record.append([row(2, 0, None, 1), row(2, 1, None, 1)])  # it can be scored, after all
    assert record.evaluation(asked(0, 0, 1), 0) == first == record.evaluation(asked(0, 0, 1), 1)
    assert record.evaluation(asked(2, 0, 1), 1).documents == (0,)
    lost = record.evaluation(asked(1, 1), 0)
    assert lost.failed and lost.documents == (1,) and lost.error == "nan"


def test_who_fails_later_where_others_had_a_loss_has_failed():
    record = SearchRecord([row(0, 0, None), row(0, 1, None), row(1, 0, None), row(1, 1, "nan")])
    record.append([row(2, 0, None, 1), row(2, 1, "nan", 1), row(3, 0, None, 1), row(3, 1, "nan", 1)])
    assert all(record.evaluation(asked(one, 0, 1), 1).failed for one in (1, 2, 3))
    assert not record.evaluation(asked(0, 0, 1), 1).failed


def test_a_gradient_or_a_probe_alone_decides_nothing():
    for more in ({"origin": PROBE}, {"differentiated": True}):
        request = replace(asked(0, 0, 1), gradient="differentiated" in more)
        other = replace(request, genome=STEPS[1])
        record = SearchRecord([row(0, 0, None, 0, **more), row(0, 1, "nan", 0, **more)])
        assert record.evaluation(request, 0).documents == (0,)
        record.append([row(1, 0, None, 3, **more), row(1, 1, None, 3, **more)])
        assert record.evaluation(request, 2).documents == (0,)
        assert record.evaluation(request, 3).failed and record.evaluation(other, 3).documents == (0, 1)


def test_a_single_seed_decides_and_the_order_of_what_follows_does_not():
    seed, late = [row(0, 0, None), row(0, 1, "nan")], [row(1, 0, None, 1), row(1, 1, None, 1)]
    record = SearchRecord([*seed, row(2, 0, None, 2), row(2, 1, "nan", 2)])
    told = record.evaluation(asked(2, 0, 1), 2)
    record.append(late)
    assert record.evaluation(asked(2, 0, 1), 2) == told and told.documents == (0,)


def test_a_document_of_later_generations_is_decided_by_the_first_two_candidates_there():
    record = SearchRecord([row(0, 0, None), row(1, 0, None), row(0, 1, "nan", 2), row(1, 1, "nan", 2)])
    record.append([row(2, 0, None, 3), row(2, 1, None, 3), row(3, 0, None, 3), row(3, 1, None, 3)])
    assert {record.evaluation(asked(one, 0, 1), 3).documents for one in range(4)} == {(0,)}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans()), min_size=1), st.randoms())
def test_rows_of_later_generations_and_the_order_of_rows_never_matter(found: list[tuple[int, int, bool]], dice: Any):
    rows = list({one.key: one for one in (row(c, 0, None if ok else "nan", g) for g, c, ok in found)}.values())
    last = max(one.generation for one in rows)
    whole = SearchRecord(rows)
    for generation in range(last + 1):
        early = [one for one in rows if one.generation <= generation]
        dice.shuffle(early)
        for one in early:
            request = Request(one.genome, (0,), "mutation")
            assert SearchRecord(early).evaluation(request, generation) == whole.evaluation(request, generation)
    settled = [whole._usable(rows[0], generation) for generation in range(last + 1) if generation >= _decided(rows)]
    assert len(set(settled)) <= 1


def _decided(rows: Sequence[HistoryRow]) -> float:
    numbers = [one.generation for one in rows]
    return min((number for number in numbers if number == 0 or numbers.count(number) > 1), default=math.inf)


class Told:
    """Keeps what a strategy is told, in a whole run on an objective that fails a document for all but late ones."""

    def __init__(self, strategy: Strategy, objective: ToyObjective) -> None:
        self.evaluations: list[Evaluation] = []
        tell = strategy.tell

        def watched(evaluations: Sequence[Evaluation]) -> None:
            self.evaluations += evaluations
            tell(evaluations)

        strategy.tell = watched
        run_search(strategy, objective, SearchRecord(), build)


class HardAtFirst(Shuffled):
    """One document gives a loss only to some candidates that come late."""

    def __init__(self, document: int, width: int) -> None:
        super().__init__(5, width=width)
        self.document, self.works = document, set[tuple[float, ...]]()

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[ToyScore]:
        scores = super().score(candidates, document)
        if document != self.document:
            return scores
        late = self.scores > 60
        self.works |= {tuple(one.lambdas) for one in candidates if late and round(100 * one.lambdas.sum()) % 3}
        known = [tuple(one.lambdas) in self.works for one in candidates]
        return [one if works else ToyScore(0.0, 0, "nan") for one, works in zip(scores, known, strict=True)]


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("name", ["paper", "longrope2", "pareto", "steady", "one seed"])
def test_candidates_that_are_compared_have_the_same_documents(name: str, width: int):
    if name in ("steady", "one seed"):
        seeds = SEEDS if name == "steady" else {"pi": SEEDS["pi"]}
        strategy = build_strategy(SteadySettings(population_size=6, num_candidates=40), TOY_SPACE, seeds, 8, 7)
    else:
        strategy = new_strategy(name)
    searched = strategy.ask()[0].documents
    objective = HardAtFirst(searched[1], width)
    told = Told(strategy, objective).evaluations
    assert objective.works
    compared = [one for one in told if one.request.documents == searched]
    assert {one.documents for one in compared} == {tuple(one for one in searched if one != searched[1])}
    assert not any(one.failed for one in compared)
