from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import Evaluation, Genome, PaperSettings, Request, Space, load_settings
from longrope.evolution.piecewise import breakpoints, mutate_piecewise
from longrope.evolution.strategies import PaperStrategy
from longrope.hyperparams import preset
from longrope.rope.parsing import read_yaml

from .toy_benchmark import NUM_PAIRS, SCALE, benchmark


def official() -> PaperSettings:
    settings = load_settings(preset("piecewise"))
    assert isinstance(settings, PaperSettings) and settings.pieces
    return settings


SPACE = Space(num_pairs=8, scale=5.0)
KEEP, REDRAW = 0.9, 0.1


class Script:
    """A generator whose draws are given: a number answers `random`, (low, high, value..) a draw of whole numbers."""

    def __init__(self, *draws: float | tuple[int, ...]) -> None:
        self.draws = list(draws)

    def random(self) -> float:
        draw = self.draws.pop(0)
        assert isinstance(draw, float)
        return draw

    def integers(self, low: int, high: int, size: int | None = None, endpoint: bool = False) -> object:
        draw = self.draws.pop(0)
        assert isinstance(draw, tuple) and draw[:2] == (low, high) and endpoint
        assert len(draw) == 3 if size is None else len(draw) == 2 + size
        return draw[2] if size is None else np.array(draw[2:])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((500,) * 8, (0, 0)),
        ((100,) * 8, (8, 8)),
        ((100, 100, 150, 200, 300, 500, 500, 500), (2, 5)),
        ((100, 120, 150, 200, 300, 400, 450, 500), (1, 7)),
        ((110, 120, 150, 200, 300, 500, 500, 510), (0, 8)),
        ((100, 100, 100, 500, 500, 500, 500, 500), (3, 3)),
    ],
)
def test_breakpoints_are_read_off_the_factors(steps: tuple[int, ...], expected: tuple[int, int]):
    assert breakpoints(steps, SPACE) == expected


PARENT = (100, 100, 150, 200, 300, 500, 500, 500)


@pytest.mark.parametrize(
    ("draws", "steps"),
    [
        ([KEEP, KEEP, *[KEEP] * 3], PARENT),
        # alpha moves right: its pairs become 1; then the two pairs left in the middle are asked
        ([REDRAW, (0, 5, 3), KEEP, *[KEEP] * 2], (100, 100, 100, 200, 300, 500, 500, 500)),
        # alpha moves left: its pairs are drawn between 1 and their right neighbour, and sorted
        ([REDRAW, (0, 5, 0), (100, 150, 140, 120), KEEP, *[KEEP] * 5], (120, 140, 150, 200, 300, 500, 500, 500)),
        # beta moves left: its pairs become s
        ([KEEP, REDRAW, (2, 8, 3), KEEP], (100, 100, 150, 500, 500, 500, 500, 500)),
        # beta moves right, but not to the end: its pairs are drawn up to s
        ([KEEP, REDRAW, (2, 8, 7), (300, 500, 450, 310), *[KEEP] * 5], (100, 100, 150, 200, 300, 310, 450, 500)),
        # beta moves to the end: up to the bound of the space
        ([KEEP, REDRAW, (2, 8, 8), (300, 625, 600, 510, 310), *[KEEP] * 6], (100, 100, 150, 200, 300, 310, 510, 600)),
        # the middle is redrawn between its neighbours; its ends are 1 and s
        ([KEEP, KEEP, REDRAW, (100, 200, 111), KEEP, REDRAW, (200, 500, 480)], (100, 100, 111, 200, 480, *[500] * 3)),
    ],
)
def test_a_mutation_moves_breakpoints_and_then_the_middle(draws: list[float], steps: tuple[int, ...]):
    rng = Script(*draws, KEEP)  # the last is for the start tokens
    assert mutate_piecewise(Genome(PARENT), SPACE, rng, 0.3) == Genome(steps)  # type: ignore[arg-type]
    assert not rng.draws


def test_factors_above_s_fall_to_s_where_a_last_piece_appears():
    parent = Genome((100, 200, 300, 400, 510, 520, 530, 600))
    rng = Script(KEEP, REDRAW, (1, 8, 6), *[KEEP] * 3, KEEP)
    child = mutate_piecewise(parent, SPACE, rng, 0.3)  # type: ignore[arg-type]
    assert child.steps == (100, 200, 300, 400, 500, 500, 500, 500)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1), st.sampled_from([1.0, 1.5, 5.0, 8.3]))
