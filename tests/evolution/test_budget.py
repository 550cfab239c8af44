"""A run stops within its budget, and a resumed run stops where one that was never stopped does."""

from pathlib import Path

import pytest

from longrope.evolution import Budget

from .conftest import Killed, ToyObjective, run_toy, trace

TOKENS = 10


@pytest.mark.parametrize("max_scores", [50, 53, 58])
def test_no_search_spends_more_than_its_tokens_and_each_spends_most_of_them(name: str, tmp_path: Path, max_scores: int):
    objective = ToyObjective()
    budget = Budget(TOKENS, max_scored_tokens=max_scores * TOKENS + 9)
    result = run_toy(name, tmp_path, objective, budget=budget)
    assert 0.5 * max_scores < objective.scores <= max_scores
    assert result.scored_tokens == objective.scores * TOKENS


def test_a_killed_run_stops_where_its_budget_would_have_stopped_it(name: str, tmp_path: Path):
    budget = Budget(TOKENS, max_scored_tokens=50 * TOKENS)
    whole = ToyObjective()
    result = run_toy(name, tmp_path / "whole", whole, budget=budget)
    for kill_at in range(1, whole.calls, 3):
        path = tmp_path / str(kill_at)
        with pytest.raises(Killed):
            run_toy(name, path, ToyObjective(kill_at=kill_at), budget=budget)
        assert run_toy(name, path, ToyObjective(), resume=True, budget=budget) == result
        assert trace(path) == trace(tmp_path / "whole")


def test_wall_time_is_counted_from_the_history_so_a_resumed_run_ends_alike(name: str, tmp_path: Path):
    result = run_toy(name, tmp_path, ToyObjective(), budget=Budget(TOKENS, max_hours=1e-9))
    again = ToyObjective()
    (tmp_path / "checkpoint.json").unlink()
    assert run_toy(name, tmp_path, again, resume=True, budget=Budget(TOKENS, max_hours=1e-9)) == result
    assert again.calls == 0
    assert len({row.generation for row in trace(tmp_path)}) <= 2  # type: ignore[attr-defined]


def test_a_budget_below_the_first_generation_is_refused_before_anything_is_scored(name: str, tmp_path: Path):
    objective = ToyObjective()
    with pytest.raises(ValueError, match="max_scored_tokens must be at least"):
        run_toy(name, tmp_path, objective, budget=Budget(TOKENS, max_scored_tokens=TOKENS))
    assert objective.calls == 0


@pytest.mark.parametrize("limits", [{"max_scored_tokens": 0}, {"max_hours": -1.0}, {"max_hours": float("nan")}])
def test_limits_that_are_no_limits_are_refused(limits: dict[str, float]):
    with pytest.raises(ValueError, match="must be finite and above 0"):
        Budget(TOKENS, **limits)  # type: ignore[arg-type]
