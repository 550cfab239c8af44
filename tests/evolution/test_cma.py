import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import CmaSettings, Evaluation, Request, Space
from longrope.evolution.strategies import CmaStrategy

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


def test_it_starts_from_the_best_seed_and_keeps_its_start_tokens():
    told = run(new())
    assert [evaluation.request.origin for evaluation in told[0]] == ["seed:pi", "seed:ntk"]
    assert {evaluation.genome.start_tokens for row in told[1:] for evaluation in row} == {8}
    worst_first = run(new(), lambda request: smooth(request, 1e3 * (request.genome.start_tokens == 8)))
    assert {evaluation.genome.start_tokens for row in worst_first[1:] for evaluation in row} == {4}


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
        assert told[0].genome == told[1].genome


def test_a_failed_seed_is_never_the_origin():
    strategy = new()
    strategy.tell([Evaluation(r, error="nan") if r.origin == "seed:ntk" else smooth(r) for r in strategy.ask()])
    assert {request.genome.start_tokens for request in strategy.ask()} == {4}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 3))
def test_every_proposal_is_in_the_space(seed: int, sigma: float):
    told = run(new(replace(SMALL, sigma=sigma), seed=seed))
    assert all(SPACE.contains(evaluation.genome) for row in told for evaluation in row)


def test_the_state_replays_through_json_to_the_same_proposals():
    strategy = new()
    for _ in range(3):
        strategy.tell([smooth(request) for request in strategy.ask()])
    state = json.loads(json.dumps(strategy.state()))
    again = new()
    again.restore(state)
    assert again.ask() == strategy.ask() and again.best == strategy.best
    assert run(again) == run(strategy)


def test_a_state_of_another_search_is_refused():
    strategy = new()
    for _ in range(2):
        strategy.tell([smooth(request) for request in strategy.ask()])
    with pytest.raises(ValueError, match="must replay exactly"):
        new(seed=1).restore(strategy.state())


def test_settings_that_do_not_fit_the_space_or_the_documents_are_refused():
    with pytest.raises(ValueError, match="num_knots must be at most 16 pairs, got 17"):
        new(CmaSettings(num_knots=17))
    with pytest.raises(ValueError, match="documents_per_generation must be at most the 5 search documents, got 6"):
        new(CmaSettings(documents_per_generation=6))
