import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import Evaluation, Genome, HybridSettings, Proposal, Request, Strategy
from longrope.evolution.coordinates import FamilyCoordinates, KnotCoordinates, knot_positions
from longrope.evolution.curve import kind_of
from longrope.evolution.strategies import HybridStrategy
from longrope.evolution.strategies.stages import descent_direction
from longrope.evolution.strategies.windows import WindowPool, split
from longrope.hyperparams import preset
from longrope.rope.parsing import read_yaml

from .conftest import reopened
from .toy_benchmark import NUM_DOCUMENTS, NUM_PAIRS, SCALE, Toy, benchmark

SMALL = HybridSettings(num_scores=300)
TOY = Toy(SMALL.space(NUM_PAIRS, SCALE), SMALL.windows_per_document)
ORIGINS = {
    "profile": "profile", "family": "family", "start_tokens": "family",
    "mutation": "polish", "crossover": "polish",
}  # fmt: skip


def new(chosen: HybridSettings = SMALL, seed: int = 0) -> HybridStrategy:
    return HybridStrategy(chosen, TOY.space, TOY.seeds(), NUM_DOCUMENTS, seed)


def run(strategy: HybridStrategy, penalty: float = 0.0) -> list[list[Evaluation]]:
    """Go to the end; what is no seed has a penalty."""
    told: list[list[Evaluation]] = []
    seeds = set(TOY.seeds().values())
    while not strategy.done:
        told.append([TOY.answer(one, penalty * (one.genome not in seeds)) for one in strategy.ask()])
        strategy.tell(told[-1])
    return told


def cost(told: list[list[Evaluation]]) -> int:
    requests = [one.request for row in told for one in row]
    asked = {
        (one.genome, window, one.gradient): one.scores_per_document for one in requests for window in one.documents
    }
    return sum(asked.values())


@pytest.mark.parametrize(("use_gradients", "share"), [(True, 0.3), (False, 0.6)])
def test_it_gains_on_documents_never_seen(use_gradients: bool, share: float):
    seed = min(TOY.loss(genome) for genome in TOY.seeds().values()) - 2
    chosen = HybridSettings(num_scores=1000, use_gradients=use_gradients)
    found = [benchmark(chosen, NUM_DOCUMENTS, seed) for seed in range(3)]
    assert max(one.num_scores for one in found) <= 1000
    assert np.median([one.heldout for one in found]) < share * seed


def test_from_one_seed_the_stages_begin_without_a_race():
    name, genome = next(iter(TOY.seeds().items()))
    told = run(HybridStrategy(SMALL, TOY.space, {name: genome}, NUM_DOCUMENTS, 0))
    assert {"profile", "family"} <= set(kinds_of(told))
    assert cost(told) > SMALL.num_scores // 2


@pytest.mark.parametrize(("width", "offered"), [(1, 1), (8, 8), (64, 20)])
def test_no_more_is_offered_at_once_than_the_width(width: int, offered: int):
    assert new(replace(SMALL, width=width))._tools.width == offered


def test_its_result_is_never_worse_than_the_best_seed_where_seeds_are_hard_to_beat():
    """Twenty searches from the optimum itself: what they return is that or as good."""
    best = TOY.space.encode(np.exp(TOY.optimum(None)), 0, 1.15)
    lost = 0
    for seed in range(20):
        strategy = HybridStrategy(HybridSettings(), TOY.space, {**TOY.seeds(), "best": best}, NUM_DOCUMENTS, seed)
        run(strategy)
        assert strategy.best is not None
        lost += TOY.loss(strategy.best.genome) > TOY.loss(best) + 1e-4
    assert lost <= 20 * HybridSettings().significance


def test_candidates_of_a_generation_share_their_windows_and_selection_windows_are_kept_for_incumbents():
    told = run(new())
    assert all(len({one.request.documents for one in row}) == 1 for row in told)
    probes = {one.request.documents for row in told for one in row if one.request.origin == "probe"}
    told = [row for row in told if row[0].request.origin != "probe"]
    documents = [{window % NUM_DOCUMENTS for one in row for window in one.request.documents} for row in told]
    assert not set().union(*documents[:-1]) & documents[-1]
    assert len(documents[-1]) == 4 and len(set().union(*documents)) == NUM_DOCUMENTS
    assert probes == {told[-1][0].request.documents[:3]}


