from pathlib import Path

import numpy as np
import pytest

from longrope.evaluation.comparison.results import ResultRow
from longrope.evaluation.report import figures, maps
from longrope.evaluation.report.numbers import (
    Box,
    DepthMap,
    Grid,
    PositionCurve,
    SearchCurve,
    curves,
    lambda_profiles,
)
from longrope.evaluation.report.relations import Sensitivity, Trend
from longrope.rope import RopeGeometry
from longrope.rope.methods import YaRN

ROWS = [
    ResultRow("none", "perplexity", "token_weighted", 2048, 58.8, 50.0, 70.0, 20),
    ResultRow("none", "perplexity", "token_weighted", 256, 8.0, 7.5, 8.5, 20),
    ResultRow("yarn", "perplexity", "token_weighted", 2048, 8.27, None, None, 1),
    ResultRow("none", "passkey", "accuracy", 2048, 0.0, 0.0, 0.16, 20),
    ResultRow("yarn", "passkey", "accuracy", 2048, 0.2, 0.08, 0.42, 20),
]
GEOMETRY = RopeGeometry(64, 10000.0, 256)
GRID = Grid(["a", "b"], ["256", "512"], np.array([[0.0, 1.0], [np.nan, 0.5]]))
PERPLEXITIES = Grid(["a", "b"], ["256", "512"], np.array([[7.0, 7.0], [np.nan, 7.0]]))  # nothing to scale
POSITIONS = PositionCurve("a", np.array([0.0, 8, 16]), np.array([1.0, np.nan]), np.array([0.9, np.nan]), np.ones(2))
SENSITIVITY = Sensitivity("yarn", "beta", "passkey", "accuracy", 8, ["1", "2", "2"], [0.1, 0.2, 0.3], None)
TREND = Trend(np.array([1.0, 90.0]), np.array([0.1, 0.3]), np.geomspace(1, 90, 5), np.linspace(0.1, 0.3, 5), True)
LOSSES = Box("a", ["x", "y"], np.array([1.0, 2.0]))


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: figures.draw_perplexity(curves(ROWS, "perplexity", "token_weighted"), 256, path),
        lambda path: figures.draw_perplexity(curves(ROWS, "perplexity", "token_weighted"), None, path),
        lambda path: figures.draw_accuracy(curves(ROWS, "passkey", "accuracy"), 256, path),
        lambda path: figures.draw_lambdas(lambda_profiles({"yarn": YaRN(8.0).factors(GEOMETRY)}, GEOMETRY), path),
        lambda path: figures.draw_search(SearchCurve(np.array([1e5, 2e6]), np.array([2.2, 2.1])), path),
        lambda path: figures.draw_boxes([LOSSES], path, "Losses"),
        lambda path: figures.draw_positions([POSITIONS], 8, path, "Loss by position"),
        lambda path: figures.draw_sensitivities([SENSITIVITY] * 3, path),
        lambda path: figures.draw_sensitivities([SENSITIVITY, SENSITIVITY._replace(trend=TREND)], path),
        lambda path: maps.draw_grid(GRID, "accuracy", path, "Shares", "tokens"),
        lambda path: maps.draw_grid(PERPLEXITIES, "token_weighted", path, "Perplexities", "tokens"),
        lambda path: maps.draw_depth_maps([DepthMap(name, GRID) for name in "abc"], path, "Depths"),
        lambda path: maps.draw_correlations(GRID, path),
    ],
    ids=[
        *("perplexity", "unknown trained length", "accuracy", "lambdas", "search", "boxes", "positions"),
        *("sensitivities", "trends", "shares", "equal perplexities", "depths", "correlations"),
    ],
)
def test_figures_are_drawn_as_png_and_svg_without_a_display(tmp_path: Path, draw, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    draw(tmp_path / "plots" / "figure.png")
    assert (tmp_path / "plots" / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "plots" / "figure.svg").read_text()


def test_the_same_numbers_give_the_same_files(tmp_path: Path):
    for name in ("one", "other"):
        maps.draw_grid(GRID, "accuracy", tmp_path / f"{name}.png", "Shares", "tokens")
    for suffix in ("png", "svg"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"other.{suffix}").read_bytes()
