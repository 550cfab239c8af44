"""Units of a generation that end in any order, as workers end them."""

import random
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest

from longrope.evolution import Unit, UnitObjective, UnitScores, read_history, score_unit

from .conftest import SETTINGS, Killed, ToyObjective, run_toy, trace


class Shuffled(ToyObjective):
    """Scores units of at most three candidates, `width` of them at once, and ends them in an order of its own."""

    unit_size = 3

    def __init__(self, seed: int | None, kill_at: int | None = None, width: int = 1000) -> None:
        super().__init__(kill_at)
        self.rng, self.width, self.sizes = None if seed is None else random.Random(seed), width, set[int]()
        self.at_once: list[int] = []
        """Units in flight whenever one is waited for."""

    def score_units(self, units: Iterable[Unit | None]) -> Iterator[tuple[int, UnitScores]]:
        following, places = iter(units), count()
        taken: list[tuple[int, Unit]] = []
        while True:
            while len(taken) < self.width and (unit := next(following, None)) is not None:
                taken.append((next(places), unit))
            if not taken:
                return
            self.at_once.append(len(taken))
            place, unit = taken.pop(0 if self.rng is None else self.rng.randrange(len(taken)))
            self.sizes.add(len(unit.candidates))
            yield place, score_unit(self, unit)


@pytest.fixture(params=sorted(SETTINGS.keys() - {"steady"}))
def name(request: pytest.FixtureRequest) -> str:
    """Strategies whose result does not depend on the order in which units end."""
    return request.param


def test_any_order_gives_the_same_result_and_the_same_scores(name: str, tmp_path: Path):
    in_turn = Shuffled(None)
    assert isinstance(in_turn, UnitObjective)
    expected = run_toy(name, tmp_path / "in turn", in_turn)
    assert max(in_turn.sizes) == 3
    assert expected == run_toy(name, tmp_path / "whole calls", ToyObjective())
    for seed in range(2):
        path = tmp_path / str(seed)
        assert run_toy(name, path, Shuffled(seed)) == expected
        assert sorted(trace(path), key=repr) == sorted(trace(tmp_path / "in turn"), key=repr)
        assert trace(path) != trace(tmp_path / "in turn")
        assert (path / "proposals.jsonl").read_bytes() == (tmp_path / "in turn" / "proposals.jsonl").read_bytes()


def test_a_run_killed_at_any_unit_goes_on_with_the_units_that_were_left(name: str, tmp_path: Path):
    whole = Shuffled(None)
    expected = run_toy(name, tmp_path / "whole", whole)
    for kill_at in range(1, whole.calls, whole.calls // 3):
        path, first, second = tmp_path / str(kill_at), Shuffled(3, kill_at), Shuffled(4)
        with pytest.raises(Killed):
            run_toy(name, path, first)
        kept = len(read_history(path / "history.jsonl").rows)
        assert run_toy(name, path, second, resume=True) == expected
        assert sorted(trace(path), key=repr) == sorted(trace(tmp_path / "whole"), key=repr)
        assert first.scores + second.scores == whole.scores and kept > 0
