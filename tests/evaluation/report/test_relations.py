import math
from itertools import product

import numpy as np
import pytest

from longrope.evaluation.report.relations import (
    best_variants,
    correlation_grid,
    families,
    metric_pairs,
    pair_rows,
    parse_spec,
    sensitivities,
)
from longrope.evaluation.results import ResultRow


def row(
    method: str, value: float, task: str = "perplexity", metric: str = "token_weighted", length: int = 1
) -> ResultRow:
    return ResultRow(method, task, metric, length, value, None, None, 1)


def test_a_specification_has_a_family_and_parameters():
    assert parse_spec("yarn:beta_fast=16,factor=8") == ("yarn", {"beta_fast": "16", "factor": "8"})
    assert parse_spec("none") == ("none", {})
    assert families(["yarn", "none", "yarn:factor=2"]) == {"yarn": ["yarn", "yarn:factor=2"], "none": ["none"]}


def test_sensitivity_of_a_grid_of_known_effects():
    # log perplexity = 2 + a, whatever b is: a explains everything, b nothing
    rows = [row(f"yarn:a={a},b={b}", math.exp(2 + a)) for a, b in product((3, 1, 20), (5, 7))]
    a, b = sensitivities(rows, "perplexity", "token_weighted", 1)
    assert (a.family, a.parameter, a.share) == ("yarn", "a", pytest.approx(1))
    assert list(a.means) == ["1", "3", "20"]  # by number, not by letter
    assert a.means["3"] == pytest.approx(math.exp(5))
    assert a.best_level == "1"
    assert (b.parameter, b.share) == ("b", pytest.approx(0))


def test_a_parameter_that_is_left_out_has_its_default():
    rows = [row("ntk", 9.0), row("ntk:factor=8", 7.0), row("none", 3.0)]
    (one,) = sensitivities(rows, "perplexity", "token_weighted", 1)
    assert one.levels == ["default", "8"]
    assert one.best_level == "8"
    assert one.share is None  # one variant per level tells nothing about noise


def test_more_is_better_for_scores():
    rows = [row(f"ntk:factor={n}", n / 10, "passkey", "accuracy") for n in (2, 8)]
    (one,) = sensitivities(rows, "passkey", "accuracy", 1)
    assert one.best_level == "8"
    assert best_variants(rows, "passkey", "accuracy", 1)["ntk"].method == "ntk:factor=8"


def test_methods_without_variants_have_no_sensitivity():
    assert sensitivities([row("none", 1.0), row("yarn", 2.0)], "perplexity", "token_weighted", 1) == []


def test_the_best_variant_has_the_lowest_perplexity_at_the_length():
    rows = [row("yarn", 8.0), row("yarn:factor=4", 7.0), row("yarn:factor=4", 99.0, length=2), row("none", 50.0)]
    best = best_variants(rows, "perplexity", "token_weighted", 1)
    assert {family: one.method for family, one in best.items()} == {"yarn": "yarn:factor=4", "none": "none"}


def test_perplexity_that_falls_where_accuracy_rises_correlates_with_minus_one():
    rows = [row(str(n), math.exp(5 - n)) for n in range(4)] + [
        row(str(n), n / 4, "passkey", "accuracy") for n in range(5)
    ]
    metrics = {"perplexity": "token_weighted", "passkey": "accuracy"}
    (pair,) = metric_pairs(rows, metrics)
    assert pair.correlation == (pytest.approx(-1), pytest.approx(-1), 4)  # the fifth has no perplexity
    grid = correlation_grid([pair])
    assert grid.row_labels == grid.column_labels == ["perplexity", "passkey"]
    assert np.allclose(grid.values, [[1, -1], [-1, 1]])


def test_too_few_points_have_no_correlation():
    rows = [row("a", 1.0), row("a", 0.5, "passkey", "accuracy")]
    (pair,) = metric_pairs(rows, {"perplexity": "token_weighted", "passkey": "accuracy"})
    assert pair.correlation is None
    assert pair_rows([pair])[0]["spearman"] is None
