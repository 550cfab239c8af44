"""Configurations of a sweep: ranks, summaries and finalists are those of brute force."""

import math
from itertools import pairwise

import numpy as np
import pytest

from longrope.evaluation.comparison.results import ResultRow
from longrope.evaluation.report.points import (
    best_by_length,
    finalists,
    method_rows,
    middle_by_length,
    rank_points,
    summaries,
    value_boxes,
)

PERPLEXITY, PASSKEY = ("perplexity", "token_weighted"), ("passkey", "accuracy")


def perplexity(spec: str, losses: list[float], length: int = 100) -> tuple[ResultRow, list[dict]]:
    """A configuration with these losses per token of its documents."""
    value = math.exp(sum(losses) / len(losses))
    records = [
        {"method": spec, "length": length, "document": f"doc{i}", "nats": 99 * loss, "tokens": 99, "error": None}
        for i, loss in enumerate(losses)
    ]
    return ResultRow(spec, *PERPLEXITY, length, value, None, None, len(losses)), records


def passkey(spec: str, answers: list[int], length: int = 100) -> tuple[ResultRow, list[dict]]:
    """A configuration with these right and wrong answers."""
    records = [
        {"method": spec, "length": length, "item": f"key{i}", "prompt_hash": f"h{i}", "scores": {"accuracy": float(a)}}
        for i, a in enumerate(answers)
    ]
    return ResultRow(spec, *PASSKEY, length, sum(answers) / len(answers), None, None, len(answers)), records


def together(*measured: tuple[ResultRow, list[dict]]) -> tuple[list[ResultRow], dict[str, list[dict]]]:
    rows = [row for row, _ in measured]
    records: dict[str, list[dict]] = {}
    for row, own in measured:
        records.setdefault(row.task, []).extend(own)
    return rows, records


def test_points_are_ranked_by_method_and_tied_where_documents_do_not_prove_a_difference():
    rng = np.random.default_rng(1)
    base = rng.normal(2.0, 0.3, 12)
    noise = rng.normal(0, 0.02, 12)
    rows, records = together(
        perplexity("yarn", list(base + 0.1)),
        perplexity("yarn:beta_fast=16", list(base)),
        perplexity("yarn:beta_fast=8", list(base + noise - noise.mean() + 1e-4)),
        perplexity("ntk", list(base + 0.5)),
    )
    points = rank_points(rows, records, *PERPLEXITY, 100, seed=0)
    assert [(p.method, p.spec, p.rank, p.tied, p.place) for p in points] == [
        ("yarn", "yarn:beta_fast=16", 1, True, 1),
        ("yarn", "yarn:beta_fast=8", 2, True, 2),
        ("yarn", "yarn", 3, False, 3),
        ("ntk", "ntk", 1, True, 4),
    ]
    assert points[0].p is None and points[2].p == pytest.approx(2 * 2 / 2**12)  # exact sign flips, corrected for two
    assert points[0].place_p is None and points[3].place_p == pytest.approx(3 * 2 / 2**12)  # of all: for three


def test_equal_points_share_a_rank():
    rows, records = together(perplexity("ntk:alpha=2", [2.0, 3.0]), perplexity("ntk", [2.0, 3.0]))
    points = rank_points(rows, records, *PERPLEXITY, 100, seed=0)
    assert [(point.rank, point.place, point.tied) for point in points] == [(1, 1, True)] * 2


def test_of_scores_more_is_better_and_ranks_are_those_of_sorting():
    rng = np.random.default_rng(0)
    shares = {f"yarn:beta_fast={b}": rng.integers(0, 2, 9).tolist() for b in range(8, 30)}
    rows, records = together(*(passkey(spec, answers) for spec, answers in shares.items()))
    points = rank_points(rows, records, *PASSKEY, 100, seed=0)
    for point in points:
        assert point.rank == point.place == 1 + sum(sum(other) > sum(shares[point.spec]) for other in shares.values())
    assert all(first.value >= second.value for first, second in pairwise(points))


@pytest.mark.parametrize(("task", "sign"), [(PERPLEXITY, 1), (PASSKEY, -1)])
def test_methods_are_summed_up_as_by_hand(task: tuple[str, str], sign: int):
    rng = np.random.default_rng(2)
    values = {name: rng.uniform(0.1, 0.9, n) for name, n in (("ntk", 7), ("yarn", 4), ("none", 1))}
    rows = [
        ResultRow(f"{name}:alpha={i}", *task, length, float(v), None, None, 3)
        for name, own in values.items()
        for i, v in enumerate(own)
        for length in (100, 200)
    ]
    found = summaries(rows, *task, 100)
    for one in found:
        own = values[one.method]
        scale = np.log(own) if sign > 0 else own
        assert one.mean == pytest.approx(math.exp(scale.mean()) if sign > 0 else scale.mean())
        assert (one.best, one.worst) == ((own.min(), own.max()) if sign > 0 else (own.max(), own.min()))
        assert one.variants == len(own)
        assert one.deviation is None if len(own) == 1 else one.deviation == pytest.approx(scale.std(ddof=1))
    assert [sign * one.mean for one in found] == sorted(sign * one.mean for one in found)
    assert [box.method for box in value_boxes(rows, *task, 100)] == [one.method for one in found]
    assert {row.method: row.value for row in best_by_length(rows, *task) if row.length == 200} == {
        name: own.min() if sign > 0 else own.max() for name, own in values.items()
    }
    for row in middle_by_length(rows, *task):
        assert (row.low, row.value, row.high) == pytest.approx(np.quantile(values[row.method], [0.25, 0.5, 0.75]))


def test_the_finalist_of_equal_configurations_is_the_better_one_by_the_ranking():
    rows, _ = together(
        passkey("yarn:beta_fast=8", [1, 1]), perplexity("yarn:beta_fast=8", [2.1]),
        passkey("yarn:beta_fast=9", [1, 1]), perplexity("yarn:beta_fast=9", [2.0]),
        passkey("yarn:beta_fast=7", [1, 0]), perplexity("yarn:beta_fast=7", [1.0]),
        passkey("ntk", [1, 1]), perplexity("ntk", [1.9]), passkey("linear", [0, 1]),
    )  # fmt: skip
    assert [row.method for row in finalists(rows, *PASSKEY, 100, PERPLEXITY)] == ["ntk", "yarn:beta_fast=9", "linear"]
    assert [row.method for row in finalists(rows, *PERPLEXITY, 100, PERPLEXITY)] == ["yarn:beta_fast=7", "ntk"]


def test_each_method_has_a_table_of_its_parameters_numbers_and_ranks():
    rows, records = together(
        perplexity("yarn", [2.0]), perplexity("yarn:beta_fast=16", [1.0]), passkey("yarn", [1, 0], 50),
        perplexity("ntk:alpha=2", [3.0]),
    )  # fmt: skip
    tables = method_rows(rows, rank_points(rows, records, *PERPLEXITY, 100, seed=0))
    assert list(tables) == ["yarn", "ntk"]
    plain, changed = tables["yarn"]
    assert (plain["spec"], plain["beta_fast"], plain["rank"], plain["passkey accuracy 50"]) == ("yarn", None, 2, 0.5)
    assert (changed["beta_fast"], changed["rank"], changed["passkey accuracy 50"]) == ("16", 1, None)
    assert changed["perplexity token_weighted 100"] == pytest.approx(math.e)
