"""The pictures of the pages are those that docs/figures.py draws."""

import re
import runpy
from pathlib import Path

import numpy as np

from .pages import ROOT

FIGURES = ROOT / "docs" / "figures"
NUMBER = re.compile(r"-?\d+\.\d+")


def path_numbers(picture: Path) -> list[float]:
    """Return all coordinates of the paths of a picture."""
    text = picture.read_text(encoding="utf-8")
    return [float(number) for path in re.findall(r' d="([^"]*)"', text) for number in NUMBER.findall(path)]


def test_the_pictures_are_drawn_from_the_formulas(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "docs" / "figures.py"))["main"](tmp_path)
    kept = sorted(path.name for path in FIGURES.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    for name in kept:
        ours, drawn = path_numbers(FIGURES / name), path_numbers(tmp_path / name)
        assert len(ours) > 50
        np.testing.assert_allclose(drawn, ours, atol=0.1, err_msg=f"{name}: run python docs/figures.py")


def test_every_picture_is_on_the_page() -> None:
    page = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\(figures/([\w.-]+)\)", page)) == sorted(path.name for path in FIGURES.iterdir())
