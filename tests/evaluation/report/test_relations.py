import math
from itertools import product

import numpy as np
import pytest

from longrope.evaluation.comparison.results import ResultRow
from longrope.evaluation.report.relations import (
    MAX_LEVELS,
    best_variants,
    correlation_grid,
    families,
    metric_pairs,
    pair_rows,
    parse_spec,
    sensitivities,
)


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


def test_a_parameter_of_many_numbers_has_a_smooth_fit_and_an_honest_share():
    # log perplexity = 2 + (ln a)^2 with its least at a = 1, whatever b is
    rng = np.random.default_rng(0)
    points = [(math.exp(rng.uniform(-2, 2)), rng.uniform(1, 3)) for _ in range(100)]
    rows = [row(f"yarn:a={a:.6g},b={b:.6g}", math.exp(2 + math.log(a) ** 2)) for a, b in points]
    a, b = sensitivities([*rows, row("yarn", 9.0)], "perplexity", "token_weighted", 1)
    assert a.share == pytest.approx(1, abs=1e-4) and a.trend is not None and a.trend.logarithmic
    assert float(a.best_level) == pytest.approx(1, abs=0.1)
    assert a.variants == 100 and len(a.values) == 101  # the default has no number
    np.testing.assert_allclose(a.trend.curve, np.exp(2 + np.log(a.trend.grid) ** 2), rtol=1e-3)
    assert b.share is not None and b.share < 0.1 and b.trend is not None and not b.trend.logarithmic
    assert b.described_levels == f"{min(b for _, b in points):.3g} to {max(b for _, b in points):.3g}, 100 numbers"


def test_few_numbers_or_words_stay_levels():
    for levels in (range(MAX_LEVELS), [*range(20), "word"]):
        rows = [row(f"yarn:a={level}", 5.0 + place) for place, level in enumerate(levels)]
        (one,) = sensitivities(rows, "perplexity", "token_weighted", 1)
        assert one.trend is None and one.best_level == "0"
