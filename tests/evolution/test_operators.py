"""Conformance with algorithm 1 of LongRoPE, with a scripted source of randomness."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longrope.evolution import Genome, Space
from longrope.evolution.operators import crossover, distinct, mutate

SPACE = Space(num_pairs=4, scale=4.0)
PARENT = Genome((110, 200, 300, 400), start_tokens=4)
KEEP, REDRAW = 0.3, 0.2999


class Scripted:
    """Plays back draws, and checks the range each integer is drawn from."""

    def __init__(self, *draws: float | tuple[int, int, int]) -> None:
        self.draws = list(draws)

    def random(self) -> float:
        draw = self.draws.pop(0)
        assert isinstance(draw, float)
        return draw

    def integers(self, low: int, high: int | None = None, endpoint: bool = False) -> int:
        draw = self.draws.pop(0)
        assert isinstance(draw, tuple)
        low, high = (0, low) if high is None else (low, high)
        assert (low, high if endpoint else high - 1) == draw[:2]
        return draw[2]


def rng_of(*draws: float | tuple[int, int, int]) -> Any:
    return cast(Any, Scripted(*draws))


@pytest.mark.parametrize(
    ("draws", "child"),
    [
        ([KEEP] * 5, PARENT),
        # first pair: from 1.0 to its right neighbour
        ([REDRAW, (100, 200, 150), KEEP, KEEP, KEEP, KEEP], Genome((150, 200, 300, 400), 4)),
        # a middle pair: between its neighbours, the left one after its own mutation
        ([REDRAW, (100, 200, 150), REDRAW, (150, 300, 299), KEEP, KEEP, KEEP], Genome((150, 299, 300, 400), 4)),
        # last pair: up to the bound 1.25 s
        ([KEEP, KEEP, KEEP, REDRAW, (300, 500, 500), KEEP], Genome((110, 200, 300, 500), 4)),
        # start tokens: any of the 14 choices
        ([KEEP, KEEP, KEEP, KEEP, REDRAW, (0, 13, 13)], Genome((110, 200, 300, 400), 256)),
    ],
)
def test_mutation_redraws_genes_between_their_neighbours(draws: list[Any], child: Genome):
    rng = rng_of(*draws)
    assert mutate(PARENT, SPACE, rng, probability=0.3) == child
    assert not rng.draws


@pytest.mark.parametrize(
    ("first", "second", "draws", "child"),
    [
        ((100, 200, 300, 400), (110, 210, 310, 410), [(1, 3, 1), 0.4], ((100, 210, 310, 410), 1)),
        ((100, 200, 300, 400), (110, 210, 310, 410), [(1, 3, 3), 0.5], ((100, 200, 300, 410), 2)),
        # head of the first would be above the tail of the second: the other way round
        ((400, 400, 400, 400), (100, 110, 120, 130), [(1, 3, 2), 0.4], ((100, 110, 400, 400), 1)),
    ],
)
def test_crossover_joins_the_head_of_one_parent_to_the_tail_of_the_other(
    first: tuple[int, ...], second: tuple[int, ...], draws: list[Any], child: tuple[tuple[int, ...], int]
):
    rng = rng_of(*draws)
    assert crossover(Genome(first, 1), Genome(second, 2), rng) == Genome(*child)
    assert not rng.draws


def test_an_attention_factor_is_redrawn_within_its_bounds_and_inherited_from_either_parent():
    space = Space(num_pairs=4, scale=4.0, search_attention=True)
    parent = Genome(PARENT.steps, 4, attention=1100)
    redrawn = rng_of(*[KEEP] * 5, REDRAW, (space.attention_lower, space.attention_upper, 1278))
    assert mutate(parent, space, redrawn, probability=0.3) == Genome(PARENT.steps, 4, 1278)
    other = Genome(PARENT.steps, 4, attention=1200)
    assert [crossover(parent, other, rng_of((1, 3, 1), 0.4, draw)).attention for draw in (0.4, 0.5)] == [1100, 1200]


def test_crossover_takes_half_of_the_genes_from_each_parent_over_all_cuts():
    first, second = Genome((100, 200, 300, 400, 500)), Genome((101, 201, 301, 401, 501))
    children = [crossover(first, second, rng_of((1, 4, cut), 0.0)).steps for cut in (1, 2, 3, 4)]
    genes = [gene for child in children for gene in child]
    assert sum(gene % 100 == 0 for gene in genes) == len(genes) / 2


steps = st.lists(st.integers(100, 500), min_size=4, max_size=4).map(lambda values: tuple(sorted(values)))


@given(steps, steps, st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_children_stay_in_the_space(first: tuple[int, ...], second: tuple[int, ...], seed: int, probability: float):
    rng = np.random.default_rng(seed)
    parents = Genome(first, 4), Genome(second, 16)
    assert SPACE.contains(mutate(parents[0], SPACE, rng, probability))
    child = crossover(*parents, rng)
    assert SPACE.contains(child) and child.start_tokens in (4, 16)
    assert all(gene in (a, b) for gene, a, b in zip(child.steps, first, second, strict=True))


@pytest.mark.parametrize("start", [[1.0, 1.0, 2.0, 4.0], [4.0] * 4])
def test_every_gene_changes_under_repeated_mutation(start: list[float]):
    rng = np.random.default_rng(0)
    genome = SPACE.encode(start)
    visited = [genome := mutate(genome, SPACE, rng, 0.3) for _ in range(400)]
    assert all(len({genome.steps[pair] for genome in visited}) > 10 for pair in range(4))
    assert {genome.start_tokens for genome in visited} == set(SPACE.start_token_choices)


def test_distinct_returns_the_first_new_genome_and_gives_up_after_its_attempts():
    genomes = [Genome((step,)) for step in (1, 2, 3)]
    proposals = iter(genomes * 2)
    assert distinct(lambda: next(proposals), set(genomes[:2]), attempts=5) == genomes[2]
    assert distinct(lambda: next(proposals), set(genomes), attempts=3) is None
    with pytest.raises(StopIteration):
        next(proposals)
