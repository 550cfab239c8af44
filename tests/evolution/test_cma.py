from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import CmaSettings, Evaluation, Request, Space, Strategy
from longrope.evolution.strategies import CmaStrategy

from .conftest import reopened

SPACE = Space(num_pairs=16, scale=8.0)
PAIRS = np.arange(16)
SEEDS = {
    "pi": SPACE.encode([8.0] * 16, start_tokens=4),
    "ntk": SPACE.encode(8.0 ** (PAIRS / 15), start_tokens=8),
}
TARGET = np.log(1 + 7 * (PAIRS / 15) ** 2)
SMALL = CmaSettings(population_size=6, num_iterations=4, num_knots=4)


def new(settings: CmaSettings = SMALL, num_documents: int = 5, seed: int = 0) -> CmaStrategy:
    return CmaStrategy(settings, SPACE, SEEDS, num_documents, seed)


def smooth(request: Request, penalty: float = 0.0) -> Evaluation:
    """Distance of log lambda to a smooth target, shifted by documents, over tokens of unequal documents."""
    distance = float(np.square(np.log(SPACE.decode(request.genome)) - TARGET).sum()) + penalty
    tokens = tuple(100 + document for document in request.documents)
    return Evaluation(request, tuple((1 + distance) * count for count in tokens), tokens)


def run(strategy: CmaStrategy, score: Any = smooth) -> list[list[Evaluation]]:
    told: list[list[Evaluation]] = []
    while not strategy.done:
        told.append([score(request) for request in strategy.ask()])
        strategy.tell(told[-1])
    return told


def test_candidates_of_a_generation_share_their_documents_and_generations_draw_their_own():
    told = run(new(replace(SMALL, documents_per_generation=2, num_iterations=10)))
    documents = [{evaluation.request.documents for evaluation in row} for row in told]
    assert all(len(shared) == 1 for shared in documents)
    assert all(len(set(*shared)) == 2 for shared in documents[:-1])
    assert len(set().union(*documents[:-1])) > 3
    assert documents[-1] == {(0, 1, 2, 3, 4)}


def factors_of_first_generation(settings: CmaSettings, score: Any) -> set[tuple[int, ...]]:
    return {evaluation.genome.steps for evaluation in run(new(settings), score)[1]}


def test_it_starts_from_the_best_seed():
    still = replace(SMALL, sigma=1e-6)
    assert [evaluation.request.origin for evaluation in run(new())[0]] == ["seed:pi", "seed:ntk"]
    assert factors_of_first_generation(still, smooth) == {SEEDS["ntk"].steps}
    bad_ntk = factors_of_first_generation(still, lambda r: smooth(r, 1e3 * (r.genome.steps == SEEDS["ntk"].steps)))
    assert bad_ntk == {SEEDS["pi"].steps}


def test_it_finds_start_tokens_on_the_way():
    choices = SPACE.start_token_choices

    def needs_twenty(request: Request) -> Evaluation:
        return smooth(request, 0.1 * abs(choices.index(request.genome.start_tokens) - choices.index(20)))

    strategy = new(CmaSettings(num_iterations=40))
    run(strategy, needs_twenty)
    assert strategy.best is not None and 16 <= strategy.best.genome.start_tokens <= 24


def test_it_finds_the_attention_factor_where_the_space_searches_it():
    space = replace(SPACE, search_attention=True)
    seeds = {"ntk": space.encode(space.decode(SEEDS["ntk"]), 0, 1.0)}

    def needs_attention(request: Request) -> Evaluation:
        return smooth(request, 20 * ((space.decode_attention(request.genome) or 0) - 1.15) ** 2)

    strategy = CmaStrategy(CmaSettings(num_iterations=40), space, seeds, 1, 0)
    told = run(strategy, needs_attention)
    assert all(space.contains(evaluation.genome) for row in told for evaluation in row)
    assert strategy.best is not None
    assert space.decode_attention(strategy.best.genome) == pytest.approx(1.15, abs=0.03)


def test_start_tokens_that_bring_nothing_are_given_up_in_the_end():
    def wants_the_seed_s(request: Request) -> Evaluation:
        return smooth(request, 0.01 * (request.origin == "average" and request.genome.start_tokens != 8))

    strategy = new(CmaSettings(num_iterations=10))
    run(strategy, wants_the_seed_s)
    assert strategy.best is not None and strategy.best.genome.start_tokens == 8