def test_seeds_race_first_and_all_that_the_test_leaves_undecided_are_finalists():
    strategy = new()
    seeds = {f"seed:{name}": genome for name, genome in TOY.seeds().items()}
    easy = {seeds["seed:yarn"]: 0.0, seeds["seed:ntk"]: 0.001, seeds["seed:pi"]: 1.0}
    rng = np.random.default_rng(0)
    told: list[list[Evaluation]] = []
    while not strategy.done:
        answers: list[Evaluation] = []
        for one in strategy.ask():
            nats = tuple(easy.get(one.genome, 0.5) + rng.normal(0, 0.02) for _ in one.documents)
            gradients = TOY.answer(one).gradients
            answers.append(Evaluation(one, nats, (1,) * len(nats), gradients=gradients))
        strategy.tell(answers)
        told.append(answers)
    rounds = [{one.request.origin for one in row} for row in told]
    assert rounds[0] == set(seeds) and rounds[1] == {"seed:yarn", "seed:ntk"}
    assert rounds[-1] == {"seed:yarn", "seed:ntk"}, "nothing better was found"
    assert strategy.best is not None and strategy.best.genome in easy and strategy.gain is None


def is_race(row: list[Evaluation]) -> bool:
    return any(one.request.origin == "incumbent" for one in row)


def kinds_of(told: list[list[Evaluation]]) -> list[str]:
    kinds: list[str] = []
    for row in told:
        for kind in {
            ORIGINS[kind] for one in row if (kind := kind_of(one.request.origin)) in ORIGINS and not is_race(row)
        }:
            if kind not in kinds[-1:]:
                kinds.append(kind)
    return kinds


@pytest.mark.parametrize("use_gradients", [True, False])
@pytest.mark.parametrize("num_scores", [336, 3000])
def test_every_kind_of_stage_has_its_turn_in_the_shipped_budget(num_scores: int, use_gradients: bool):
    for seed in range(5):
        told = run(new(HybridSettings(num_scores=num_scores, use_gradients=use_gradients), seed))
        assert set(kinds_of(told)) == {"profile", "family", "polish"}


def test_in_a_large_budget_most_generations_keep_64_devices_busy():
    told = run(new(HybridSettings(num_scores=3000)))
    offers = [sum(len(one.request.documents) for one in row) for row in told if row[0].request.origin != "probe"]
    assert np.mean([offer >= 64 for offer in offers]) > 0.5


def test_a_kind_that_failed_looks_closer_and_the_search_ends_once_all_failed_twice():
    told = run(new(HybridSettings(num_scores=20000)), penalty=1.0)
    assert cost(told) < 20000
    stages = kinds_of(told)
    assert sorted(stages) == ["family", "family", "polish", "polish", "profile", "profile"]


@given(st.integers(40, 800), st.booleans())
@settings(max_examples=30, deadline=None)
def test_no_more_is_spent_than_there_is(num_scores: int, use_gradients: bool):
    assert cost(run(new(replace(SMALL, num_scores=num_scores, use_gradients=use_gradients)))) <= num_scores


def test_the_result_is_a_seed_where_nothing_is_better():
    strategy = new()
    run(strategy, penalty=1.0)
    assert strategy.best is not None and strategy.best.request.origin.startswith("seed")


def test_a_find_is_the_result_only_where_the_bound_of_its_gain_is_above_zero():
    sure, unsure = new(), new()
    run(sure)
    assert sure.gain is not None and sure.gain.low > 0
    assert sure.best is not None and sure.best.request.origin == "incumbent"
    while not unsure.done:
        answers = [TOY.answer(one) for one in unsure.ask()]
        if unsure.final:  # on other documents the find is as good as the seed
            rng = np.random.default_rng(0)
            answers = [
                replace(one, nats=tuple(2 + float(loss) for loss in rng.normal(0, 0.1, len(one.nats))))
                for one in answers
            ]
        unsure.tell(answers)
    assert unsure.gain is not None and unsure.gain.low <= 0
    assert unsure.best is not None and unsure.best.request.origin.startswith("seed")


