from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from deap import tools
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import Evaluation, FrontPoint, Genome, ParetoSettings, Request, Space, load_settings
from longrope.evolution.strategies import ParetoStrategy
from longrope.evolution.strategies.pareto import knee, tournament
from longrope.hyperparams import preset

from .conftest import reopened

SPACE = Space(num_pairs=6, scale=4.0, start_token_choices=(0,))
SEEDS = {"pi": SPACE.encode([4.0] * 6), "yarn": SPACE.encode([1.0, 1.0, 1.5, 2.5, 4.0, 4.0])}
SMALL = ParetoSettings(population_size=12, num_iterations=6, search_attention=False, short_documents=2)
NUM_DOCUMENTS = 3


def new(chosen: ParetoSettings = SMALL, seed: int = 0) -> ParetoStrategy:
    return ParetoStrategy(chosen, SPACE, SEEDS, NUM_DOCUMENTS, seed)


def two_losses(genome: Genome) -> tuple[float, float]:
    """Distance to the optimum of long context, lambda = 4, and to that of short context, lambda = 1."""
    log_lambda = np.log(SPACE.decode(genome))
    return float(np.square(log_lambda - np.log(4)).mean()), float(np.square(log_lambda).mean())


def scored(request: Request) -> Evaluation:
    """Long windows have 40 tokens, short ones 10."""
    long, short = two_losses(request.genome)
    is_long = [document < NUM_DOCUMENTS for document in request.documents]
    nats = tuple(40 * long if one else 10 * short for one in is_long)
    return Evaluation(request, nats, tuple(40 if one else 10 for one in is_long))


def run(strategy: ParetoStrategy) -> list[list[Evaluation]]:
    told: list[list[Evaluation]] = []
    while not strategy.done:
        told.append([scored(request) for request in strategy.ask()])
        strategy.tell(told[-1])
    return told


def front_of(losses: Sequence[tuple[float, float]]) -> list[FrontPoint]:
    points = []
    for number, pair in enumerate(losses):
        one, two = (Evaluation(Request(Genome((number,)), (0,), ""), (loss,), (1,)) for loss in pair)
        points.append(FrontPoint(one, two))
    return points


def test_every_candidate_is_scored_on_all_long_windows_and_some_short_ones():
    told = run(new())
    assert {one.request.documents for row in told for one in row} == {(0, 1, 2, 3, 4)}
    told = run(new(replace(SMALL, windows_per_document=2, short_documents=99, num_iterations=0)))
    assert {one.request.documents for row in told for one in row} == {tuple(range(12))}


def test_the_front_is_what_no_scored_candidate_beats_in_both_losses():
    strategy = new()
    every = {one.genome: two_losses(one.genome) for row in run(strategy) for one in row}
    beaten = {
        genome
        for genome, (long, short) in every.items()
        if any(a <= long and b <= short and (a, b) != (long, short) for a, b in every.values())
    }
    front = strategy.front
    assert {point.genome for point in front} == every.keys() - beaten
    assert [point.long.loss for point in front] == sorted(point.long.loss for point in front)
    for point in front:
        assert (point.long.loss, point.short.loss) == pytest.approx(every[point.genome])


def test_the_front_comes_near_to_the_known_one_and_covers_it():
    strategy = new(replace(SMALL, population_size=24, num_iterations=40, mutation_probability=0.2))
    run(strategy)
    losses = np.array([two_losses(point.genome) for point in strategy.front])
    # Between the two optima all lambda are equal, so there sqrt(long) + sqrt(short) = ln 4; above it everywhere else.
    excess = np.sqrt(losses).sum(axis=1) - np.log(4)
    assert excess.min() > -1e-9 and np.median(excess) < 0.08 * np.log(4)
    assert np.ptp(np.sqrt(losses[:, 1])) > 0.6 * np.log(4)


def test_the_knee_is_farthest_below_the_line_between_the_ends():
    losses = [(0.0, 9.0), (1.0, 5.0), (2.0, 2.0), (5.0, 1.5), (9.0, 0.0)]
    front = front_of(losses)
    ends = np.array(losses[0]), np.array(losses[-1])
    across = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    heights = [
        np.linalg.norm(np.array(pair) - ends[0] - across * ((np.array(pair) - ends[0]) @ across)) for pair in losses
    ]
    assert knee(front) is front[int(np.argmax(heights))] is front[2]
    stretched = front_of([(a, 1000 * b + 5) for a, b in losses])
    assert knee(stretched) is stretched[2]


