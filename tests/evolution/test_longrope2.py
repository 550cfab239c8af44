"""Conformance with algorithms 1 and 2 of LongRoPE2."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longrope.evolution import Evaluation, Genome, LongRope2Settings, Space
from longrope.evolution.strategies import LongRope2Strategy
from longrope.evolution.strategies.longrope2 import initial_genome, mutate_right

from .test_operators import KEEP, REDRAW, rng_of

SPACE = Space(num_pairs=8, scale=4.0, upper_ratio=2.0, critical_dimensions=(3, 5))
SEEDS = {"pi": SPACE.encode([4.0] * 8)}


def new(settings: LongRope2Settings = LongRope2Settings(), space: Space = SPACE) -> LongRope2Strategy:  # noqa: B008
    return LongRope2Strategy(settings, space, SEEDS, 1, 0)


def check(genome: Genome) -> None:
    """The right part lies non-decreasing in [s, 2s]; the left part is the NTK curve up to it, rounded to the grid."""
    critical = genome.critical_dimension
    assert critical is not None and 3 <= critical <= 5 and SPACE.contains(genome)
    assert all(400 <= step <= 800 for step in genome.steps[critical:])
    assert all(a <= b for a, b in pairwise(genome.steps))
    curve = SPACE.decode(genome)[critical] ** (np.arange(critical) / critical)
    np.testing.assert_allclose(SPACE.decode(genome)[:critical], curve, atol=0.005 + 1e-9)


def test_the_first_population_has_every_critical_dimension_with_a_constant_right_part_first():
    requests = new().ask()
    initial = [request.genome for request in requests if request.origin == "initial"]
    assert [genome.critical_dimension for genome in initial] == [3, 4, 5]
    for genome in initial:
        assert len(set(genome.steps[genome.critical_dimension :])) == 1 and genome.steps[-1] % 100 == 0
    assert len(requests) == 64 and {request.origin for request in requests[3:]} == {"mutation"}


def test_a_generation_mutates_every_parent_once_and_1344_candidates_are_asked():
    strategy = new()
    sizes: list[int] = []
    while not strategy.done:
        requests = strategy.ask()
        for request in requests:
            check(request.genome)
        sizes.append(len(requests))
        strategy.tell([Evaluation(one, (float(sum(one.genome.steps)),), (1,)) for one in requests])
    assert sizes == [64] + [32] * 40


def test_initial_candidates_follow_the_ntk_curve_to_the_drawn_multiple():
    genome = initial_genome(SPACE, 3, rng_of((4, 8, 8)))
    assert genome == Genome((100, 200, 400, 800, 800, 800, 800, 800), critical_dimension=3)


@pytest.mark.parametrize(
    ("draws", "steps"),
    [
        ([KEEP] * 5, (100, 171, 292, 500, 500, 500, 500, 500)),
        ([REDRAW, (400, 500, 400), *[KEEP] * 4], (100, 159, 252, 400, 500, 500, 500, 500)),
        ([*[KEEP] * 4, REDRAW, (500, 800, 777)], (100, 171, 292, 500, 500, 500, 500, 777)),
    ],
)
def test_a_mutation_redraws_the_right_part_and_derives_the_left(draws: list[float], steps: tuple[int, ...]):
    parent = Genome((100, 171, 292, 500, 500, 500, 500, 500), critical_dimension=3)
    rng = rng_of(*draws)
    assert mutate_right(parent, SPACE, rng, 0.3) == Genome(steps, critical_dimension=3)
    assert not rng.draws


@given(st.integers(0, 2**32 - 1), st.integers(3, 5), st.floats(0.01, 1))
def test_every_mutation_stays_in_the_space_of_the_paper(seed: int, critical: int, probability: float):
    rng = np.random.default_rng(seed)
    genome = initial_genome(SPACE, critical, rng)
    for _ in range(20):
        genome = mutate_right(genome, SPACE, rng, probability)
        check(genome)


def test_a_space_without_critical_dimensions_or_with_wrong_ones_is_refused():
    with pytest.raises(ValueError, match="critical_dimensions must be set"):
        new(space=replace(SPACE, critical_dimensions=None))
    with pytest.raises(ValueError, match="critical_dimensions must be two pairs"):
        replace(SPACE, critical_dimensions=(5, 3))
    with pytest.raises(ValueError, match="parent must have a critical dimension"):
        mutate_right(SEEDS["pi"], SPACE, np.random.default_rng(0), 0.3)