def test_an_objective_that_fails_on_gradients_goes_on_with_an_evolution_strategy():
    strategy = new(HybridSettings(num_scores=1000))
    told: list[Evaluation] = []
    while not strategy.done:
        requests = strategy.ask()
        answers = [Evaluation(one, error="out of memory") if one.gradient else TOY.answer(one) for one in requests]
        strategy.tell(answers)
        told += answers
    assert sum(one.request.gradient for one in told) == 1
    assert any(one.request.origin == "profile" and not one.request.gradient for one in told)


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


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1), st.booleans())
def test_every_proposal_is_in_the_space(seed: int, size: float, use_gradients: bool):
    told = run(new(replace(SMALL, trust_radius=size, use_gradients=use_gradients), seed))
    assert all(TOY.space.contains(one.genome) for row in told for one in row)


@pytest.mark.parametrize("generations", [1, 3, 5, 9])
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


@pytest.mark.parametrize("stored", [{}, {"windows": [8, 9, 10, 11]}])
def test_a_state_of_a_search_that_kept_other_documents_is_refused(stored: dict[str, list[int]]):
    strategy = new()
    asked = strategy.ask()
    terms = {key: value for key, value in strategy.state()["selection"].items() if key != "windows"}
    state = {**strategy.state(), "selection": {**terms, **stored}}
    with pytest.raises(ValueError, match="windows of the selection must be those of this version"):
        new().restore(Proposal(0, False, tuple(asked), state), [])


def test_scores_that_do_not_pay_for_the_phases_and_a_single_document_are_refused():
    with pytest.raises(ValueError, match="num_scores must be at least 6 for 3 seeds"):
        new(HybridSettings(num_scores=5))
    with pytest.raises(ValueError, match="num_documents must be at least 2, got 1"):
        HybridStrategy(SMALL, TOY.space, TOY.seeds(), 1, 0)


def test_the_default_has_twelve_knobs_and_its_file_states_them():
    assert len(fields(HybridSettings)) == 12
    stated = read_yaml(preset("hybrid"))
    assert stated == {"strategy": "hybrid"} | {
        name: getattr(HybridSettings(), name) for name in stated if name != "strategy"
    }


def test_steps_follow_each_knot_s_signal_and_stay_where_there_is_none():
    rng = np.random.default_rng(0)
    samples = np.array([2.0, -0.02, 0.0]) + np.array([1.0, 0.01, 5.0]) * rng.normal(size=(200, 3))
    direction = descent_direction(samples)
    assert direction[:2] == pytest.approx([-1, 1], abs=0.15), "by signal, whatever the units"
    assert abs(direction[2]) < 0.1 and np.abs(direction).max() == 1
    same = descent_direction(np.full((5, 2), [0.3, -4.0]))
    assert same == pytest.approx([-1, 1]), "slopes that are the same on all windows"
    assert not descent_direction(np.zeros((5, 3))).any()


def ramp(begin: float, end: float, top: float) -> Genome:
    place = np.clip((np.arange(NUM_PAIRS) - begin) / (end - begin), 0, 1)
    return TOY.space.encode(np.exp(top * place), 0, 1.1)


def test_a_family_moves_ends_level_and_attention_factor_of_a_ramp():
    family = FamilyCoordinates(TOY.space, ramp(8, 20, math.log(SCALE)))
    assert family.num_coordinates == 4 and family.genome(np.zeros(4)) == ramp(8, 20, math.log(SCALE))
    fold = NUM_PAIRS / math.log(10000)
    moved = np.log(TOY.space.decode(family.genome(np.array([0.1, 0.1, 0, 0]))))
    expected = np.log(TOY.space.decode(ramp(8 + 0.2 * fold, 20 + 0.2 * fold, math.log(SCALE))))
    np.testing.assert_allclose(moved, expected, atol=0.01)
    higher = family.genome(np.array([0, 0, 0.2, 0]))
    assert np.log(TOY.space.decode(higher)[-1] / SCALE) == pytest.approx(
        0.1 * math.log(SCALE) / math.log(2 * SCALE), abs=0.01
    )
    assert TOY.space.decode_attention(family.genome(np.array([0, 0, 0, -1.0]))) == pytest.approx(
        max(1.1 * math.exp(-0.3), TOY.space.attention_lower / 1000), abs=0.001
    )


