import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evaluation.comparison.results import ResultRow
from longrope.evaluation.comparison.ruler_means import ruler_means
from longrope.evaluation.report.ranking import Ranking, consistency, items, rank
from longrope.evaluation.tasks.ruler.tasks import RULER

from .synthetic import answers, losses, measure

MEANS = {"best": 1.0, "close": 1.004, "worse": 1.3, "worst": 2.0}
"""Losses of documents have a noise of 0.01 around these: `close` can't be told from `best` by 12 documents."""


def rows_of(task: str, records: list[dict[str, Any]]) -> list[ResultRow]:
    methods = dict.fromkeys(record["method"] for record in records)
    return [ResultRow(m, task, *one) for m in methods for one in measure([r for r in records if r["method"] == m])]


def ranking_of(records: list[dict[str, Any]], task: str = "perplexity", metric: str = "token_weighted") -> Ranking:
    return rank(rows_of(task, records), {task: records}, task, metric, seed=0)


def four_methods(lengths: tuple[int, ...] = (512,)) -> list[dict[str, Any]]:
    return [record for name, mean in MEANS.items() for n in lengths for record in losses(name, "perplexity", n, mean)]


def test_ranks_are_shared_where_the_documents_do_not_tell_methods_apart():
    standings = ranking_of(four_methods()).standings[512]
    assert {one.row.method: one.rank for one in standings} == {"best": 1, "close": 1, "worse": 2, "worst": 3}
    assert [one.row.method for one in standings if one.best] == [standings[0].row.method]


def test_a_difference_far_smaller_than_the_intervals_is_significant_because_it_is_paired():
    ranking = ranking_of(four_methods())
    best, worse = ranking.standing(512, "best"), ranking.standing(512, "worse")
    assert best is not None and worse is not None
    assert best.row.high is not None and worse.row.low is not None and worse.row.low < best.row.high
    contrast = ranking.contrast(512, "best", "worse")
    assert contrast is not None and contrast.significant
    assert contrast.difference.value == pytest.approx(math.log(best.row.value / worse.row.value))


def test_p_values_of_the_comparisons_with_the_best_of_a_length_are_corrected():
    ranking = ranking_of(four_methods((512, 1024)))
    contrast = ranking.contrast(1024, ranking.standings[1024][0].row.method, "worst")
    assert contrast is not None and contrast.difference.p == pytest.approx(2 / 2**12)  # all signs of 12 documents agree
    assert contrast.p == pytest.approx(3 * 2 / 2**12)  # three comparisons with the best
    others = [one for one in ranking.contrasts if {one.first, one.second} == {"worse", "worst"}]
    assert [one.p for one in others] == [one.difference.p for one in others]  # two left: one comparison in this step


def test_a_contrast_can_be_read_from_both_sides():
    ranking = ranking_of(four_methods())
    one, other = ranking.contrast(512, "best", "worst"), ranking.contrast(512, "worst", "best")
    assert one is not None and other is not None
    assert one.difference.value == -other.difference.value
    assert one.difference.low is not None and one.difference.low == -(other.difference.high or 0)
    assert one.p == other.p
    assert ranking.contrast(512, "best", "nobody") is None


@settings(max_examples=8, deadline=None)
@given(st.permutations(list(MEANS)))
def test_the_order_of_the_methods_does_not_change_their_ranks(order):
    records = four_methods()
    shuffled = [record for method in order for record in records if record["method"] == method]
    one, other = ranking_of(records).standings[512], ranking_of(shuffled).standings[512]
    assert [(s.row.method, s.rank) for s in one] == [(s.row.method, s.rank) for s in other]


def test_scores_rank_from_high_to_low():
    records = [r for name, share in (("low", 0.1), ("high", 0.9)) for r in answers(name, "passkey", 512, share)]
    ranking = ranking_of(records, "passkey", "accuracy")
    assert [(one.row.method, one.rank) for one in ranking.standings[512]] == [("high", 1), ("low", 2)]


def test_rows_without_records_are_shown_but_not_ranked():
    rows = rows_of("perplexity", four_methods())
    ranking = rank(rows, {}, "perplexity", "token_weighted", seed=0)
    assert ranking.contrasts == []
    assert {one.rank for one in ranking.standings[512]} == {None}


def test_records_that_do_not_give_the_value_of_a_row_prove_nothing():
    records = losses("one", "perplexity", 512, 1.0)
    (row,) = rows_of("perplexity", records)
    assert len(items({"perplexity": records}, [row], row)) == 12
    assert items({"perplexity": records[1:]}, [row], row) == {}


def test_failed_documents_are_left_out_of_the_comparison_for_all():
    records = four_methods()
    broken = next(record for record in records if record["method"] == "worst")
    broken |= {"nats": None, "error": "loss is not finite"}
    rows = rows_of("perplexity", [record for record in records if record["error"] is None])
    ranking = rank(rows, {"perplexity": records}, "perplexity", "token_weighted", seed=0)
    assert {one.difference.n for one in ranking.contrasts} == {11}


def test_prompts_that_differ_are_never_paired():
    records = answers("one", "passkey", 512, 0.9) + answers("other", "another task", 512, 0.2)
    assert ranking_of(records, "passkey", "accuracy").contrasts == []


@pytest.mark.parametrize(("num_tasks", "metric"), [(13, "mean"), (3, "mean_of_3")])
def test_the_mean_of_ruler_is_ranked_by_the_samples_of_its_tasks_each_task_alike(num_tasks: int, metric: str):
    tasks = list(RULER)[:num_tasks]
    records = {
        task: [
            record
            for method, share in (("good", 0.8), ("bad", 0.3))
            for record in answers(method, task, 512, share, 20 if number else 10, RULER[task].metric)
        ]
        for number, task in enumerate(tasks)
    }
    rows = [row for task in tasks for row in rows_of(task, records[task])]
    ranking = rank(rows + ruler_means(rows), records, "ruler", metric, seed=0)
    contrast = ranking.contrast(512, "good", "bad")
    assert contrast is not None and contrast.significant
    assert contrast.difference.value == pytest.approx(0.5)
    assert contrast.difference.n == 20 * (num_tasks - 1) + 10


def test_consistency_by_pencil_and_paper():
    rows = [ResultRow("a", "perplexity", "token_weighted", n, v, None, None, 1) for n, v in ((1, 2.0), (2, 8.0))]
    rows += [ResultRow("b", "perplexity", "token_weighted", 1, 5.0, None, None, 1)]  # not at every length
    assert consistency(rows, "perplexity", "token_weighted") == [("a", pytest.approx(4.0), 8.0, 2, 4.0)]
    shares = [ResultRow("a", "passkey", "accuracy", n, v, None, None, 1) for n, v in ((1, 0.9), (2, 0.4))]
    (one,) = consistency(shares, "passkey", "accuracy")
    assert (one.worst, one.worst_length) == (0.4, 2)
    assert np.allclose([one.mean, one.spread], [0.65, 0.5])
