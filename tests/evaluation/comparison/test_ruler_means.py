"""Means against pencil and paper."""

import pytest

from longrope.evaluation.comparison.results import ResultRow
from longrope.evaluation.comparison.ruler_means import effective_lengths, ruler_means
from longrope.evaluation.tasks.ruler.tasks import RULER


def row(task, value, length=4096, method="none", metric=None, low=None, high=None, n=10):
    return ResultRow(method, task, metric or RULER[task].metric, length, value, low, high, n)


def test_means_weigh_each_task_alike():
    values = {name: index / 20 for index, name in enumerate(RULER)}
    means = {mean.metric: mean for mean in ruler_means([row(name, value) for name, value in values.items()])}
    assert means["mean"].value == pytest.approx(sum(range(13)) / 20 / 13)
    assert means["mean_without_cwe"].value == pytest.approx((sum(range(13)) - 9) / 20 / 12)
    assert means["retrieval"].value == pytest.approx(sum(range(8)) / 20 / 8)
    assert means["multi_hop"].value == pytest.approx(8 / 20)
    assert means["aggregation"].value == pytest.approx(19 / 40)
    assert means["qa"].value == pytest.approx(23 / 40)
    assert {mean.task for mean in means.values()} == {"ruler"}
    assert (means["mean"].n, means["qa"].n) == (130, 20)
    assert len(means) == 6


def test_tasks_of_an_official_checkout_have_means_of_their_own():
    official = [row(f"official_{name}", 0.9, metric=RULER[name].metric) for name in RULER]
    means = ruler_means([row("ruler_vt", 0.1), *official])
    assert {(mean.task, mean.metric) for mean in means if "mean" in mean.metric} == {
        *(("official_ruler", "mean"), ("official_ruler", "mean_without_cwe")),
        *(("ruler", "mean_of_1"), ("ruler", "mean_without_cwe_of_1")),
    }
    assert {round(mean.value, 9) for mean in means if mean.task == "official_ruler"} == {0.9}
    assert effective_lengths(means, task="official_ruler") == {"none": 4096}
    assert effective_lengths(means) == {}


def test_means_over_fewer_tasks_say_how_many():
    rows = [row(name, 0.5) for name in RULER if "_qa_" not in name and name != "ruler_fwe"]
    metrics = [mean.metric for mean in ruler_means(rows)]
    assert metrics == ["mean_of_10", "mean_without_cwe_of_9", "retrieval", "multi_hop", "aggregation_of_1"]


def test_other_tasks_and_metrics_are_no_part_of_the_means():
    other = ResultRow("none", "passkey", "accuracy", 4096, 1.0, None, None, 5)
    rows = [row("ruler_vt", 0.25), other, row("ruler_vt", 1.0, metric="seconds")]
    assert {mean.value for mean in ruler_means(rows)} == {0.25}
    assert ruler_means([other]) == []


def test_methods_and_lengths_are_kept_apart():
    rows = [row("ruler_vt", 0.1), row("ruler_vt", 0.2, length=8192), row("ruler_vt", 0.3, method="yarn")]
    found = {(mean.method, mean.length): mean.value for mean in ruler_means(rows) if mean.metric == "multi_hop"}
    assert found == {("none", 4096): 0.1, ("none", 8192): 0.2, ("yarn", 4096): 0.3}


def test_intervals_of_a_mean_add_in_squares():
    rows = [row("ruler_cwe", 0.5, low=0.2, high=0.6), row("ruler_fwe", 0.7, low=0.3, high=0.9)]
    mean = next(mean for mean in ruler_means(rows) if mean.metric == "aggregation")
    assert mean.value == pytest.approx(0.6)
    assert mean.low == pytest.approx(0.6 - 0.5 / 2)  # sqrt(0.3^2 + 0.4^2) / 2
    assert mean.high == pytest.approx(0.6 + (0.01 + 0.04) ** 0.5 / 2)
    unknown = next(m for m in ruler_means([rows[0], row("ruler_fwe", 0.7)]) if m.metric == "aggregation")
    assert unknown.low is unknown.high is None


def test_effective_length_is_the_longest_that_reaches_the_threshold():
    def all_tasks(value, length, method):
        return [row(name, value, length, method) for name in RULER]

    rows = [
        *all_tasks(0.95, 4096, "yarn"),
        *all_tasks(0.856, 8192, "yarn"),
        *all_tasks(0.85, 16384, "yarn"),
        *all_tasks(0.5, 4096, "none"),
    ]
    means = ruler_means(rows)
    assert effective_lengths(means) == {"yarn": 8192, "none": None}
    assert effective_lengths(means, threshold=0.5) == {"yarn": 16384, "none": 4096}
    assert effective_lengths(ruler_means(rows[:5])) == {}