def test_every_mutation_has_three_pieces_in_the_space(seed: int, probability: float, scale: float):
    space = Space(8, scale)
    rng = np.random.default_rng(seed)
    genome = Genome((space.scale_step,) * 8)
    for _ in range(30):
        genome = mutate_piecewise(genome, space, rng, probability)
        assert space.contains(genome)
        alpha, beta = breakpoints(genome.steps, space)
        assert set(genome.steps[:alpha]) <= {100} and set(genome.steps[beta:]) <= {space.scale_step}
        assert all(low <= high for low, high in pairwise((100, *genome.steps[alpha:beta])))
        if beta < 8:
            assert max(genome.steps) == space.scale_step


def test_from_linear_interpolation_every_pair_and_both_breakpoints_can_move():
    rng = np.random.default_rng(0)
    population = [Genome((500,) * 8)]
    for _ in range(1500):
        population.append(mutate_piecewise(population[int(rng.integers(len(population)))], SPACE, rng, 0.3))
    columns = list(zip(*(genome.steps for genome in population), strict=True))
    assert all(len(set(column) - {100, 500}) > 10 for column in columns)
    found = {breakpoints(genome.steps, SPACE) for genome in population}
    assert {alpha for alpha, _ in found} == {beta for _, beta in found} == set(range(9))


def test_the_official_settings_ask_for_5248_different_candidates_from_the_seed_on():
    strategy = PaperStrategy(official(), Space(32, 8.0), {"pi": Genome((800,) * 32)}, 1, 0)
    sizes: list[int] = []
    asked: set[Genome] = set()
    while not strategy.done:
        requests = strategy.ask()
        sizes.append(len(requests))
        asked |= {request.genome for request in requests}
        strategy.tell([Evaluation(request, (float(sum(request.genome.steps)),), (1,)) for request in requests])
    assert sizes == [128] + [64] * 80
    assert len(asked) == 5248


def test_a_crossover_has_a_breakpoint_of_each_parent():
    seeds = {"a": Genome((100, 100, 100, 300, 400, 450, 500, 500)), "b": Genome((120, 150, 500, *[500] * 5))}
    settings = replace(
        official(), population_size=2, num_iterations=1, num_mutations=0, num_crossovers=4, num_parents=2
    )
    strategy = PaperStrategy(settings, SPACE, seeds, 1, 0)
    strategy.tell([Evaluation(request, (1.0,), (1,)) for request in strategy.ask()])
    children = [request.genome for request in strategy.ask() if request.origin == "crossover"]
    parents = [breakpoints(genome.steps, SPACE) for genome in seeds.values()]
    assert children
    for child in children:
        alpha, beta = breakpoints(child.steps, SPACE)
        assert alpha <= max(first for first, _ in parents) and beta >= min(last for _, last in parents)


def test_breakpoints_find_a_target_of_three_pieces_sooner_than_pair_by_pair_mutations():
    target = np.array([100] * 10 + [200, 300, 450, 600] + [800] * 18)

    def distance(request: Request) -> Evaluation:
        loss = float(np.abs(np.log(np.array(request.genome.steps) / target)).sum()) + request.genome.start_tokens
        return Evaluation(request, (loss,), (1,))

    small = PaperSettings(population_size=16, num_iterations=15, num_mutations=8, num_crossovers=8, num_parents=8)

    def median_loss(settings: PaperSettings) -> float:
        losses: list[float] = []
        for seed in range(3):
            strategy = PaperStrategy(settings, Space(NUM_PAIRS, SCALE), {"pi": Genome((800,) * NUM_PAIRS)}, 1, seed)
            while not strategy.done:
                strategy.tell([distance(request) for request in strategy.ask()])
            assert strategy.best is not None
            losses.append(strategy.best.loss)
        return float(np.median(losses))

    assert median_loss(replace(small, pieces=True)) < 0.5 * median_loss(small)


def test_it_gains_on_the_best_seed_on_documents_never_seen():
    small = PaperSettings(population_size=32, num_iterations=20, pieces=True)
    seeds = benchmark(PaperSettings(population_size=3, num_iterations=0, num_parents=1), 5, 0)
    assert benchmark(small, 5, 0).heldout < 0.6 * seeds.heldout


def test_the_shipped_file_names_every_setting():
    assert {*read_yaml(preset("piecewise"))} == {"strategy", *(one.name for one in fields(PaperSettings))}
