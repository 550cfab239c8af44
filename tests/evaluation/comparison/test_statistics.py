import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from longrope.evaluation.comparison.statistics import (
    correlation,
    crossed_interval,
    holm,
    paired_differences,
    smooth_fit,
    variance_share,
)


def brute_force_p(contributions: np.ndarray) -> float:
    """Return the share of all sign flips whose sum is at least as far from 0."""
    flips = np.array(list(product((-1, 1), repeat=len(contributions)))) @ contributions
    return float(np.mean(np.abs(flips) >= abs(contributions.sum()) - 1e-12))


def test_a_paired_difference_is_found_although_the_documents_differ_far_more_than_the_methods():
    documents = np.linspace(1, 5, 10)
    (one,) = paired_differences(np.array([documents, documents + 0.1 + 0.001 * np.sin(np.arange(10))]), seed=0)
    assert (one.first, one.second, one.n) == (0, 1, 10)
    assert one.value == pytest.approx(-0.1, abs=1e-3)
    assert one.low is not None and one.high is not None and one.low < -0.1 + 1e-3 and one.high < -0.09
    assert one.p == pytest.approx(2 / 2**10)  # only the flips of all signs are as far


def test_the_sign_flip_test_equals_all_flips_counted_one_by_one():
    rng = np.random.default_rng(1)
    scores, weights = rng.normal(size=(3, 8)), rng.integers(1, 9, 8).astype(float)
    for one in paired_differences(scores, 0, weights):
        contributions = (scores[one.first] - scores[one.second]) * weights
        assert one.p == pytest.approx(brute_force_p(contributions))
        assert one.value == pytest.approx(contributions.sum() / weights.sum())


def test_right_and_wrong_answers_get_the_exact_mcnemar_test():
    first = np.array([1.0] * 12 + [0.0] * 8)
    second = np.array([1.0] * 4 + [0.0] * 8 + [1.0] * 2 + [0.0] * 6)  # 8 only the first had right, 2 only the second
    (one,) = paired_differences(np.array([first, second]), seed=0)
    assert one.p == pytest.approx(2 * sum(math.comb(10, k) for k in range(3)) / 2**10)
    assert one.p == pytest.approx(brute_force_p((first - second)[first != second]))
    assert one.value == pytest.approx(6 / 20)


def test_many_items_are_tested_by_chance_flips_that_agree_with_the_t_test():
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(2, 60)) + np.array([[0.0], [0.35]])
    (one,) = paired_differences(scores, seed=0)
    assert one.p == pytest.approx(stats.ttest_rel(*scores).pvalue, abs=0.01)


def test_methods_that_do_not_differ_are_rarely_called_different():
    rng = np.random.default_rng(3)
    found = [paired_differences(rng.normal(size=(2, 7)), seed=0)[0].p for _ in range(60)]
    assert sum(p is not None and p < 0.05 for p in found) <= 9  # binomial(60, 0.05) is above 9 once in 1000


def test_equal_scores_are_no_difference_and_one_item_is_no_test():
    (equal,) = paired_differences(np.ones((2, 4)) * 0.3, seed=0)
    assert (equal.value, equal.low, equal.high, equal.p) == (0.0, 0.0, 0.0, 1.0)
    (single,) = paired_differences(np.array([[1.0], [2.0]]), seed=0)
    assert (single.value, single.low, single.p, single.n) == (-1.0, None, None, 1)
    assert paired_differences(np.ones((1, 4)), seed=0) == []
    with pytest.raises(ValueError, match="got none"):
        paired_differences(np.ones((2, 0)), seed=0)


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(3)), st.integers(0, 5))
def test_the_order_of_the_methods_decides_nothing_but_signs(order, seed):
    scores = np.random.default_rng(seed).normal(size=(3, 6))
    straight = {(one.first, one.second): one for one in paired_differences(scores, 0)}
    for one in paired_differences(scores[list(order)], 0):
        first, second = order[one.first], order[one.second]
        other = straight[min(first, second), max(first, second)]
        assert one.value == pytest.approx(other.value if first < second else -other.value)
        assert one.p == pytest.approx(other.p)


def test_holm_by_pencil_and_paper():
    # sorted 0.01, 0.02, 0.03, 0.04: 4 x 0.01, 3 x 0.02, then never less than before
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12), st.randoms())
def test_holm_keeps_the_order_lies_between_p_and_bonferroni_and_forgets_the_order_of_tests(p_values, random):
    corrected = holm(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1.0, len(p_values) * p) + 1e-12
    by_p = [q for _, q in sorted(zip(p_values, corrected, strict=True))]
    assert by_p == sorted(by_p)
    order = random.sample(range(len(p_values)), len(p_values))
    assert holm([p_values[place] for place in order]) == [corrected[place] for place in order]


