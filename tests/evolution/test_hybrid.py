from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import Evaluation, Genome, HybridSettings, PaperSettings, Strategy
from longrope.evolution.coordinates import knot_positions
from longrope.evolution.strategies import HybridStrategy
from longrope.evolution.strategies.windows import WindowPool, split

from .conftest import reopened
from .toy_benchmark import NUM_DOCUMENTS, NUM_PAIRS, SCALE, Toy, benchmark

SMALL = HybridSettings(num_scores=300, stage_scores=60)
TOY = Toy(SMALL.space(NUM_PAIRS, SCALE), SMALL.windows_per_document)


def new(chosen: HybridSettings = SMALL, seed: int = 0) -> HybridStrategy:
    return HybridStrategy(chosen, TOY.space, TOY.seeds(), NUM_DOCUMENTS, seed)


def run(strategy: HybridStrategy, baseline_wins: bool = False) -> list[list[Evaluation]]:
    told: list[list[Evaluation]] = []
    seeds = set(TOY.seeds().values())
    while not strategy.done:
        told.append([TOY.answer(one, float(baseline_wins and one.genome not in seeds)) for one in strategy.ask()])
        strategy.tell(told[-1])
    return told


def cost(told: list[list[Evaluation]]) -> int:
    requests = [one.request for row in told for one in row]
    asked = {
        (one.genome, window, one.gradient): one.scores_per_document for one in requests for window in one.documents
    }
    return sum(asked.values())


@pytest.mark.parametrize("use_gradients", [True, False])
def test_the_default_is_as_good_as_the_paper_on_unseen_documents_for_a_fifth_of_its_scores(use_gradients: bool):
    paper = [benchmark(PaperSettings(num_iterations=11), 5, seed) for seed in range(3)]
    default = [benchmark(HybridSettings(use_gradients=use_gradients), NUM_DOCUMENTS, seed) for seed in range(3)]
    assert max(one.num_scores for one in default) <= 336 < min(one.num_scores for one in paper) / 5
    assert np.median([one.heldout for one in default]) <= np.median([one.heldout for one in paper])


def test_candidates_of_a_generation_share_their_windows_and_selection_windows_are_kept_for_incumbents():
    told = run(new())
    assert all(len({one.request.documents for one in row}) == 1 for row in told)
    probes = {one.request.documents for row in told for one in row if one.request.origin == "probe"}
    told = [row for row in told if row[0].request.origin != "probe"]
    documents = [{window % NUM_DOCUMENTS for one in row for window in one.request.documents} for row in told]
    assert set().union(*documents[:-1]) == set(range(8))
    assert documents[-1] <= {8, 9, 10, 11}
    assert probes == {told[-1][0].request.documents[:3]}


def test_the_seeds_race_first_and_the_worse_half_drops_out_each_round():
    told = run(new())
    rounds = [row for row in told if all(one.request.origin.startswith("seed") for one in row)]
    assert [len(row) for row in rounds] == [3, 2]
    first = sorted(rounds[0], key=lambda one: one.loss)
    assert {one.genome for one in rounds[1]} == {one.genome for one in first[:2]}


def test_every_kind_of_stage_has_its_first_and_then_the_one_that_paid_most_goes_on():
    strategy = new(replace(SMALL, num_scores=3000, stage_scores=60))
    told = run(strategy)
    kinds: list[str] = []
    names = {"descent", "smooth", "variation", "fine", "start_tokens"}
    for row in told:
        origins = {
            "variation" if one.request.origin in ("mutation", "crossover") else one.request.origin for one in row
        }
        for name in (origins & names) - {*kinds[-1:]}:
            kinds.append(name)
    assert set(kinds) == names
    assert kinds[:5] == ["descent", "smooth", "variation", "fine", "start_tokens"]


@given(st.integers(40, 800))
@settings(max_examples=20, deadline=None)
def test_no_more_is_spent_than_there_is(num_scores: int):
    assert cost(run(new(replace(SMALL, num_scores=num_scores, stage_scores=400)))) <= num_scores


def test_the_best_seed_is_a_finalist_so_the_result_is_that_seed_where_nothing_is_better():
    strategy = new()
    told = run(strategy, baseline_wins=True)
    assert strategy.best is not None and strategy.best.request.origin.startswith("seed")
    assert strategy.best.loss == min(one.loss for one in told[-1])


