"""Figures of a run as PNG; each function draws the numbers it is given and nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from .numbers import Curve, LambdaProfiles, SearchCurve

MARKERS = "osD^vPX*"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#B0A000")  # colour-blind safe


def draw_perplexity(curves: Sequence[Curve], original_length: int, path: Path) -> None:
    """Draw perplexity against context length with 95 % intervals, both axes logarithmic."""
    with _figure(path) as axes:
        _draw_curves(axes, curves, original_length)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.yaxis.set_minor_formatter(FuncFormatter(_leading_digits))
        axes.set_ylabel("perplexity, lower is better")
        axes.set_title("Perplexity by context length")


def draw_accuracy(curves: Sequence[Curve], original_length: int, path: Path) -> None:
    """Draw the share of right answers against context length with 95 % intervals."""
    with _figure(path) as axes:
        _draw_curves(axes, curves, original_length)
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel("pass keys found, higher is better")
        axes.set_title("Pass key retrieval by context length")


def draw_lambdas(numbers: LambdaProfiles, path: Path) -> None:
    """Draw the rescale factors of each method by dimension pair, with the pairs that training never saw whole."""
    with _figure(path) as axes:
        for profile, color in zip(numbers.profiles, cycle(COLORS), strict=False):
            pairs = np.arange(len(profile.lambdas))
            axes.step(pairs, profile.lambdas, where="mid", color=color, label=profile.method)
        boundary = numbers.critical_pair - 0.5
        axes.axvline(boundary, color="grey", linestyle=":", linewidth=1)
        axes.annotate(
            f"period > {numbers.original_length} tokens →",
            (boundary, 0.99),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color="grey",
        )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.yaxis.set_minor_formatter(FuncFormatter(_leading_digits))
        axes.set_xlabel("dimension pair i (high to low frequency)")
        axes.set_ylabel("rescale factor λ")
        axes.set_title("Rescale factors by method")


def draw_search(curve: SearchCurve, path: Path) -> None:
    """Draw how far a search moved the perplexity from that of its best seed, against the tokens it scored."""
    with _figure(path) as axes:
        axes.plot(curve.scored_tokens, np.expm1(curve.median_gain), color=COLORS[5], label="median of the generation")
        axes.plot(curve.scored_tokens, np.expm1(curve.best_gain), color=COLORS[1], label="best on its documents")
        axes.axhline(0, color="grey", linestyle=":", linewidth=1, label="best seed")
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("tokens scored")
        axes.set_ylabel("perplexity against the best seed, same documents")
        axes.set_title("Search")


@contextmanager
def _figure(path: Path) -> Iterator[Axes]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(True, color="#dddddd", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    yield axes
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _draw_curves(axes: Axes, curves: Sequence[Curve], original_length: int) -> None:
    for curve, color, marker in zip(curves, cycle(COLORS), cycle(MARKERS), strict=False):
        axes.plot(curve.lengths, curve.values, color=color, marker=marker, markersize=4, label=curve.method)
        axes.fill_between(curve.lengths, curve.lows, curve.highs, color=color, alpha=0.15, linewidth=0)
    axes.axvline(original_length, color="grey", linestyle=":", linewidth=1, label=f"trained length {original_length}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted({length for curve in curves for length in curve.lengths})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.set_xlabel("context length, tokens")


def _plain(value: float, position: int | None = None) -> str:
    return f"{value:g}"


def _leading_digits(value: float, position: int | None = None) -> str:
    """Label 2 and 5 of each decade only, so that short logarithmic axes are readable and long ones not crowded."""
    return _plain(value) if f"{value:e}"[0] in "25" else ""


def _thousands(value: float, position: int | None = None) -> str:
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} k"
