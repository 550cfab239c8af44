"""Heat maps as PNG and SVG: methods x lengths, methods x tasks, depth x length, and correlations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter

from .canvas import COLOR_MAP, figure
from .metrics import format_value, lower_is_better
from .numbers import Array, DepthMap, Grid

DARK_BELOW = 0.55
"""Letters are white on cells of less luminance than this."""
MAX_MAP_COLUMNS = 2
LEAST_SPAN = 2
"""Darkest over lightest perplexity, at least: smaller differences should look small."""


def draw_grid(grid: Grid, metric: str, path: Path, title: str, x_label: str) -> None:
    """Draw values with their numbers; light is good, dark is bad."""
    with figure(path, 1.5 + 0.36 * len(grid.row_labels), title) as drawn:
        axes = drawn.add_subplot()
        lowest = lower_is_better(metric)
        finite = grid.values[np.isfinite(grid.values)]
        norm = LogNorm(finite.min(), max(finite.max(), LEAST_SPAN * finite.min())) if lowest else Normalize(0, 1)
        image = _cells(axes, grid, grid.values, COLOR_MAP + "_r" * lowest, norm)
        _write(axes, image, grid, [[_short(metric, value) for value in line] for line in grid.values.tolist()])
        axes.set_xlabel(x_label)


def draw_depth_maps(maps: Sequence[DepthMap], path: Path, title: str) -> None:
    """Draw one map per method: depth of the needle down, context length across; light is found, dark is lost."""
    columns = min(MAX_MAP_COLUMNS, len(maps))
    lines = -(-len(maps) // columns)
    height = 0.75 + 0.17 * len(maps[0].grid.row_labels)
    with figure(path, 0.8 + height * lines, title) as drawn:
        panels = drawn.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        norm = Normalize(0, 1)
        for axes, one in zip(panels.flat, maps, strict=False):
            _cells(axes, one.grid, one.grid.values, COLOR_MAP, norm)
            axes.set_title(one.method)
            axes.tick_params(labelsize=8)
        for axes in list(panels.flat)[len(maps) :]:
            axes.set_visible(False)
        drawn.supxlabel("context length, tokens", fontsize=10)
        drawn.supylabel("depth of the needle, %", fontsize=10)
        drawn.colorbar(ScalarMappable(norm, COLOR_MAP), ax=panels, format=PercentFormatter(1.0), shrink=0.8, pad=0.02)


def draw_correlations(grid: Grid, path: Path) -> None:
    """Draw correlations with their numbers, red for opposite, blue for alike."""
    with figure(path, 1.6 + 0.5 * len(grid.row_labels), "Rank correlation of metrics (Spearman)") as drawn:
        axes = drawn.add_subplot()
        image = _cells(axes, grid, grid.values, "RdBu", Normalize(-1, 1))
        _write(axes, image, grid, [["" if np.isnan(v) else f"{v:.2f}" for v in line] for line in grid.values.tolist()])


def _cells(axes: Axes, grid: Grid, values: Array, color_map: str, norm: Normalize) -> AxesImage:
    image = axes.imshow(values, cmap=color_map, norm=norm, aspect="auto", interpolation="nearest")
    slanted = sum(map(len, grid.column_labels)) > 40
    axes.set_xticks(
        range(len(grid.column_labels)),
        grid.column_labels,
        rotation=35 if slanted else 0,
        ha="right" if slanted else "center",
    )
    axes.set_yticks(range(len(grid.row_labels)), grid.row_labels)
    axes.set_facecolor("white")  # cells without a value
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(0.5, len(grid.column_labels) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(grid.row_labels) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    return image


def _write(axes: Axes, image: AxesImage, grid: Grid, texts: Sequence[Sequence[str]]) -> None:
    small = len(grid.column_labels) > 7 or max(len(text) for line in texts for text in line) > 6
    for line, column in np.argwhere(np.isfinite(grid.values)).tolist():
        red, green, blue, _ = image.to_rgba(grid.values[line, column])  # type: ignore[misc]
        dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < DARK_BELOW
        text = texts[line][column]
        axes.text(
            column, line, text, ha="center", va="center", color="white" if dark else "black", fontsize=8 if small else 9
        )


def _short(metric: str, value: float) -> str:
    return "" if np.isnan(value) else format_value(metric, value).removesuffix(" %")