def test_the_knee_of_two_or_one_has_the_lowest_long_context_loss():
    for losses in ([(1.0, 2.0)], [(1.0, 2.0), (2.0, 1.0)], [(0.1, 0.7), (0.3, 0.1)]):
        front = front_of(losses)
        assert knee(front) is front[0]


def test_the_best_is_the_knee_with_its_long_context_loss():
    strategy = new()
    run(strategy)
    best = strategy.best
    assert best is not None and best.genome == knee(strategy.front).genome
    assert best.request.documents == (0, 1, 2) and best.tokens == (40, 40, 40)
    assert best.loss == pytest.approx(two_losses(best.genome)[0])


def test_survivors_are_those_of_deap_s_nsga2():
    strategy = new()
    requests = strategy.ask()
    strategy.tell([scored(request) for request in requests])
    parents = {request.genome for request in requests}
    children = strategy.ask()
    strategy.tell([scored(request) for request in children])
    genomes = [*parents, *(request.genome for request in children)]
    ranks = tools.sortNondominated(front_of([two_losses(genome) for genome in genomes]), len(genomes))
    rank = {genomes[point.genome.steps[0]]: number for number, row in enumerate(ranks) for point in row}
    kept = {point.genome for point in strategy._population}
    assert len(kept) == 12
    assert max(rank[genome] for genome in kept) <= min((rank[one] for one in rank.keys() - kept), default=99)


def test_a_tournament_is_won_by_who_dominates_then_by_who_stands_alone():
    worse, better, aside = front_of([(2.0, 2.0), (1.0, 1.0), (0.5, 3.0)])
    for point, distance in ((worse, 9.0), (better, 1.0), (aside, 2.0)):
        point.fitness.crowding_dist = distance
    rng = np.random.default_rng(0)
    assert {tournament([worse, better], rng).genome for _ in range(50)} == {worse.genome, better.genome}
    wins = [tournament([worse, better], rng) is better for _ in range(400)]
    assert 0.65 < np.mean(wins) < 0.85  # loses only where it is not drawn
    wins = [tournament([better, aside], rng) is aside for _ in range(400)]
    assert 0.65 < np.mean(wins) < 0.85


def test_no_candidate_is_asked_twice_and_the_first_generation_holds_every_seed():
    told = run(new())
    genomes = [one.genome for row in told for one in row]
    assert len(genomes) == len(set(genomes))
    assert [one.request.origin for one in told[0][:2]] == ["seed:pi", "seed:yarn"]
    assert {len(row) for row in told} == {12}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_every_proposal_is_in_the_space(seed: int, probability: float):
    told = run(new(replace(SMALL, mutation_probability=probability, num_iterations=3), seed))
    assert all(SPACE.contains(one.genome) for row in told for one in row)


def test_failed_candidates_are_on_no_front():
    strategy = new()
    failed: set[Genome] = set()
    while not strategy.done:
        told = [Evaluation(r, error="nan") if i % 3 == 0 else scored(r) for i, r in enumerate(strategy.ask())]
        failed |= {one.genome for one in told if one.failed}
        strategy.tell(told)
    assert failed and not failed & {point.genome for point in strategy.front}


def test_a_state_goes_on_through_json_to_the_same_front():
    strategy, told = new(), []
    whole = new()
    run(whole)
    while not strategy.done:
        strategy = reopened(strategy, new(seed=9), told)
        told.append([scored(request) for request in strategy.ask()])
        strategy.tell(told[-1])
    assert isinstance(strategy, ParetoStrategy) and strategy.best == whole.best
    assert [point.genome for point in strategy.front] == [point.genome for point in whole.front]


def test_a_search_told_to_finish_is_done():
    strategy = new()
    strategy.tell([scored(request) for request in strategy.ask()])
    strategy.finish()
    assert strategy.done and strategy.best is not None


def test_more_seeds_than_the_population_are_refused():
    with pytest.raises(ValueError, match="population_size must be at least the number of seeds"):
        ParetoStrategy(replace(SMALL, population_size=2), SPACE, SEEDS | {"a": Genome((100,) * 6)}, 1, 0)


def test_the_shipped_file_states_the_defaults():
    assert load_settings(preset("pareto")) == ParetoSettings()
