import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import Evaluation, HybridSettings, PaperSettings, Request
from longrope.evolution.strategies import HybridStrategy
from longrope.evolution.strategies.windows import Deck, split

from .toy_benchmark import NUM_DOCUMENTS, NUM_PAIRS, SCALE, Toy, benchmark

SMALL = HybridSettings(num_scores=160)
TOY = Toy(SMALL.space(NUM_PAIRS, SCALE), SMALL.windows_per_document)


def new(chosen: HybridSettings = SMALL, seed: int = 0) -> HybridStrategy:
    return HybridStrategy(chosen, TOY.space, TOY.seeds(), NUM_DOCUMENTS, seed)


def scored(request: Request, penalty: float = 0.0) -> Evaluation:
    return Evaluation(
        request,
        tuple(TOY.loss(request.genome, window) + penalty for window in request.documents),
        (1,) * len(request.documents),
    )


def run(strategy: HybridStrategy, baseline_wins: bool = False) -> list[list[Evaluation]]:
    told: list[list[Evaluation]] = []
    while not strategy.done:
        requests = strategy.ask()
        told.append([scored(one, float(baseline_wins and not one.origin.startswith("seed"))) for one in requests])
        strategy.tell(told[-1])
    return told


def test_the_default_reaches_the_paper_s_loss_on_unseen_documents_with_a_fifth_of_its_scores():
    paper = [benchmark(PaperSettings(num_iterations=11), 5, seed) for seed in range(3)]
    default = [benchmark(HybridSettings(), NUM_DOCUMENTS, seed) for seed in range(3)]
    assert max(one.num_scores for one in default) <= 320 < min(one.num_scores for one in paper) / 5
    assert np.median([one.heldout for one in default]) <= np.median([one.heldout for one in paper])


def test_candidates_of_a_generation_share_their_windows_and_selection_windows_are_seen_by_finalists_only():
    told = run(new())
    assert all(len({one.request.documents for one in row}) == 1 for row in told)
    documents = [{window % NUM_DOCUMENTS for one in row for window in one.request.documents} for row in told]
    assert set().union(*documents[:-1]) == set(range(8))
    assert documents[-1] == {8, 9, 10, 11}


def test_all_phases_take_their_turn_within_the_scores():
    told = run(new(HybridSettings(num_scores=320)))
    origins = [{one.request.origin.split(":")[0] for one in row} for row in told]
    assert origins[0] == {"seed"} and origins[1] == {"cma"}
    assert {"incumbent", "mutation", "crossover"} in origins
    assert {"seed", "average"} <= origins[-1]
    assert len({(one.genome, window) for row in told for one in row for window in one.request.documents}) <= 320


def test_the_best_seeds_are_finalists_so_the_result_is_one_of_them_where_nothing_is_better():
    strategy = new()
    told = run(strategy, baseline_wins=True)
    assert strategy.best is not None and strategy.best.request.origin.startswith("seed")
    assert strategy.best.loss == min(one.loss for one in told[-1])
    assert sum(one.request.origin.startswith("seed") for one in told[-1]) == 2


def test_a_race_drops_candidates_and_keeps_the_incumbent():
    told = run(new(replace(SMALL, num_scores=320, explore_share=0.3)))
    rounds = [row for row in told if row[0].request.origin == "incumbent"]
    sizes = [len(row) for row in rounds]
    assert sizes[0] == 7 and sizes[1] == 7 and min(sizes) < 7
    for earlier, later in zip(rounds, rounds[1:], strict=False):
        if len(later) < 7:
            assert {one.genome for one in later} <= {one.genome for one in earlier}


def test_races_without_a_gain_end_the_refinement_before_the_scores_are_spent():
    stubborn = replace(SMALL, num_scores=2000, explore_share=0.05, patience=2, significance=1e-6)
    told = run(new(stubborn))
    assert sum(len(one.request.documents) for row in told for one in row) < 500


def test_failed_candidates_win_nothing():
    strategy = new()
    number = 0
    while not strategy.done:
        told: list[Evaluation] = []
        for request in strategy.ask():
            number += 1
            told.append(Evaluation(request, error="out of memory") if number % 3 == 1 else scored(request))
        strategy.tell(told)
    assert strategy.best is not None and not strategy.best.failed


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 2))
def test_every_proposal_is_in_the_space(seed: int, sigma: float):
    told = run(new(replace(SMALL, sigma=sigma), seed))
    assert all(TOY.space.contains(one.genome) for row in told for one in row)


@pytest.mark.parametrize("generations", [1, 5, 17])
def test_the_state_replays_through_json_also_after_finishing_early(generations: int):
    strategy, again = new(), new()
    for _ in range(generations):
        strategy.tell([scored(request) for request in strategy.ask()])
    again.restore(json.loads(json.dumps(strategy.state())))
    assert again.ask() == strategy.ask()
    strategy.finish()
    told = run(strategy)
    assert len(told) == 1 and told[0][0].request.origin.startswith("seed")
    again = new()
    again.restore(json.loads(json.dumps(strategy.state())))
    assert again.done and again.best == strategy.best


def test_scores_that_do_not_pay_for_the_phases_and_a_single_document_are_refused():
    with pytest.raises(ValueError, match="num_scores must be at least 47 for 3 seeds"):
        new(HybridSettings(num_scores=46))
    with pytest.raises(ValueError, match="num_documents must be at least 2, got 1"):
        HybridStrategy(SMALL, TOY.space, TOY.seeds(), 1, 0)


def test_a_deck_deals_every_window_before_any_twice():
    deck = Deck(range(10), np.random.default_rng(0))
    dealt = [window for _ in range(4) for window in deck.draw(5)]
    assert sorted(dealt[:10]) == sorted(dealt[10:]) == list(range(10))
    assert dealt[:10] != dealt[10:]
    assert all(len(set(deck.draw(7))) == 7 for _ in range(10))
    assert deck.draw(99) == tuple(range(10))


@given(st.integers(2, 30), st.integers(1, 5), st.floats(0.01, 1))
def test_a_split_shares_no_document_and_leaves_none_out(num_documents: int, count: int, share: float):
    search, selection = split(num_documents, count, share)
    assert sorted(search + selection) == list(range(num_documents * count))
    assert search and selection
    assert not {window % num_documents for window in search} & {window % num_documents for window in selection}