def test_windows_are_drawn_from_all_and_the_result_is_scored_on_the_first_of_each_document():
    told = run(new(replace(SMALL, num_iterations=60, windows_per_document=4)))
    drawn = {evaluation.request.documents[0] for row in told[:-1] for evaluation in row}
    assert len(drawn) > 15 and max(drawn) == 19
    assert {evaluation.request.documents for evaluation in told[-1]} == {(0, 1, 2, 3, 4)}


def test_a_search_told_to_finish_scores_the_average_next():
    strategy = new()
    told = [told_one(strategy) for _ in range(3)]
    strategy.ask()
    strategy.finish()
    again = reopened(strategy, new(), told)
    last = run(strategy)
    assert "average" in {evaluation.request.origin for evaluation in last[0]} and len(last) == 1
    assert run(again) == last and again.best == strategy.best  # type: ignore[arg-type]


def test_it_comes_much_nearer_to_a_smooth_target_than_the_best_seed():
    strategy = new(CmaSettings(num_iterations=40))
    told = run(strategy)
    assert strategy.best is not None and strategy.best.request.origin == "average"
    best_seed = min(evaluation.loss for evaluation in told[0])
    assert strategy.best.loss - 1 < 0.1 * (best_seed - 1)


def test_the_last_means_are_averaged_so_a_smaller_share_of_a_travelling_search_lies_nearer_to_the_target():
    last, every = (new(CmaSettings(sigma=0.01, num_iterations=10, averaged_share=share)) for share in (0.1, 1.0))
    run(last)
    run(every)
    assert last.best is not None and every.best is not None
    assert last.best.loss - 1 < 0.8 * (every.best.loss - 1)


def test_the_result_is_the_seed_where_the_search_found_nothing_better():
    def seeds_only(request: Request) -> Evaluation:
        return smooth(request, 0.0 if request.origin.startswith("seed") else 1e3)

    strategy = new()
    run(strategy, seeds_only)
    assert strategy.best is not None and strategy.best.request.origin == "seed:ntk"
    assert strategy.best.request.documents == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("failing", [2, 5])
def test_failed_candidates_move_nothing_and_win_nothing(failing: int):
    strategy = new()
    told: list[Evaluation] = []
    while not strategy.done:
        requests = strategy.ask()
        bad = set(range(failing)) if 0 < strategy.generation < 5 else set()
        told = [Evaluation(r, error="nan") if i in bad else smooth(r) for i, r in enumerate(requests)]
        strategy.tell(told)
        assert strategy.best is not None and not strategy.best.failed
    if failing == 5:  # too few to learn from: every mean stays at the seed
        assert [evaluation.request.origin for evaluation in told] == ["seed:ntk"]


def test_a_failed_seed_is_never_the_origin():
    def fail_ntk(request: Request) -> Evaluation:
        return Evaluation(request, error="nan") if request.origin == "seed:ntk" else smooth(request)

    assert factors_of_first_generation(replace(SMALL, sigma=1e-6), fail_ntk) == {SEEDS["pi"].steps}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 3))
def test_every_proposal_is_in_the_space(seed: int, sigma: float):
    told = run(new(replace(SMALL, sigma=sigma), seed=seed))
    assert all(SPACE.contains(evaluation.genome) for row in told for evaluation in row)


def test_a_state_goes_on_through_json_to_the_same_proposals():
    strategy, told = new(), []
    whole = run(new())
    while not strategy.done:
        strategy = reopened(strategy, new(seed=9), told)
        told.append(told_one(strategy))
    assert told == whole


def told_one(strategy: Strategy) -> list[Evaluation]:
    evaluations = [smooth(request) for request in strategy.ask()]
    strategy.tell(evaluations)
    return evaluations


def test_settings_that_do_not_fit_the_space_or_the_documents_are_refused():
    with pytest.raises(ValueError, match="num_knots must be at most 16 pairs, got 17"):
        new(CmaSettings(num_knots=17))
    with pytest.raises(ValueError, match="documents_per_generation must be at most the 5 search documents, got 6"):
        new(CmaSettings(documents_per_generation=6))
