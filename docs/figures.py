"""Draw the pictures of docs/theory.md from the package's own formulas: python docs/figures.py [FOLDER].

LLaMA2-7B extended 64 times, from 4,096 to 262,144 tokens, for which Microsoft published searched factors. The pictures
are committed, and a test draws them again.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import nn

from longrope.evaluation.report.canvas import chart, length_axis, log_axis, styles
from longrope.rope import METHODS, RescaleFactors, RopeGeometry, build_method, load_factors
from longrope.rope.embedding import ScaledRotaryEmbedding

GEOMETRY = RopeGeometry(rotary_dim=128, theta=10000.0, original_length=4096)
SCALE = 64.0
PUBLISHED = "published:llama2-7b-256k"
FORMULAS = ("linear", "ntk", "yarn", "llama3")


@contextmanager
def picture(folder: Path, name: str, title: str) -> Iterator[Axes]:
    """Open a picture that is kept as SVG alone, its words as text."""
    with mpl.rc_context({"svg.fonttype": "none"}), chart(folder / name, title) as axes:
        yield axes
    (folder / f"{name}.png").unlink()


def draw_rotations(folder: Path) -> None:
    """Draw how often each pair turns within the trained length, with the pair that no longer completes a turn."""
    with picture(folder, "rotations", "Turns of each dimension pair within 4,096 tokens") as axes:
        axes.plot(GEOMETRY.rotations, color=next(styles())[0])
        axes.axhline(1, color="grey", linestyle=":", label="one full turn")
        critical = GEOMETRY.critical_dimension
        axes.axvline(critical, color="grey", linestyle="--", label=f"critical pair, {critical}")
        log_axis(axes)
        axes.set_xlabel("dimension pair")
        axes.set_ylabel("turns")


def draw_factors(folder: Path) -> None:
    """Draw the rescale factors of each formula, and those that a search found."""
    with picture(folder, "factors", "Rescale factors for 64 times the trained length") as axes:
        found = [(name, build_method(name, SCALE).factors(GEOMETRY)) for name in FORMULAS]
        found.append(("longrope, searched", load_factors(PUBLISHED)))
        for (name, factors), (color, _) in zip(found, styles(), strict=False):
            axes.plot(factors.lambdas, label=name, color=color)
        log_axis(axes)
        axes.set_xlabel("dimension pair")
        axes.set_ylabel("rescale factor")


def draw_angles(folder: Path) -> None:
    """Draw how far the first pair that never completes a turn gets, with and without interpolation."""
    lengths = np.arange(0, 4 * GEOMETRY.original_length, 64)
    pair = GEOMETRY.critical_dimension
    with picture(folder, "angles", f"Angle of pair {pair}, for 4 times the trained length") as axes:
        for (name, factor), (color, _) in zip((("none", 1.0), ("linear", 4.0)), styles(), strict=False):
            axes.plot(lengths, _angles(METHODS[name](factor).factors(GEOMETRY), lengths, pair), label=name, color=color)
        axes.axvspan(0, GEOMETRY.original_length, color="#eeeeee", label="trained")
        axes.set_xlabel("position, tokens")
        axes.set_ylabel("angle, turns")


def draw_start_tokens(folder: Path) -> None:
    """Draw the angles at the beginning of a text, with start tokens and without."""
    positions = np.arange(48)
    yarn = build_method("yarn", 8.0).factors(GEOMETRY)
    pair = GEOMETRY.critical_dimension
    with picture(folder, "start-tokens", f"Angle of pair {pair} in the first 48 tokens") as axes:
        original = METHODS["none"]().factors(GEOMETRY)
        kept = replace(yarn, start_tokens=16)
        cases = (("original", original), ("rescaled", yarn), ("rescaled, 16 start tokens", kept))
        for ((name, factors), line), (color, _) in zip(
            zip(cases, ("-", "-", "o"), strict=True), styles(), strict=False
        ):
            axes.plot(positions, _angles(factors, positions, pair), line, label=name, color=color, markersize=4)
        axes.set_xlabel("position, tokens")
        axes.set_ylabel("angle, turns")


def draw_attention_factor(folder: Path) -> None:
    """Draw the two usual attention factors against the target length."""
    lengths = GEOMETRY.original_length * 2 ** np.arange(0, 10)
    with picture(folder, "attention-factor", "Attention factor by target length, trained at 4,096") as axes:
        for policy, (color, marker) in zip(("su", "yarn"), styles(), strict=False):
            methods = [build_method(f"linear:attention_factor={policy}", n / GEOMETRY.original_length) for n in lengths]
            axes.plot(lengths, [one.attention(GEOMETRY) for one in methods], f"{marker}-", label=policy, color=color)
        length_axis(axes, lengths[::2].tolist(), None)
        axes.set_xlabel("target length, tokens")
        axes.set_ylabel("attention factor")


def _angles(factors: RescaleFactors, positions: np.ndarray, pair: int) -> np.ndarray:
    """Return the angles of a pair, in turns, as a model with these factors has them."""
    rotary = ScaledRotaryEmbedding(nn.Identity(), GEOMETRY)
    rotary.set([factors])
    return rotary.angles(torch.tensor(positions)[None])[0, :, pair].numpy() / (2 * np.pi)


def main(folder: Path) -> None:
    """Draw all pictures."""
    for draw in (draw_rotations, draw_factors, draw_angles, draw_start_tokens, draw_attention_factor):
        draw(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures")