def test_the_step_of_pi_can_become_a_ramp():
    pi = TOY.space.encode(np.full(NUM_PAIRS, SCALE), 0, 1.0)
    lambdas = TOY.space.decode(FamilyCoordinates(TOY.space, pi).genome(np.array([0.5, 1.0, 0, 0])))
    assert lambdas[0] == 1 and 1 < lambdas[5] < SCALE and lambdas[-1] == SCALE


def test_knots_give_the_gradient_of_what_they_move():
    knots = KnotCoordinates(TOY.space, TOY.seeds()["ntk"], 6)
    request = Request(TOY.seeds()["ntk"], (3,), "profile", gradient=True)
    (one,) = TOY.answer(request).gradients
    slopes = knots.gradient(np.array(one.log_lambda), one.log_attention)
    for knot in range(knots.num_coordinates):
        if knot > 0:  # the first can't fall below 1
            ends = [TOY.loss(knots.genome(sign * 0.1 * np.eye(knots.num_coordinates)[knot]), 3) for sign in (1, -1)]
            assert slopes[knot] == pytest.approx((ends[0] - ends[1]) / 0.2, abs=2e-3)


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
    assert pool.draw(99, range(7)) == (7, 8, 9) and pool.draw(5, range(10)) == ()


def test_equal_seeds_are_dropped_no_more_often_than_the_level_says_also_where_windows_are_few():
    dropped, chosen = 0, replace(SMALL, windows_per_document=1, num_scores=600)
    one, other = list(TOY.seeds().values())[:2]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        losses = {(genome, window): rng.normal(2, 0.1) for genome in (one, other) for window in range(5)}
        strategy = HybridStrategy(chosen, TOY.space, {"one": one, "other": other}, 5, seed)
        asked: list[int] = []
        while {request.genome for request in strategy.ask()} == {one, other}:
            requests = strategy.ask()
            asked += requests[0].documents
            nats = [tuple(losses[request.genome, window] for window in request.documents) for request in requests]
            strategy.tell([Evaluation(r, n, (1,) * len(n)) for r, n in zip(requests, nats, strict=True)])
            if strategy.done:
                break
        dropped += len(strategy._baselines) < 2
    assert dropped <= 0.2 * 200 + 3 * math.sqrt(0.2 * 0.8 * 200)


@given(st.integers(2, 30), st.integers(1, 5), st.floats(0.01, 1))
def test_a_split_shares_no_document_and_leaves_none_out(num_documents: int, count: int, share: float):
    search, selection = split(num_documents, count, share, seed=num_documents)
    assert sorted(search + selection) == list(range(num_documents * count))
    assert search and selection
    assert len({window % num_documents for window in selection}) >= (
        min(4, num_documents // 2) if num_documents > 4 else 1
    )
    assert not {window % num_documents for window in search} & {window % num_documents for window in selection}


def test_documents_that_come_in_an_order_are_chosen_for_the_selection_alike():
    chosen = np.zeros(20)
    for seed in range(600):
        chosen[split(20, 1, 0.3, seed)[1]] += 1
    assert np.all(np.abs(chosen / 600 - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 600))


@pytest.mark.parametrize("width", [1, 2, 64])
def test_gradients_go_on_whatever_the_width(width: int):
    told = run(new(replace(SMALL, width=width, num_scores=336)))
    steep = [one.request for row in told for one in row if one.request.gradient]
    assert len(steep) > 1 and all(len(one.documents) > 1 for one in steep)


def test_a_search_without_an_extension_has_no_steps_and_is_refused():
    space = replace(TOY.space, scale=1.0)
    with pytest.raises(ValueError, match="scale must be above 1 for hybrid, got 1.0"):
        HybridStrategy(SMALL, space, {"one": space.encode(np.ones(NUM_PAIRS), 0, 1.0)}, NUM_DOCUMENTS, 0)
