import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longrope.evolution import (
    Candidate,
    Genome,
    HybridSettings,
    PaperSettings,
    RunFolder,
    Score,
    Search,
    SearchRecord,
    Settings,
    Space,
    build_strategy,
    run_search,
)
from longrope.rope import RopeGeometry
from longrope.rope.methods import NTK, Linear

from .conftest import SEED_LAMBDAS, SETTINGS, SPACE, ToyObjective, build, trace
from .toy_benchmark import NUM_PAIRS, SCALE, Toy

NUM_DOCUMENTS = 4
TOY = Toy(HybridSettings().space(NUM_PAIRS, SCALE), 1)


def arguments(name: str) -> tuple[Space, Settings, Mapping[str, Genome]]:
    settings = replace(SETTINGS[name], windows_per_document=1)
    space = replace(settings.space(SPACE.num_pairs, SPACE.scale), critical_dimensions=(2, 4))
    attention = 1.0 if space.search_attention else None
    return space, settings, {seed: space.encode(lambdas, 0, attention) for seed, lambdas in SEED_LAMBDAS.items()}


def new(name: str, record: SearchRecord | None = None) -> Search:
    space, settings, seeds = arguments(name)
    return Search(space, settings, seeds=seeds, num_documents=NUM_DOCUMENTS, gradients=True, seed=7, record=record)


def told(candidate: Candidate) -> Score:
    """The toy's score, with derivatives where they are wanted."""
    factors, objective = build(candidate.genome), ToyObjective()
    if not candidate.gradient:
        one = objective.score([factors], candidate.document)[0]
        return Score(one.nats, one.tokens, one.forwarded)
    steep = objective.gradient(factors, candidate.document)
    return Score(steep.nats, steep.tokens, steep.forwarded, None, steep.d_log_lambda, steep.d_log_attention)


def run(search: Search, num_generations: float = math.inf) -> Search:
    while not search.done and search.generation < num_generations:
        search.tell([told(one) for one in search.ask()])
    return search


def test_asking_and_telling_gives_the_history_of_a_search_over_an_objective(name: str, tmp_path: Path):
    space, settings, seeds = arguments(name)
    with RunFolder(tmp_path / "objective", {}) as folder:
        strategy = build_strategy(settings, space, seeds, NUM_DOCUMENTS, 7)
        result = run_search(strategy, ToyObjective(), folder, build)
    with RunFolder(tmp_path / "told", {}) as folder:
        best = run(new(name, folder)).best
    assert trace(tmp_path / "told") == trace(tmp_path / "objective")
    assert best is not None and (best.genome, best.loss) == (result.best.genome, result.best.loss)
    assert best.documents == result.best.request.documents


def test_a_search_in_memory_is_the_one_in_a_folder(name: str, tmp_path: Path):
    with RunFolder(tmp_path, {}) as folder:
        assert run(new(name, folder)).best == run(new(name)).best


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_search_goes_on_from_its_folder(name: str, stop: int, tmp_path: Path):
    whole = run(new(name))
    with RunFolder(tmp_path, {}) as folder:
        run(new(name, folder), num_generations=stop)
    with RunFolder(tmp_path, {}, resume=True) as folder:
        search = new(name, folder)
        assert search.generation == min(stop, whole.generation)
        assert run(search).best == whole.best
    assert [replace(row, seconds=0.0) for row in whole.rows] == trace(tmp_path)


def test_a_loss_of_one_s_own_is_minimised_with_numbers_alone():
    search = Search(TOY.space, num_documents=12, seed=3)
    while not search.done:
        search.tell([TOY.loss(one.genome, one.document) for one in search.ask()])
    assert search.best is not None and not search.best.origin.startswith("seed")
    pi = Genome((800,) * NUM_PAIRS, 0, 1000)
    ntk = TOY.space.encode(SCALE ** np.linspace(0, 1, NUM_PAIRS), 0, 1.0)
    excess = [TOY.loss(genome) - 2 for genome in (search.best.genome, pi, ntk)]
    assert excess[0] < 0.5 * min(excess[1:])
    assert len(search.rows) <= HybridSettings().num_scores and not any(row.differentiated for row in search.rows)


def test_one_document_is_enough_where_there_is_no_noise():
    space = Space(num_pairs=4, scale=2.0, start_token_choices=(0,))
    search = Search(space, PaperSettings(population_size=8, num_parents=4, num_iterations=20), num_documents=1)
    while not search.done:
        assert {one.document for one in search.ask()} == {0}
        search.tell([float(np.abs(one.lambdas - [1, 1.2, 1.5, 2]).sum()) for one in search.ask()])
    assert search.best is not None and search.best.loss < 0.3


def test_defaults_begin_at_pi_and_ntk():
    geometry = RopeGeometry(2 * NUM_PAIRS, 10000.0, 256)
    for settings in (HybridSettings(), PaperSettings()):
        space = settings.space(NUM_PAIRS, SCALE)
        seeds = {one.origin: one for one in Search(space, settings).ask() if one.origin.startswith("seed")}
        for name, method in {"seed:pi": Linear(SCALE), "seed:ntk": NTK(SCALE)}.items():
            np.testing.assert_allclose(seeds[name].lambdas, method.factors(geometry).lambdas, atol=0.5 * space.step)
            assert seeds[name].attention_factor == (1.0 if space.search_attention else None)


