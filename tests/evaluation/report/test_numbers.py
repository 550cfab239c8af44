import numpy as np
import pytest

from longrope.evaluation.comparison.results import ResultRow
from longrope.evaluation.report.numbers import (
    box_rows,
    curve_rows,
    curves,
    depth_maps,
    depth_rows,
    grid_by_length,
    grid_by_task,
    lambda_profiles,
    loss_boxes,
    position_curves,
    position_rows,
)
from longrope.rope import RopeGeometry
from longrope.rope.methods import Linear, YaRN

ROWS = [
    ResultRow("none", "perplexity", "token_weighted", 2048, 58.8, 50.0, 70.0, 20),
    ResultRow("none", "perplexity", "token_weighted", 256, 8.0, 7.5, 8.5, 20),
    ResultRow("yarn", "perplexity", "token_weighted", 2048, 8.27, None, None, 1),
    ResultRow("none", "ruler_cwe", "string_match_all", 2048, 0.1, 0.0, 0.3, 10),
    ResultRow("none", "ruler_vt", "string_match_all", 2048, 0.4, 0.2, 0.6, 10),
]
GEOMETRY = RopeGeometry(64, 10000.0, 256)


def test_curves_hold_each_method_sorted_by_length():
    none, yarn = curves(ROWS, "perplexity", "token_weighted")
    assert (none.method, yarn.method) == ("none", "yarn")
    assert none.lengths.tolist() == [256, 2048]
    assert none.values.tolist() == [8.0, 58.8]
    assert (none.lows.tolist(), none.highs.tolist()) == ([7.5, 50.0], [8.5, 70.0])
    assert (yarn.lows.tolist(), yarn.highs.tolist()) == ([8.27], [8.27])  # no interval: the value itself
    assert curve_rows([none])[0] == {"method": "none", "length": 256, "value": 8.0, "low": 7.5, "high": 8.5}


def test_lambda_profiles_mark_the_pairs_that_training_never_saw_whole():
    factors = {"linear": Linear(8.0).factors(GEOMETRY), "yarn": YaRN(8.0).factors(GEOMETRY)}
    numbers = lambda_profiles(factors, GEOMETRY)
    assert numbers.profiles[0].lambdas.tolist() == [8.0] * 32
    critical = numbers.critical_pair
    assert numbers.wavelengths[critical - 1] <= 256 < numbers.wavelengths[critical]
    assert numbers.rows()[3]["linear"] == 8.0 and len(numbers.rows()) == 32


def test_a_grid_by_length_leaves_a_hole_where_there_is_no_number():
    grid = grid_by_length(ROWS, "perplexity", "token_weighted")
    assert (grid.row_labels, grid.column_labels) == (["none", "yarn"], ["256", "2048"])
    assert np.array_equal(grid.values, [[8.0, 58.8], [np.nan, 8.27]], equal_nan=True)


def test_a_grid_by_task_has_tasks_down():
    grid = grid_by_task(ROWS, {"ruler_vt": "string_match_all", "ruler_cwe": "string_match_all"}, 2048)
    assert (grid.row_labels, grid.column_labels) == (["ruler_vt", "ruler_cwe"], ["none"])
    assert grid.values.tolist() == [[0.4], [0.1]]


def needle(depth: float, length: int, score: float, **more: object) -> dict:
    return {"method": "a", "length": length, "depth": depth, "scores": {"accuracy": score}, "error": None, **more}


def test_a_depth_map_averages_the_trials_of_a_depth():
    records = [needle(0.0, 8, 1), needle(0.0, 8, 0), needle(1.0, 8, 1), needle(1.0, 4, 0)]
    records.append(needle(0.0, 4, 1, error="out of memory"))  # no zero, no one
    (one,) = depth_maps(records, "accuracy")
    assert (one.grid.row_labels, one.grid.column_labels) == (["0", "100"], ["4", "8"])
    assert np.array_equal(one.grid.values, [[np.nan, 0.5], [0.0, 1.0]], equal_nan=True)
    assert depth_rows([one])[1] == {"method": "a", "depth": "100", "4": 0.0, "8": 1.0}


def test_many_depths_are_put_together_into_bands_of_all_of_them():
    records = [needle(place / 29, 8, place < 3) for place in range(30)]
    (one,) = depth_maps(records, "accuracy")
    assert one.grid.values[:, 0].tolist() == [1.0] + [0.0] * 9
    assert one.grid.row_labels[0] == "0-7" and one.grid.row_labels[-1] == "93-100"


@pytest.mark.parametrize("depths", [[], [0.5, 0.5]])
def test_there_is_no_depth_map_of_fewer_than_two_depths(depths):
    assert depth_maps([needle(depth, 8, 1) for depth in depths], "accuracy") == []


def document(name: str, nats: float | None, **more: object) -> dict:
    return {"method": "a", "length": 8, "document": name, "nats": nats, "tokens": 4, **more}


def test_loss_boxes_hold_the_losses_of_whole_documents_only():
    positions = document("x", 0, kind="positions")
    records = [document("x", 8.0), document("y", 2.0), document("z", None, error="not finite"), positions]
    (box,) = loss_boxes(records, 8)
    assert box.values.tolist() == [2.0, 0.5]
    assert box_rows([box])[1] == {"method": "a", "document": "y", "nats_per_token": 0.5}
    assert loss_boxes(records, 16) == []


def test_the_loss_by_position_weighs_tokens_and_has_holes_where_nothing_was_scored():
    place = {"method": "a", "length": 8, "kind": "positions", "edges": [0, 2, 4, 8], "error": None}
    records = [
        place | {"document": "x", "nats": [4.0, 3.0, 0.0], "tokens": [2, 1, 0]},
        place | {"document": "y", "nats": [2.0, 5.0, 0.0], "tokens": [2, 3, 0]},
    ]
    (one,) = position_curves(records, 8, seed=0)
    assert one.losses[:2] == pytest.approx([6 / 4, 8 / 4])
    assert np.isnan(one.losses[2])
    assert one.lows[0] == pytest.approx(1) and one.highs[0] == pytest.approx(2)  # all of one document, all of the other
    assert position_rows([one])[1]["from"] == 2
