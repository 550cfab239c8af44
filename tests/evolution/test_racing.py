from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from longrope.evolution.racing import p_value_of_worse, survivors

RNG = np.random.default_rng(0)


def test_the_p_value_is_that_of_scipy_s_paired_test():
    a, b = RNG.normal(0.3, 1, 9), RNG.normal(0, 1, 9)
    assert p_value_of_worse(a, b) == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue)


@pytest.mark.parametrize(("shift", "expected"), [(0.5, 0.0), (-0.5, 1.0), (0.0, 1.0)])
def test_differences_without_spread_are_sure(shift: float, expected: float):
    losses = np.array([1.0, 2.0, 4.0])
    assert p_value_of_worse(losses + shift, losses) == expected


def test_one_document_drops_nobody():
    assert survivors([[3.0], [1.0], [2.0]], num_parents=1, significance=0.5) == [1, 2, 0]


def test_paired_differences_drop_what_documents_of_unequal_difficulty_would_hide():
    documents = np.array([1.0, 5.0, 9.0, 13.0])
    noise = np.array([0.0, 0.01, -0.01, 0.0])
    unpaired: Any = stats.ttest_ind(documents + 0.1 + noise, documents, alternative="greater")
    assert unpaired.pvalue > 0.4
    losses = [list(one) for one in (documents + 0.1 + noise, documents, documents + noise)]
    assert set(survivors(losses, 1, 0.05)) == {1, 2}


def test_a_candidate_that_failed_is_dropped():
    assert survivors([[1.0, float("inf")], [2.0, 2.0]], num_parents=2, significance=0.1) == [1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 6), st.floats(0.01, 0.5))
def test_the_best_places_always_survive(seed: int, num_parents: int, num_documents: int, significance: float):
    losses = np.random.default_rng(seed).normal(size=(7, num_documents))
    kept = survivors(losses.tolist(), num_parents, significance)
    ranked = sorted(range(7), key=lambda index: losses[index].mean())
    assert kept[:num_parents] == ranked[:num_parents]


def test_the_test_drops_an_equal_candidate_about_as_often_as_its_level_says():
    losses = np.random.default_rng(1).normal(size=(2000, 2, 6))
    p_values = np.array([p_value_of_worse(first, second) for first, second in losses])
    assert np.mean(p_values < 0.1) == pytest.approx(0.1, abs=0.02)