def test_correlations_equal_scipys_also_with_ties():
    x, y = [1.0, 2.0, 2.0, 4.0, 9.0], [3.0, 1.0, 5.0, 5.0, 6.0]
    found = correlation(x, y)
    assert found is not None
    assert found.pearson == pytest.approx(stats.pearsonr(x, y)[0])
    assert found.spearman == pytest.approx(stats.spearmanr(x, y)[0])
    assert found.n == 5
    monotone = correlation([1.0, 2.0, 3.0, 4.0], [1.0, 8.0, 27.0, 64.0])
    assert monotone is not None and monotone.spearman == pytest.approx(1) and monotone.pearson < 0.99


def test_there_is_no_correlation_of_too_little():
    assert correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert correlation([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]) is None


def test_the_variance_share_by_pencil_and_paper():
    # means 1 and 3 about 2: between 4 x 1, within 4 x 0.25
    assert variance_share(["a", "a", "b", "b"], [0.5, 1.5, 2.5, 3.5]) == pytest.approx(4 / 5)
    assert variance_share(["a", "b", "a", "b"], [1.0, 1.0, 2.0, 2.0]) == 0
    assert variance_share([1, 1, 2, 2], [7.0, 7.0, 9.0, 9.0]) == 1


def test_there_is_no_variance_share_where_it_would_mean_nothing():
    assert variance_share(["a", "b", "c"], [1.0, 2.0, 3.0]) is None  # each value on its own
    assert variance_share(["a", "a", "b"], [1.0, 1.0, 1.0]) is None


def test_the_shares_of_a_full_grid_without_interaction_add_up_to_one():
    grid = list(product((1, 2, 3), ("x", "y")))
    values = [10 * a + (b == "y") for a, b in grid]
    shares = [variance_share([point[axis] for point in grid], values) for axis in (0, 1)]
    assert sum(share for share in shares if share is not None) == pytest.approx(1)


def test_a_smooth_fit_gives_a_cubic_back():
    x = np.linspace(-1, 3, 9)
    fit = smooth_fit(x.tolist(), (1 - 2 * x + x**3).tolist())
    assert fit.curve(2.0) == pytest.approx(1 - 4 + 8)
    assert fit.share == pytest.approx(1)
    assert smooth_fit(x.tolist(), [5.0] * 9).share is None
    with pytest.raises(ValueError, match="at least 5 different numbers to be fitted, got 4"):
        smooth_fit([1, 2, 3, 4, 4], [1.0] * 5)


def test_a_parameter_that_does_nothing_explains_about_nothing_however_many_values_it_takes():
    rng = np.random.default_rng(0)
    for n in (10, 50, 200):
        shares = [smooth_fit(rng.uniform(size=n).tolist(), rng.normal(size=n).tolist()).share for _ in range(100)]
        assert np.mean([share or 0 for share in shares]) < 0.13
        assert variance_share(rng.uniform(size=n).tolist(), rng.normal(size=n).tolist()) is None


def test_the_share_of_a_smooth_fit_is_that_of_the_signal():
    rng = np.random.default_rng(1)
    x = rng.uniform(size=4000)
    y = np.sin(3 * x) / np.std(np.sin(3 * x)) + rng.normal(size=4000) / 2  # variance 1 and 1/4
    assert smooth_fit(x.tolist(), y.tolist()).share == pytest.approx(0.8, abs=0.02)


def test_a_crossed_interval_has_the_width_of_two_sources_of_chance():
    rng = np.random.default_rng(2)
    rows, columns = rng.normal(0, 2.0, size=(30, 1)), rng.normal(0, 3.0, size=(1, 40))
    values = 5 + rows + columns
    low, high = crossed_interval(values, seed=0)
    wanted = math.sqrt(rows.var() / 30 + columns.var() / 40)  # of the mean of additive effects, each drawn by itself
    assert (high - low) / 2 == pytest.approx(1.96 * wanted, rel=0.05)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.1 * wanted)


def test_a_crossed_interval_of_one_run_is_the_bootstrap_over_items():
    values = np.random.default_rng(3).normal(size=25)
    reference = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
    low, high = crossed_interval(values[None], seed=0)
    width = reference.confidence_interval.high - reference.confidence_interval.low
    assert low == pytest.approx(reference.confidence_interval.low, abs=0.05 * width)
    assert high == pytest.approx(reference.confidence_interval.high, abs=0.05 * width)


def test_one_method_against_the_others_is_tested_as_among_every_pair():
    scores = np.random.default_rng(3).normal(size=(4, 7))
    every = {(one.first, one.second): one for one in paired_differences(scores, 0)}
    found = paired_differences(scores, 0, against=0)
    assert [(one.first, one.second) for one in found] == [(0, 1), (0, 2), (0, 3)]
    for one in found:
        other = every[one.first, one.second]
        assert (one.value, one.p, one.n) == pytest.approx((other.value, other.p, other.n))  # 2^7 flips: exact
