from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import (
    Evaluation,
    Genome,
    Gradient,
    GradientSettings,
    Request,
    RunFolder,
    Space,
    load_settings,
    read_history,
    run_search,
)
from longrope.evolution.strategies import GradientStrategy
from longrope.evolution.strategies.gradient import Adam, Descent
from longrope.hyperparams import preset
from longrope.rope.factors import RescaleFactors

from .conftest import ToyObjective, ToyScore, build, new_strategy, reopened, run_toy, trace
from .toy_benchmark import BEST_ATTENTION, NUM_DOCUMENTS, NUM_PAIRS, SCALE, WEIGHT, Toy

SMALL = GradientSettings(num_iterations=5)
TOY = Toy(SMALL.space(NUM_PAIRS, SCALE), SMALL.windows_per_document)


def new(chosen: GradientSettings = SMALL, seed: int = 0, space: Space = TOY.space) -> GradientStrategy:
    return GradientStrategy(chosen, space, TOY.seeds(), NUM_DOCUMENTS, seed)


def derivatives(genome: Genome, window: int) -> Gradient:
    """Of the toy's loss."""
    attention = TOY.space.decode_attention(genome) or BEST_ATTENTION
    distance = np.log(TOY.space.decode(genome)) - TOY.optimum(window)
    return Gradient(tuple(2 * WEIGHT * distance), 2 * (attention - BEST_ATTENTION) * attention)


def scored(request: Request, penalty: float = 0.0) -> Evaluation:
    """Windows of 10 tokens; derivatives where they are wanted."""
    nats = tuple(10 * (TOY.loss(request.genome, window) + penalty) for window in request.documents)
    found = [derivatives(request.genome, window) for window in request.documents] if request.gradient else []
    summed = [Gradient(tuple(10 * np.array(one.log_lambda)), 10 * one.log_attention) for one in found]
    return Evaluation(request, nats, (10,) * len(nats), gradients=tuple(summed))


def run(strategy: GradientStrategy) -> list[list[Evaluation]]:
    told: list[list[Evaluation]] = []
    while not strategy.done:
        told.append([scored(request) for request in strategy.ask()])
        strategy.tell(told[-1])
    return told


def cost(told: Sequence[Sequence[Evaluation]]) -> int:
    """Scores paid for: each candidate on each window once."""
    requests = [one.request for row in told for one in row]
    paid = {(r.genome, window, r.gradient): r.scores_per_document for r in requests for window in r.documents}
    return sum(paid.values())


def test_adam_is_torch_s():
    gradients = np.random.default_rng(0).normal(size=(20, 3)) * [1, 1e-3, 100]
    point = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    reference = torch.optim.Adam([point], lr=0.05, betas=(0.9, 0.99), eps=1e-12)
    ours, adam = np.zeros(3), Adam(0.05, 0.9, 0.99)
    for gradient in gradients:
        point.grad = torch.tensor(gradient)
        reference.step()
        ours = ours + adam.step(gradient)
        np.testing.assert_allclose(ours, point.detach().numpy(), rtol=1e-9)


def test_the_phases_are_seeds_then_start_tokens_then_steps_then_the_result():
    told = run(new())
    requests = [[one.request for one in row] for row in told]
    assert [request.origin for request in requests[0]] == ["seed:pi", "seed:ntk", "seed:yarn"]
    assert [request.genome.start_tokens for request in requests[1]] == list(TOY.space.start_token_choices)
    assert [len(row) for row in requests[2:-1]] == [1] * 5
    assert [[request.gradient for request in row] for row in requests[2:-1]] == [[True]] * 5
    assert not any(request.gradient for row in (*requests[:2], requests[-1]) for request in row)
    assert {request.documents for request in requests[-1]} == {tuple(range(NUM_DOCUMENTS))}
    assert "average" in {request.origin for request in requests[-1]}


def test_without_a_choice_of_start_tokens_their_generation_is_left_out():
    chosen = replace(SMALL, start_token_choices=(0,))
    told = run(new(chosen, space=chosen.space(NUM_PAIRS, SCALE)))
    assert [row[0].request.origin for row in told[:2]] == ["seed:pi", "adam"]


def test_it_descends_from_the_best_seed_with_the_best_start_tokens():
    strategy = new()
    seeds = [scored(request) for request in strategy.ask()]
    strategy.tell(seeds)
    best = min(seeds, key=lambda one: one.loss)
    told = [scored(one, 0.0 if one.genome.start_tokens == 16 else 1.0) for one in strategy.ask()]
    strategy.tell(told)
    assert strategy.ask()[0].genome == replace(best.genome, start_tokens=16)


def test_windows_of_the_steps_are_fresh_until_all_were_drawn():
    told = run(new(replace(SMALL, num_iterations=60, windows_per_document=6)))
    drawn = [one.request.documents[0] for row in told[2:-1] for one in row]
    assert len(set(drawn)) == 60


def test_it_removes_nearly_all_of_the_best_seed_s_excess_on_documents_never_seen_in_270_scores():
    ends = []
    for seed in range(3):
        strategy = new(GradientSettings(), seed)
        told = run(strategy)
        assert strategy.best is not None and strategy.best.request.origin == "average"
        assert cost(told) <= 270
        ends.append(TOY.loss(strategy.best.genome) - 2)
    seed_loss = min(TOY.loss(genome) - 2 for genome in TOY.seeds().values())
    assert max(ends) < 0.05 * seed_loss


def test_it_finds_the_attention_factor():
    strategy = new(GradientSettings())
    run(strategy)
    assert strategy.best is not None
    assert TOY.space.decode_attention(strategy.best.genome) == pytest.approx(BEST_ATTENTION, abs=0.02)