def test_a_candidate_gives_the_factors_of_a_model():
    geometry = RopeGeometry(2 * NUM_PAIRS, 10000.0, 256, attention_factor=1.5)
    (one, *_) = Search(TOY.space, num_documents=2).ask()
    factors = one.factors(geometry)
    assert (factors.original_length, factors.target_length, factors.scale) == (256, 2048, SCALE)
    assert factors.attention_factor == 1.5 * (one.attention_factor or 0) and np.array_equal(
        factors.lambdas, one.lambdas
    )
    (fixed, *_) = Search(PaperSettings().space(NUM_PAIRS, SCALE), "paper").ask()
    assert fixed.factors(geometry, 1.2).attention_factor == pytest.approx(1.8)


def test_asking_twice_gives_the_same_and_telling_needs_one_loss_each():
    search = new("paper")
    assert search.ask() == search.ask()
    with pytest.raises(RuntimeError, match=f"one loss per candidate of ask, got 1 for {len(search.ask())}"):
        search.tell([1.0])
    assert not search.rows
    with pytest.raises(RuntimeError, match="ask must not follow the end"):
        run(search).ask()


def test_losses_that_are_no_numbers_win_nothing_and_keep_their_reason():
    search = new("paper")
    search.tell([float("nan"), Score(None, error="crashed"), *map(told, search.ask()[2:])])
    assert "finite" in str(search.rows[0].error) and search.rows[1].error == "crashed"
    failed = {row.genome for row in search.rows if row.error}
    best = run(search).best
    assert best is not None and best.genome not in failed


def test_a_loss_may_be_whatever_is_a_number_and_nothing_else():
    search = new("paper")
    search.tell(
        [np.float32(one.lambdas.sum()) if number else torch.tensor(1.5) for number, one in enumerate(search.ask())]
    )
    assert search.rows[0].nats == 1.5
    asked = search.ask()
    for wrong in (None, "many", torch.ones(2), [1.0]):
        with pytest.raises(ValueError, match="a loss must be a number or a Score, got"):
            search.tell([wrong, *map(told, asked[1:])])  # type: ignore[list-item]
    assert search.ask() == asked
    search.tell(list(map(told, asked)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("attention", [False, True])
def test_derivatives_that_are_no_numbers_are_failures(bad: float, attention: bool, tmp_path: Path):
    def broken(score: Score) -> Score:
        if not score.d_log_lambda:
            return score
        return replace(score, d_log_attention=bad) if attention else replace(score, d_log_lambda=(bad,) * 6)

    with RunFolder(tmp_path, {}) as folder:
        search = new("hybrid", folder)
        while not search.done:
            search.tell([broken(told(one)) for one in search.ask()])
    failed = [row for row in search.rows if row.differentiated]
    assert failed and all("derivatives must be finite, got" in str(row.error) for row in failed)
    assert search.best is not None


def test_a_first_generation_of_failures_is_refused():
    search = new("paper")
    with pytest.raises(RuntimeError, match="first generation must hold a candidate that can be scored"):
        search.tell([float("nan")] * len(search.ask()))


@pytest.mark.parametrize("stop", [1, 4])
def test_a_search_that_is_finished_early_has_a_result(name: str, stop: int):
    search = run(new(name), num_generations=stop)
    search.finish()
    assert run(search).best is not None and search.done
    assert search.generation <= stop + 1


def test_a_search_that_is_finished_before_any_loss_was_told_asks_for_the_choice_among_seeds_at_most(name: str):
    search = new(name)
    search.finish()
    seeds = set(arguments(name)[2].values())
    assert search.done or {one.genome for one in search.ask()} <= seeds
    has_choice = not search.done
    best = run(search).best
    assert has_choice == (best is not None) == (name in ("hybrid", "steady"))
    assert search.done and search.generation == int(has_choice)


def test_gradients_are_asked_for_only_where_they_can_be_told():
    assert any(row.differentiated for row in run(new("hybrid")).rows)
    space, settings, seeds = arguments("hybrid")
    assert not any(row.differentiated for row in run(Search(space, settings, seeds=seeds, num_documents=4)).rows)


def test_a_number_in_place_of_a_gradient_is_a_failure_that_the_default_goes_on_without():
    search = new("hybrid")
    while not search.done:
        search.tell([told(one) if not one.gradient else float(told(one).nats or 0) for one in search.ask()])
    failed = [row for row in search.rows if row.differentiated]
    assert len({row.generation for row in failed}) == 1 and "must have 6 derivatives by log lambda, got 0" in str(
        failed[0].error
    )
    assert search.best is not None


def test_an_unknown_strategy_is_refused_by_name():
    with pytest.raises(ValueError, match="strategy must be one of paper, .*, got 'evolve'"):
        Search(TOY.space, "evolve")
