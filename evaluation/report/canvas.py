"""The look of all figures: one narrow page that is readable on a phone, colours for the colour-blind, PNG and SVG."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

MARKERS = "osD^vPX"  # one fewer than colours, so that a pair comes again only after 56 methods
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#B0A000")  # colour-blind safe
COLOR_MAP = "cividis"
"""Perceptually even, and alike for all kinds of colour vision."""
WIDTH = 5.6
"""Inches: 10 pt letters are then readable on the 360 points of a phone."""
DOTS_PER_INCH = 200
LOGARITHMIC_FROM = 4
"""Highest over lowest value from which an axis is logarithmic; below it would have too few labels."""
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "svg.hashsalt": "longrope",
    "axes.titlelocation": "left",
}


@contextmanager
def figure(path: Path, height: float, title: str) -> Iterator[Figure]:
    """Open a figure with its title and save it as PNG and SVG, whatever the suffix of the path."""
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(drawn)
        drawn.suptitle(title, x=0.01, ha="left", fontsize=11)
        yield drawn
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path.with_suffix(".png"), dpi=DOTS_PER_INCH)
        drawn.savefig(path.with_suffix(".svg"), metadata={"Date": None})


@contextmanager
def chart(path: Path, title: str, height: float = 3.9) -> Iterator[Axes]:
    """Open a figure of one pair of axes, with its legend below."""
    with figure(path, height, title) as drawn:
        axes = drawn.add_subplot()
        plain_axes(axes)
        yield axes
        legend_below(drawn, axes)


def plain_axes(axes: Axes) -> None:
    """Draw a faint grid behind everything, and no frame."""
    axes.grid(True, color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(drawn: Figure, axes: Axes) -> None:
    """Put the legend below the axes, in as many columns as its longest label allows."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        longest = max(map(len, labels))
        columns = 3 if longest <= 20 else 2 if longest <= 32 else 1
        drawn.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def styles() -> Iterator[tuple[str, str]]:
    """Yield colour and marker of one method after another, the same in every figure that has the same methods."""
    return zip(cycle(COLORS), cycle(MARKERS), strict=False)


def length_axis(axes: Axes, lengths: Sequence[float], original_length: int | None) -> None:
    """Make x the context length, doubling from tick to tick, with the trained length marked."""
    if original_length is not None:
        mark_trained(axes, original_length)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(lengths))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(short_count))
    axes.set_xlabel("context length, tokens")


def mark_trained(axes: Axes, original_length: int) -> None:
    """Mark the trained length on an axis of tokens."""
    label = f"trained length {short_count(original_length)}"
    axes.axvline(original_length, color="grey", linestyle=":", linewidth=1, label=label)


def log_axis(axes: Axes, name: Literal["x", "y"] = "y") -> None:
    """Make an axis logarithmic, with plain numbers, if what is drawn spans a few doublings; else it stays linear."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    if low > 0 and high < LOGARITHMIC_FROM * low:
        return
    axes.set(**{f"{name}scale": "log"})
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(FuncFormatter(leading_digits))


def plain(value: float, position: int | None = None) -> str:
    """Write a number without exponent."""
    return f"{value:g}"


def leading_digits(value: float, position: int | None = None) -> str:
    """Label 2 and 5 of each decade only, so that short logarithmic axes are readable and long ones not crowded."""
    return plain(value) if f"{value:e}"[0] in "25" else ""


def short_count(value: float, position: int | None = None) -> str:
    """Write a count of tokens, from ten thousand on in thousands or millions."""
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    return f"{value / 1e3:.3g} k" if value >= 1e4 else f"{value:g}"