def test_the_result_is_the_seed_where_the_descent_found_nothing_better():
    strategy = new()
    while not strategy.done:
        strategy.tell([scored(one, float(not one.origin.startswith("seed"))) for one in strategy.ask()])
    assert strategy.best is not None and strategy.best.request.origin.startswith("seed")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(0.01, 3))
def test_every_point_is_in_the_space_whatever_the_gradients(seed: int, num_knots: int, learning_rate: float):
    rng = np.random.default_rng(seed)
    origin = TOY.seeds()[("pi", "ntk", "yarn")[seed % 3]]
    descent = Descent(TOY.space, origin, min(num_knots, NUM_PAIRS), Adam(learning_rate, 0.9, 0.99))
    assert descent.genome == origin
    for _ in range(10):
        descent.step(rng.normal(size=NUM_PAIRS), float(rng.normal()))
        assert TOY.space.contains(descent.genome) and TOY.space.contains(descent.average(0.5))


def test_a_point_pressed_against_a_bound_comes_back_at_once():
    origin = TOY.seeds()["pi"]
    descent = Descent(TOY.space, origin, NUM_PAIRS, Adam(0.3, 0.0, 0.0))
    for _ in range(20):
        descent.step(-np.ones(NUM_PAIRS), -1.0)
    assert set(descent.genome.steps) == {TOY.space.upper} and descent.genome.attention == TOY.space.attention_upper
    descent.step(np.ones(NUM_PAIRS), 1.0)
    assert max(descent.genome.steps) < TOY.space.upper
    assert (descent.genome.attention or 0) < TOY.space.attention_upper


def test_points_that_cross_are_pooled_to_their_mean():
    origin = TOY.space.encode([2.0] * NUM_PAIRS, 0, 1.0)
    descent = Descent(replace(TOY.space, sensitive_pairs=None), origin, NUM_PAIRS, Adam(0.1, 0.0, 0.0))
    descent.step(np.array([-1.0] * 16 + [1.0] * 16), 0.0)  # would raise the first half and lower the second
    assert set(descent.genome.steps) == {200}
    assert all(a <= b for a, b in pairwise(descent.genome.steps))


@pytest.mark.parametrize("failing", [3, 4])
def test_a_failed_step_moves_nothing(failing: int):
    strategy = new()
    points: list[Genome] = []
    while not strategy.done:
        requests = strategy.ask()
        points.append(requests[0].genome)
        failed = strategy.generation == failing
        strategy.tell([Evaluation(one, error="nan") if failed else scored(one) for one in requests])
    assert points[failing + 1] == points[failing] and points[failing + 2] != points[failing + 1]


def test_a_first_step_that_fails_ends_the_search_with_its_reason():
    strategy = new()
    for _ in range(2):
        strategy.tell([scored(request) for request in strategy.ask()])
    with pytest.raises(RuntimeError, match="first gradient must not fail, got out of memory"):
        strategy.tell([Evaluation(request, error="out of memory") for request in strategy.ask()])


@pytest.mark.parametrize("generations", [1, 2, 4])
def test_a_state_goes_on_through_json_also_after_finishing_early(generations: int):
    strategy, told = new(), []
    for _ in range(generations):
        told.append([scored(request) for request in strategy.ask()])
        strategy.tell(told[-1])
    again = reopened(strategy, new(seed=9), told)
    assert run(again) == run(reopened(strategy, new(), told))  # type: ignore[arg-type]
    strategy.finish()
    again = reopened(strategy, new(), told)
    assert run(again) == run(strategy) and again.best == strategy.best  # type: ignore[arg-type]
    assert strategy.generation == generations + 1


def test_the_history_holds_the_derivatives_to_the_last_bit_and_what_they_cost(tmp_path: Path):
    result = run_toy("gradient", tmp_path, ToyObjective())
    rows = read_history(tmp_path / "history.jsonl").rows
    steps = [row for row in rows if row.origin == "adam"]
    assert len(steps) == 6 and all(row.differentiated and row.forwarded == 30 for row in steps)
    for row in steps:
        expected = ToyObjective().gradient(build(row.genome), row.document)
        assert row.gradient == Gradient(expected.d_log_lambda, expected.d_log_attention)
    assert all(row.gradient is None for row in rows if not row.differentiated)
    assert result.scored_tokens == 10 * (len(rows) + 2 * len(steps))


def test_a_plain_score_does_not_answer_for_a_gradient_nor_the_other_way_round(tmp_path: Path):
    genome = new_strategy("gradient").ask()[0].genome
    plain, steep = Request(genome, (0, 1), "a"), Request(genome, (1,), "b", gradient=True)
    with RunFolder(tmp_path, {}) as folder:
        assert folder.missing([plain, steep]) == {
            (0, False): {genome: "a"},
            (1, False): {genome: "a"},
            (1, True): {genome: "b"},
        }


def test_an_objective_without_gradients_is_refused_by_name(tmp_path: Path):
    class Plain:
        def price(self, document: int, gradient: bool) -> int:
            return 10

        def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[ToyScore]:
            return ToyObjective().score(candidates, document)

    with RunFolder(tmp_path, {}) as folder, pytest.raises(ValueError, match="must have gradients .* got Plain"):
        run_search(new_strategy("gradient"), Plain(), folder, build)
    assert {row.generation for row in trace(tmp_path)} == {0, 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", 0.0), ("beta1", 1.0), ("beta2", -0.1), ("num_iterations", 0)]
)
def test_settings_out_of_range_are_refused(name: str, value: Any):
    with pytest.raises(ValueError, match=f"{name} must be"):
        replace(GradientSettings(), **{name: value})


def test_the_shipped_file_states_the_defaults():
    assert load_settings(preset("gradient")) == GradientSettings()
