"""The choice among finalists when trouble strikes there: it is made again, within the budget, whatever ends the run."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from longrope.evolution import Budget, HistoryRow, read_history
from longrope.evolution.record import ASKED_AGAIN
from longrope.rope import RescaleFactors

from .conftest import Killed, ToyObjective, ToyScore, new_strategy, run_toy
from .test_units import Shuffled

LOST = "TaskLost: 3 workers were lost"


class Sick(ToyObjective):
    """Loses its workers on the documents of the choice."""

    def __init__(self, name: str, kill_at: int | None = None) -> None:
        super().__init__(kill_at)
        self.documents = {*new_strategy(name).reserved}

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[ToyScore]:
        scores = super().score(candidates, document)
        return [ToyScore(0.0, 0, LOST) for _ in scores] if document in self.documents else scores


class Single(Shuffled):
    """Scores candidate by candidate."""

    unit_size = 1

    def __init__(self, kill_at: int | None = None) -> None:
        super().__init__(None, kill_at, width=1)


@pytest.fixture(params=["hybrid", "steady"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def failed(name: str, tmp_path: Path) -> Path:
    """A run whose finalists have all failed."""
    with pytest.raises(RuntimeError, match=f"failures only: {LOST}; mend that and continue with --resume"):
        run_toy(name, tmp_path, Sick(name))
    return tmp_path


def rows_of(path: Path) -> list[HistoryRow]:
    return read_history(path / "history.jsonl").rows


def forwarded(path: Path) -> int:
    return sum(row.forwarded for row in rows_of(path))


def test_a_choice_that_failed_is_made_again_and_again_until_it_is_mended(name: str, failed: Path, tmp_path: Path):
    lost = {row.key for row in rows_of(failed) if row.error}
    for _ in range(2):
        ill = Sick(name)
        with pytest.raises(RuntimeError, match="a finalist must have a loss"):
            run_toy(name, failed, ill, resume=True)
        assert ill.scores == len(lost)
    healthy, idle = ToyObjective(), ToyObjective()
    result = run_toy(name, failed, healthy, resume=True)
    assert healthy.scores == len(lost)
    assert result.scored_tokens == forwarded(failed)
    assert {*result.best.documents} <= {*new_strategy(name).reserved} and len(result.best.documents) > 0
    assert run_toy(name, failed, idle, resume=True) == result and idle.calls == 0


def test_a_mended_choice_is_the_one_that_never_failed(tmp_path: Path):
    whole = run_toy("steady", tmp_path / "whole", ToyObjective())
    with pytest.raises(RuntimeError):
        run_toy("steady", tmp_path / "run", Sick("steady"))
    assert run_toy("steady", tmp_path / "run", ToyObjective(), resume=True).best == whole.best


def test_a_kill_while_it_is_made_again_changes_nothing(name: str, failed: Path, tmp_path: Path):
    files = {file.name: file.read_bytes() for file in failed.iterdir()}

    def copied(to: str) -> Path:
        (tmp_path / to).mkdir()
        for file, data in files.items():
            (tmp_path / to / file).write_bytes(data)
        return tmp_path / to

    whole = Single()
    expected = run_toy(name, copied("whole"), whole, resume=True)
    assert whole.calls > 2
    for kill_at in range(whole.calls):
        path, first, second = copied(str(kill_at)), Single(kill_at), Single()
        with pytest.raises(Killed):
            run_toy(name, path, first, resume=True)
        assert run_toy(name, path, second, resume=True) == expected
        assert first.scores + second.scores == whole.scores
        assert [row.error for row in rows_of(path)].count(ASKED_AGAIN) == whole.scores


def test_a_finalist_that_fails_alone_is_not_asked_for_again(name: str, tmp_path: Path):
    last = max(row.generation for row in rows_of_whole(name, tmp_path / "whole"))

    class Lonely(ToyObjective):
        """Fails one finalist on every document of the choice."""

        def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[ToyScore]:
            scores = [*super().score(candidates, document)]
            bad = document in {*new_strategy(name).reserved} and len(scores) > 1
            return [ToyScore(0.0, 0, LOST), *scores[1:]] if bad else scores

    result = run_toy(name, tmp_path / "run", Lonely())
    assert any(row.error and row.generation == last for row in rows_of(tmp_path / "run"))
    idle = ToyObjective()
    assert run_toy(name, tmp_path / "run", idle, resume=True) == result and idle.calls == 0


def rows_of_whole(name: str, path: Path) -> list[HistoryRow]:
    run_toy(name, path, ToyObjective())
    return rows_of(path)


def test_it_is_paid_for_again_and_a_budget_that_does_not_is_told_what_would(name: str, failed: Path):
    spent, lost = forwarded(failed), [row for row in rows_of(failed) if row.error]
    least, idle = spent + 10 * len(lost), ToyObjective()
    for limit in (spent, least - 1):
        told = f"max_scored_tokens must be at least {least} for the choice .* got {limit}"
        with pytest.raises(ValueError, match=told):
            run_toy(name, failed, idle, resume=True, budget=Budget(limit))
    assert idle.calls == 0
    result = run_toy(name, failed, ToyObjective(), resume=True, budget=Budget(least))
    assert result.scored_tokens == forwarded(failed) == least


def test_a_search_that_goes_on_after_it_failed_makes_it_again_among_all(name: str, failed: Path):
    before = rows_of(failed)
    run_toy(name, failed, Shuffled(1, width=3), resume=True)
    result = run_toy(name, failed, ToyObjective(), resume=True)
    rows = {row.key: row for row in rows_of(failed)}
    assert len(rows) == len({row.key for row in before}) and not any(row.error for row in rows.values())
    assert result.best.left_out == frozenset()


def test_a_budget_that_grew_goes_on_with_the_search_and_chooses_among_healthy_scores(name: str, tmp_path: Path):
    whole = sum(row.forwarded for row in rows_of_whole(name, tmp_path / "whole"))
    path, small, large = tmp_path / "run", Budget(6 * whole // 10), Budget(2 * whole)
    with pytest.raises(RuntimeError, match="a finalist must"):
        run_toy(name, path, Sick(name), budget=small)
    candidates = {row.genome for row in rows_of(path)}
    run_toy(name, path, ToyObjective(), resume=True, budget=large)
    rows = {row.key: row for row in rows_of(path)}
    last = max(row.generation for row in rows.values())
    assert {row.genome for row in rows.values()} > candidates and forwarded(path) <= 2 * whole
    assert not any(row.error for row in rows.values() if row.generation == last)
