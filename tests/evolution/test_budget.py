"""A run stops within its budget, and a resumed run stops where one that was never stopped does."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import Budget, read_history
from longrope.evolution.budget import cost_of_reserve
from longrope.rope.factors import RescaleFactors

from .conftest import (
    SETTINGS,
    Killed,
    ToyGradient,
    ToyObjective,
    ToyScore,
    new_strategy,
    run_toy,
    trace,
)  # fmt: skip

TOKENS = 10


@pytest.mark.parametrize("max_scores", [56, 59, 64])
def test_no_search_spends_more_than_its_tokens_and_each_spends_most_of_them(name: str, tmp_path: Path, max_scores: int):
    objective = ToyObjective()
    budget = Budget(max_scored_tokens=max_scores * TOKENS + 9)
    result = run_toy(name, tmp_path, objective, budget=budget)
    assert 0.5 * max_scores < objective.scores <= max_scores
    assert result.scored_tokens == objective.scores * TOKENS


def test_a_killed_run_stops_where_its_budget_would_have_stopped_it(name: str, tmp_path: Path):
    budget = Budget(max_scored_tokens=50 * TOKENS)
    whole = ToyObjective()
    result = run_toy(name, tmp_path / "whole", whole, budget=budget)
    for kill_at in range(1, whole.calls, 3):
        path = tmp_path / str(kill_at)
        with pytest.raises(Killed):
            run_toy(name, path, ToyObjective(kill_at=kill_at), budget=budget)
        assert run_toy(name, path, ToyObjective(), resume=True, budget=budget) == result
        assert trace(path) == trace(tmp_path / "whole")


def test_wall_time_is_counted_from_the_history_so_a_resumed_run_ends_alike(name: str, tmp_path: Path):
    result = run_toy(name, tmp_path, ToyObjective(), budget=Budget(max_hours=1e-9))
    again = ToyObjective()
    (tmp_path / "proposals.jsonl").unlink()
    assert run_toy(name, tmp_path, again, resume=True, budget=Budget(max_hours=1e-9)) == result
    assert again.calls == 0
    assert len({row.generation for row in trace(tmp_path)}) <= 2  # type: ignore[attr-defined]


def test_a_budget_below_the_first_generation_is_refused_before_anything_is_scored(name: str, tmp_path: Path):
    objective = ToyObjective()
    with pytest.raises(ValueError, match="max_scored_tokens must be at least"):
        run_toy(name, tmp_path, objective, budget=Budget(max_scored_tokens=TOKENS))
    assert objective.calls == 0


@dataclass
class Priced(ToyObjective):
    """Windows have prices of their own, as short ones beside long ones have, and a score may cost less."""

    prices: Sequence[int] = (10,)
    discount: int = 0

    def price(self, document: int, gradient: bool) -> int:
        return (3 if gradient else 1) * self.prices[document % len(self.prices)]

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[ToyScore]:
        cost = max(self.price(document, False) - self.discount, 1)
        return [replace(score, forwarded=cost) for score in super().score(candidates, document)]

    def gradient(self, candidate: RescaleFactors, document: int) -> ToyGradient:
        return replace(super().gradient(candidate, document), forwarded=self.price(document, True))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(SETTINGS)),
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(0, 3),
    st.integers(1, 6000),
    st.lists(st.integers(1, 60), max_size=2),
)
def test_a_budget_is_never_exceeded_whatever_the_strategy_and_the_prices(
    name: str, prices: list[int], discount: int, max_scored_tokens: int, kills: list[int]
):
    budget = Budget(max_scored_tokens)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        for kill_at in [*kills, None]:
            try:
                run_toy(name, path, Priced(kill_at, prices=prices, discount=discount), resume=True, budget=budget)
            except ValueError as refusal:
                assert "max_scored_tokens must be at least" in str(refusal)
                assert not read_history(path / "history.jsonl").rows
                return
            except Killed:
                pass
        assert sum(row.forwarded for row in read_history(path / "history.jsonl").rows) <= max_scored_tokens


def test_an_objective_that_costs_more_than_its_price_is_refused(tmp_path: Path):
    class Dear(ToyObjective):
        def price(self, document: int, gradient: bool) -> int:
            return 9

    with pytest.raises(RuntimeError, match="at most the price of 9 tokens, got 10"):
        run_toy("paper", tmp_path, Dear())


@pytest.mark.parametrize("kill_at", [None, 0])
def test_a_finished_run_goes_on_with_a_larger_budget_and_scores_nothing_twice(
    name: str, tmp_path: Path, kill_at: int | None
):
    whole = run_toy(name, tmp_path / "whole", ToyObjective()).scored_tokens
    small, large = Budget(6 * whole // 10), Budget(2 * whole)
    tmp_path = tmp_path / "run"
    first = run_toy(name, tmp_path, ToyObjective(), budget=small)
    for same in (small, Budget(whole // 2)):
        idle = ToyObjective()
        assert run_toy(name, tmp_path, idle, resume=True, budget=same) == first and idle.calls == 0
    if kill_at is not None:
        with pytest.raises(Killed):
            run_toy(name, tmp_path, ToyObjective(kill_at), resume=True, budget=large)
    run_toy(name, tmp_path, ToyObjective(), resume=True, budget=large)
    rows = read_history(tmp_path / "history.jsonl").rows
    assert len({row.key for row in rows}) == len(rows)
    assert first.scored_tokens < sum(row.forwarded for row in rows) <= 2 * whole
    done = run_toy(name, tmp_path, ToyObjective(kill_at=0), resume=True, budget=large)
    assert done.scored_tokens == sum(row.forwarded for row in rows)


def test_a_run_that_went_on_made_the_scores_of_one_that_had_the_larger_budget_from_the_start(name: str, tmp_path: Path):
    small, large = Budget(50 * TOKENS), Budget(80 * TOKENS)
    run_toy(name, tmp_path / "run", ToyObjective(), budget=small)
    run_toy(name, tmp_path / "run", ToyObjective(), resume=True, budget=large)
    run_toy(name, tmp_path / "whole", ToyObjective(), budget=large)
    keys = [{row.key for row in read_history(tmp_path / one / "history.jsonl").rows} for one in ("run", "whole")]
    assert len(keys[1] - keys[0]) <= len(new_strategy(name).reserved) + 8  # what the first choice of a winner cost


@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(1, 40), min_size=10, max_size=10), st.randoms())
def test_what_is_reserved_pays_for_any_of_its_documents_that_often(reserved: list[int], prices: list[int], dice: Any):
    def price(document: int, gradient: bool) -> int:
        return prices[document]

    scored = [dice.choice(reserved) for _ in reserved]
    assert sum(price(document, False) for document in scored) <= cost_of_reserve(reserved, price)
    assert cost_of_reserve(reserved[:1], price) == prices[reserved[0]] and cost_of_reserve([], price) == 0


@pytest.mark.parametrize("limits", [{"max_scored_tokens": 0}, {"max_hours": -1.0}, {"max_hours": float("nan")}])
def test_limits_that_are_no_limits_are_refused(limits: dict[str, float]):
    with pytest.raises(ValueError, match="must be finite and above 0"):
        Budget(**limits)  # type: ignore[arg-type]
