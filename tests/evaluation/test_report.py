import numpy as np
import pytest

from longrope.evaluation.report import figures
from longrope.evaluation.report.numbers import SearchCurve, curves, lambda_profiles
from longrope.evaluation.report.table import render_table, render_tables
from longrope.evaluation.results import ResultRow
from longrope.rope import RopeGeometry
from longrope.rope.methods import Linear, YaRN

ROWS = [
    ResultRow("none", "perplexity", "token_weighted", 2048, 58.8, 50.0, 70.0, 20),
    ResultRow("none", "perplexity", "token_weighted", 256, 8.0, 7.5, 8.5, 20),
    ResultRow("yarn", "perplexity", "token_weighted", 2048, 8.27, None, None, 1),
    ResultRow("none", "passkey", "accuracy", 2048, 0.0, 0.0, 0.16, 20),
    ResultRow("yarn", "passkey", "accuracy", 2048, 0.2, 0.08, 0.42, 20),
]
GEOMETRY = RopeGeometry(64, 10000.0, 256)


def test_curves_hold_each_method_sorted_by_length():
    none, yarn = curves(ROWS, "perplexity", "token_weighted")
    assert (none.method, yarn.method) == ("none", "yarn")
    assert none.lengths.tolist() == [256, 2048]
    assert none.values.tolist() == [8.0, 58.8]
    assert (none.lows.tolist(), none.highs.tolist()) == ([7.5, 50.0], [8.5, 70.0])
    assert (yarn.lows.tolist(), yarn.highs.tolist()) == ([8.27], [8.27])  # no interval: the value itself


def test_lambda_profiles_mark_the_pairs_that_training_never_saw_whole():
    factors = {"linear": Linear(8.0).factors(GEOMETRY), "yarn": YaRN(8.0).factors(GEOMETRY)}
    numbers = lambda_profiles(factors, GEOMETRY)
    assert numbers.profiles[0].lambdas.tolist() == [8.0] * 32
    critical = numbers.critical_pair
    assert numbers.wavelengths[critical - 1] <= 256 < numbers.wavelengths[critical]


def test_the_table_has_methods_down_and_lengths_across():
    assert render_table(ROWS, "perplexity", "token_weighted") == (
        "| perplexity (token_weighted) |  256 |  2048 |\n"
        "| --------------------------- | ---: | ----: |\n"
        "| none                        | 8.00 | 58.80 |\n"
        "| yarn                        |    - |  8.27 |\n"
    )


def test_accuracies_are_shown_in_percent_and_every_metric_has_its_table():
    text = render_tables(ROWS)
    assert "| yarn               | 20 % |" in text
    assert text.count("| none ") == 2


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: figures.draw_perplexity(curves(ROWS, "perplexity", "token_weighted"), 256, path),
        lambda path: figures.draw_accuracy(curves(ROWS, "passkey", "accuracy"), 256, path),
        lambda path: figures.draw_lambdas(lambda_profiles({"yarn": YaRN(8.0).factors(GEOMETRY)}, GEOMETRY), path),
        lambda path: figures.draw_search(SearchCurve(np.array([1e5, 2e6]), np.array([2.2, 2.1]), np.ones(2) * 3), path),
    ],
    ids=["perplexity", "accuracy", "lambdas", "search"],
)
def test_figures_are_drawn_without_a_display(tmp_path, draw, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    draw(tmp_path / "plots" / "figure.png")
    assert (tmp_path / "plots" / "figure.png").read_bytes().startswith(b"\x89PNG")