def test_the_search_ends_before_the_scores_are_spent_once_nobody_gains():
    told = run(new(replace(SMALL, num_scores=20000, patience=1)), baseline_wins=True)
    assert cost(told) < 2000


def test_an_objective_that_fails_on_gradients_leaves_the_work_to_the_others():
    strategy = new()
    told: list[Evaluation] = []
    while not strategy.done:
        requests = strategy.ask()
        answers = [Evaluation(one, error="out of memory") if one.gradient else TOY.answer(one) for one in requests]
        strategy.tell(answers)
        told += answers
    assert sum(one.request.gradient for one in told) == 1
    assert strategy.best is not None and not strategy.best.request.origin.startswith("seed")


def test_failed_candidates_win_nothing():
    strategy = new()

    def broken(genome: Genome) -> bool:
        return sum(genome.steps) % 3 == 1 and genome not in TOY.seeds().values()

    told: list[Evaluation] = []
    while not strategy.done:
        requests = strategy.ask()
        answers = [Evaluation(one, error="nan") if broken(one.genome) else TOY.answer(one) for one in requests]
        strategy.tell(answers)
        told += answers
    assert any(one.failed for one in told)
    assert strategy.best is not None and not broken(strategy.best.genome)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 2))
def test_every_proposal_is_in_the_space(seed: int, size: float):
    told = run(new(replace(SMALL, sigma=size, largest_step=min(size, 1), descent_travel=10 * size), seed))
    assert all(TOY.space.contains(one.genome) for row in told for one in row)


@pytest.mark.parametrize("generations", [1, 5, 17, 40])
def test_a_state_goes_on_through_json_also_after_finishing_early(generations: int):
    strategy = new()
    told = [told_one(strategy) for _ in range(generations)]
    again = reopened(strategy, new(), told)
    assert again.ask() == strategy.ask()
    strategy.finish()
    finishing = reopened(strategy, new(), told)
    assert run(finishing) == run(strategy) and finishing.best == strategy.best  # type: ignore[arg-type]
    assert strategy.best is not None and strategy.generation == generations + 1


def test_a_search_restored_in_any_generation_goes_on_as_if_never_stopped():
    strategy, told = new(), []
    whole = run(new())
    while not strategy.done:
        strategy = reopened(strategy, new(), told)
        told.append(told_one(strategy))
    assert told == whole


def told_one(strategy: Strategy) -> list[Evaluation]:
    evaluations = [TOY.answer(request) for request in strategy.ask()]
    strategy.tell(evaluations)
    return evaluations


def test_scores_that_do_not_pay_for_the_phases_and_a_single_document_are_refused():
    with pytest.raises(ValueError, match="num_scores must be at least 15 for 3 seeds"):
        new(HybridSettings(num_scores=14))
    with pytest.raises(ValueError, match="num_documents must be at least 2, got 1"):
        HybridStrategy(SMALL, TOY.space, TOY.seeds(), 1, 0)


def test_knots_lie_closest_where_pairs_make_few_kinds():
    space = replace(TOY.space, sensitive_pairs=(5, 20))
    assert knot_positions(space, 8).tolist() == [0, 5, 8, 11, 14, 17, 20, 31]
    assert knot_positions(TOY.space, 4).tolist() == pytest.approx([0, 31 / 3, 62 / 3, 31])
    for pairs in ((0, 0), (1, 31), (31, 32), (30, 32)):
        knots = knot_positions(replace(TOY.space, sensitive_pairs=pairs), 10)
        assert knots[0] == 0 and knots[-1] == 31 and len(knots) == 10 and np.all(np.diff(knots) >= 0)


def test_a_pool_gives_every_window_before_any_twice():
    pool = WindowPool(range(10), np.random.default_rng(0))
    drawn = [window for _ in range(4) for window in pool.draw(5)]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]
    assert all(len(set(pool.draw(7))) == 7 for _ in range(10))
    assert pool.draw(99) == tuple(range(10))


@given(st.integers(2, 30), st.integers(1, 5), st.floats(0.01, 1))
def test_a_split_shares_no_document_and_leaves_none_out(num_documents: int, count: int, share: float):
    search, selection = split(num_documents, count, share)
    assert sorted(search + selection) == list(range(num_documents * count))
    assert search and selection
    assert not {window % num_documents for window in search} & {window % num_documents for window in selection}
