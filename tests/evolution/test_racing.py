import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from longrope.evolution import HybridSettings
from longrope.evolution.racing import MIXTURE_PRECISION, Gain, by_document, choose, gain, survivors
from longrope.evolution.strategies.race import ACCEPTANCE


@pytest.mark.parametrize("level", [0.05, 0.1])
def test_looking_after_every_document_errs_no_more_often_than_the_level_says(level: float):
    rng = np.random.default_rng(0)
    wrong = 0
    for scale in rng.lognormal(0, 3, size=1000):
        losses = scale * rng.normal(size=50)
        wrong += any(gain(losses[:count], np.zeros(count), level).low > 0 for count in range(2, 51))
    assert 0.1 * level < wrong / 1000 < level


def wrong_wins(
    level: float, alike: float, documents: int, per_document: int, count_documents: bool, most: int | None = None
) -> float:
    """Return how often an equal candidate is once surely better, with documents or windows as the unit.

    Windows come in the random order of a search, `most` of them, and a test follows every fourth. A document's windows
    share a part of the difference, whose share of the variance is `alike`.
    """
    rng = np.random.default_rng(documents)
    wrong, repeats = 0, 200
    for _ in range(repeats):
        shared, own = rng.normal(size=documents), rng.normal(size=documents * per_document)
        windows = rng.permutation(len(own))
        losses = math.sqrt(alike) * shared[windows % documents] + math.sqrt(1 - alike) * own
        looks = [slice(0, count) for count in range(4, (most or len(own)) + 1, 4)]
        units = (
            by_document(losses[one], windows[one].tolist(), documents) if count_documents else losses[one]
            for one in looks
        )
        wrong += any(gain(one, np.zeros(len(one)), level).low > 0 for one in units)
    return wrong / repeats


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("level", [0.1, 0.25])
def test_windows_of_one_document_that_are_alike_do_not_make_equal_candidates_surely_better(level: float, alike: float):
    assert wrong_wins(level, alike, documents=19, per_document=4, count_documents=True) <= level


def test_windows_that_are_alike_would_do_so_if_they_counted_as_independent():
    rates = [wrong_wins(0.1, 0.95, documents=10, per_document=16, count_documents=counted) for counted in (True, False)]
    assert rates[0] <= 0.1 < 0.2 < rates[1]


@pytest.mark.parametrize(("level", "most"), [(ACCEPTANCE, 180), (HybridSettings().significance, 33)])
def test_in_the_races_of_the_shipped_search_windows_may_count_as_independent(level: float, most: int):
    """45 search documents of four windows; the race of the baselines has 67 scores for two or more of them."""
    assert wrong_wins(level, 0.95, documents=45, per_document=4, count_documents=False, most=most) <= level


@given(st.data())
def test_a_document_s_loss_is_the_mean_of_its_windows_so_one_window_each_changes_nothing(data: st.DataObject):
    num_documents = data.draw(st.integers(1, 5))
    windows = data.draw(st.lists(st.integers(0, 19), min_size=1, max_size=12))
    losses = data.draw(
        st.lists(st.sampled_from([0.5, 1.0, 2.0, math.inf]), min_size=len(windows), max_size=len(windows))
    )
    groups: dict[int, list[float]] = {}
    for window, loss in zip(windows, losses, strict=True):
        groups.setdefault(window % num_documents, []).append(loss)
    expected = [sum(groups[one]) / len(groups[one]) for one in sorted(groups)]
    assert by_document(losses, windows, num_documents) == pytest.approx(expected)
    ordered = sorted(set(windows))
    assert by_document(losses[: len(ordered)], ordered, 20).tolist() == losses[: len(ordered)]


