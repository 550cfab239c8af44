import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import Evaluation, Genome, PaperSettings, Request, Space
from longrope.evolution.strategies import PaperStrategy

from .conftest import reopened

SPACE = Space(num_pairs=6, scale=4.0)
SEEDS = {"pi": SPACE.encode([4.0] * 6), "yarn": SPACE.encode([1.0, 1.0, 1.5, 2.5, 4.0, 4.0])}
SMALL = PaperSettings(population_size=8, num_iterations=3, num_mutations=3, num_crossovers=2, num_parents=4)


def scored(request: Request, loss: float) -> Evaluation:
    return Evaluation(request, nats=(loss,), tokens=(1,))


def new(settings: PaperSettings = SMALL, seed: int = 0, space: Space = SPACE) -> PaperStrategy:
    return PaperStrategy(settings, space, SEEDS if space is SPACE else {"pi": Genome((100, 100))}, 1, seed)


def parents_of(strategy: PaperStrategy) -> list[Genome]:
    return [parent.evaluation.genome for parent in strategy._parents]


def test_the_paper_s_settings_ask_for_1344_different_candidates():
    strategy = PaperStrategy(PaperSettings(), Space(32, 8.0), {"pi": Genome((800,) * 32)}, 5, 0)
    sizes: list[int] = []
    asked: set[Genome] = set()
    while not strategy.done:
        requests = strategy.ask()
        sizes.append(len(requests))
        asked |= {request.genome for request in requests}
        assert all(request.documents == (0, 1, 2, 3, 4) for request in requests)
        strategy.tell([Evaluation(request, (float(sum(request.genome.steps)),), (1,)) for request in requests])
    assert sizes == [64] + [32] * 40
    assert len(asked) == 1344


def test_the_first_population_holds_every_seed_once_and_mutations_of_them():
    seeds = SEEDS | {"copy of pi": SEEDS["pi"]}
    requests = PaperStrategy(SMALL, SPACE, seeds, 1, 0).ask()
    assert [request.origin for request in requests] == ["seed:pi", "seed:yarn"] + ["mutation"] * 6
    assert [request.genome for request in requests[:2]] == [SEEDS["pi"], SEEDS["yarn"]]


def test_the_top_k_of_all_generations_are_the_parents_best_first():
    strategy = new()
    losses: dict[Genome, float] = {}
    rng = np.random.default_rng(1)
    while not strategy.done:
        requests = strategy.ask()
        if strategy.generation:
            assert [request.origin for request in requests] == ["mutation"] * 3 + ["crossover"] * 2
        told = [scored(request, float(rng.integers(1000))) for request in requests]
        losses |= {evaluation.genome: evaluation.loss for evaluation in told}
        strategy.tell(told)
        assert parents_of(strategy) == sorted(losses, key=lambda genome: losses[genome])[:4]
    assert strategy.best is not None and strategy.best.loss == min(losses.values())


def test_crossovers_have_genes_of_two_parents_only():
    strategy = new(PaperSettings(population_size=8, num_mutations=0, num_crossovers=6, num_parents=4))
    strategy.tell([scored(request, float(i)) for i, request in enumerate(strategy.ask())])
    parents = parents_of(strategy)
    for request in strategy.ask():
        if request.origin == "crossover":
            cuts = [
                (a, b)
                for a in parents
                for b in parents
                for cut in range(1, 6)
                if a.steps[:cut] + b.steps[cut:] == request.genome.steps
            ]
            assert cuts


@pytest.mark.parametrize("failure", [{"error": "out of memory"}, {"nats": (float("nan"),), "tokens": (1,)}])
def test_failed_candidates_survive_nowhere(failure: dict[str, object]):
    strategy = new()
    failed: set[Genome] = set()
    while not strategy.done:
        requests = strategy.ask()
        told = [Evaluation(request, **failure) if i % 2 else scored(request, 5.0) for i, request in enumerate(requests)]  # type: ignore[arg-type]
        failed |= {evaluation.genome for evaluation in told if evaluation.failed}
        strategy.tell(told)
        assert not failed & set(parents_of(strategy))
        assert strategy.best is not None and strategy.best.genome not in failed


def test_a_space_of_one_point_ends():
    strategy = new(space=Space(2, 1.0, upper_ratio=1.0, start_token_choices=(0,)))
    sizes: list[int] = []
    while not strategy.done:
        requests = strategy.ask()
        sizes.append(len(requests))
        strategy.tell([scored(request, 1.0) for request in requests])
    assert sizes == [1, 0, 0, 0]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1), st.sampled_from([1.5, 4.0, 4.01, 37.3]))
def test_every_proposal_is_new_and_in_the_space(seed: int, probability: float, scale: float):
    space = Space(5, scale)
    strategy = PaperStrategy(
        replace(SMALL, mutation_probability=probability), space, {"pi": space.encode([scale] * 5)}, 1, seed
    )
    rng = np.random.default_rng(seed)
    asked: list[Genome] = []
    while not strategy.done:
        requests = strategy.ask()
        asked += [request.genome for request in requests]
        strategy.tell([scored(request, float(rng.random())) for request in requests])
    assert all(space.contains(genome) for genome in asked)
    assert len(set(asked)) == len(asked)


def test_asking_twice_gives_the_same_and_the_global_random_is_left_alone():
    strategy = new()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what must stay as it is
    expected = random.Random(1).random(), np.random.RandomState(1).random()  # noqa: NPY002
    assert strategy.ask() == strategy.ask()
    strategy.tell([scored(request, float(i)) for i, request in enumerate(strategy.ask())])
    strategy.ask()
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_the_state_goes_on_through_json_and_holds_the_random_generator():
    strategy, told = new(), []
    for _ in range(2):
        told.append([scored(request, float(i)) for i, request in enumerate(strategy.ask())])
        strategy.tell(told[-1])
    again = reopened(strategy, new(seed=99), told)
    assert isinstance(again, PaperStrategy)
    for one in (strategy, again):
        one.tell([scored(request, float(i)) for i, request in enumerate(one.ask())])
    assert again.ask() == strategy.ask()
    assert again.best == strategy.best
    assert strategy.state()["rng"]["$generator"]["bit_generator"] == "PCG64"


def test_more_seeds_than_population_and_seeds_outside_the_space_are_refused():
    crowd = {str(step): Genome((100,) * 5 + (step,)) for step in range(100, 109)}
    with pytest.raises(ValueError, match="population_size must be at least the number of seeds"):
        PaperStrategy(SMALL, SPACE, crowd, 1, 0)
    with pytest.raises(ValueError, match="seed 'bad' must lie in the search space"):
        PaperStrategy(SMALL, SPACE, {"bad": Genome((1,) * 6)}, 1, 0)
    with pytest.raises(ValueError, match="seeds must hold at least one"):
        PaperStrategy(SMALL, SPACE, {}, 1, 0)