@pytest.mark.parametrize("count", [4, 7, 20])
def test_a_bound_is_where_the_mixed_likelihood_ratio_of_t_is_one_over_the_level(count: int):
    """By numbers: scipy's noncentral t over effects of normal size against its central one, at the bound's own t."""
    losses, level = np.random.default_rng(count).normal(size=count), 0.1
    found = gain(losses, np.zeros(count), level)
    t = (found.mean - found.low) / (losses.std(ddof=1) / math.sqrt(count))
    mixed, _ = integrate.quad(
        lambda effect: (
            stats.nct.pdf(t, count - 1, effect * math.sqrt(count)) * stats.norm.pdf(effect, 0, MIXTURE_PRECISION**-0.5)
        ),
        -8,
        8,
        limit=200,
    )
    assert mixed / stats.t.pdf(t, count - 1) == pytest.approx(1 / (2 * level), rel=1e-3)


def test_paired_differences_find_what_windows_of_unequal_difficulty_would_hide():
    windows = np.array([1.0, 5.0, 9.0, 13.0, 2.0, 7.0])
    noise = np.array([0.0, 0.01, -0.01, 0.0, 0.005, -0.005])
    found = gain(windows + noise, windows + 0.1, 0.05)
    assert 0 < found.low < 0.1 < found.high and found.mean == pytest.approx(0.1)
    assert set(survivors([windows + 0.1 + noise, windows, windows + noise], 0.05)) == {1, 2}


def test_on_two_windows_nothing_is_sure_but_what_is_the_same_on_all():
    rng = np.random.default_rng(0)
    for count in (1, 2):
        assert gain(rng.normal(100, 1, count), rng.normal(0, 1, count), 0.1).high == math.inf
    assert gain([3.0, 4.0, 6.0], [2.5, 3.5, 5.5], 0.1) == Gain(-0.5, -0.5, -0.5, confidence=0.8)


def test_a_gain_without_bounds_has_none_in_json():
    assert gain([1.0, 3.0], [2.0, 2.5], 0.1).as_json() == {"mean": 0.25, "low": None, "high": None, "confidence": 0.8}


def test_failures_are_worse_than_anything_and_win_nothing():
    assert gain([1.0, math.inf], [2.0, 2.0], 0.1).high < 0
    assert gain([1.0, 1.0], [2.0, math.inf], 0.1).low == -math.inf
    assert survivors([[1.0, math.inf], [2.0, 2.0]], 0.1) == [1]
    assert survivors([[math.inf]], 0.1) == []


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(0.01, 0.4))
def test_bounds_hold_the_mean_widen_with_less_error_and_mirror(seed: int, count: int, level: float):
    losses, reference = np.random.default_rng(seed).normal(size=(2, count))
    one, sure, mirror = (
        gain(losses, reference, level),
        gain(losses, reference, level / 2),
        gain(reference, losses, level),
    )
    assert sure.low <= one.low <= one.mean <= one.high <= sure.high
    assert (mirror.low, mirror.high) == pytest.approx((-one.high, -one.low))


WINDOWS = np.random.default_rng(3).normal(2, 0.3, 12)
NOISE = np.random.default_rng(4).normal(0, 0.01, (3, 12))


def test_a_find_wins_only_if_its_gain_over_the_best_baseline_is_sure():
    baselines = {"pi": WINDOWS + 1, "ntk": WINDOWS}
    winner, found = choose(baselines, {"new": WINDOWS - 0.05 + NOISE[0]}, 0.1)
    assert winner == "new" and found is not None and 0 < found.low < 0.05 and found.confidence == 0.8
    winner, found = choose(baselines, {"new": WINDOWS - 0.001 + NOISE[0]}, 0.1)
    assert winner == "ntk" and found is not None and found.low < 0
    assert choose(baselines, {}, 0.1) == ("ntk", None)
    assert choose(baselines, {"new": WINDOWS * math.inf}, 0.1) == ("ntk", None)
    assert choose({"ntk": WINDOWS * math.inf}, {}, 0.1) == (None, None)


def test_of_equal_candidates_the_baseline_is_the_result_as_often_as_is_said():
    rng, wrong = np.random.default_rng(5), 0
    for _ in range(600):
        losses = {number: rng.normal(size=16) for number in range(4)}
        found = {number: losses[number] for number in (1, 2, 3)}
        wrong += choose({0: losses[0]}, found, 0.1)[0] != 0
    assert wrong / 600 < 0.1
