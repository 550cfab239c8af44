"""Curves, profiles and boxes as PNG and SVG; each function draws the numbers it is given and nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from .canvas import (
    COLORS,
    chart,
    figure,
    leading_digits,
    legend_below,
    length_axis,
    log_axis,
    mark_trained,
    plain,
    plain_axes,
    short_count,
    styles,
)
from .metrics import lower_is_better, metric_label
from .numbers import Box, Curve, LambdaProfiles, PositionCurve, SearchCurve
from .relations import Sensitivity, Trend

MAX_WAVELENGTH_TICKS = 6
VARIANTS: dict[str, Any] = {"color": COLORS[5], "markersize": 4, "alpha": 0.7, "label": "one variant"}
AVERAGE = "mean, or smooth fit"


def draw_perplexity(
    curves: Sequence[Curve], original_length: int | None, path: Path, title: str = "Perplexity by context length"
) -> None:
    """Draw perplexity against context length with 95 % intervals."""
    with chart(path, title) as axes:
        _draw_curves(axes, curves, original_length)
        log_axis(axes)
        axes.set_ylabel("perplexity, lower is better")


def draw_accuracy(
    curves: Sequence[Curve],
    original_length: int | None,
    path: Path,
    title: str = "Pass key retrieval by context length",
) -> None:
    """Draw a share, e.g. of right answers, against context length with 95 % intervals."""
    with chart(path, title) as axes:
        _draw_curves(axes, curves, original_length)
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel("score, higher is better")


def draw_lambdas(numbers: LambdaProfiles, path: Path) -> None:
    """Draw the rescale factors of each method by dimension pair and wavelength, with the trained length marked."""
    with chart(path, "Rescale factors by method", 4.3) as axes:
        for profile, (color, _) in zip(numbers.profiles, styles(), strict=False):
            axes.step(np.arange(len(profile.lambdas)), profile.lambdas, where="mid", color=color, label=profile.method)
        boundary = numbers.critical_pair - 0.5
        label = f"period > {short_count(numbers.original_length)}"
        axes.axvspan(boundary, len(numbers.wavelengths) - 0.5, color="#eeeeee", zorder=0, label=label)
        axes.set_xlim(-0.5, len(numbers.wavelengths) - 0.5)
        log_axis(axes)
        axes.set_xlabel("dimension pair i (high to low frequency)")
        axes.set_ylabel("rescale factor λ")
        waves = axes.secondary_xaxis("top")
        pairs = np.unique(np.linspace(0, len(numbers.wavelengths) - 1, MAX_WAVELENGTH_TICKS).round().astype(int))
        waves.xaxis.set_major_locator(FixedLocator(pairs.tolist()))
        waves.xaxis.set_minor_locator(NullLocator())
        waves.set_xticklabels([short_count(round(float(numbers.wavelengths[pair]))) for pair in pairs])
        waves.set_xlabel("wavelength, tokens", fontsize=9)
        waves.tick_params(labelsize=9)


def draw_search(curve: SearchCurve, path: Path) -> None:
    """Draw the incumbent's perplexity against that of the best seed, by the tokens scored."""
    with chart(path, "Search: perplexity of the incumbent, same windows") as axes:
        axes.step(curve.scored_tokens, np.expm1(curve.gain), where="post", color=COLORS[1], label="incumbent")
        axes.axhline(0, color="grey", linestyle=":", linewidth=1, label="best seed")
        axes.xaxis.set_major_formatter(FuncFormatter(short_count))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("tokens scored")
        axes.set_ylabel("perplexity against the best seed")


def draw_boxes(boxes: Sequence[Box], path: Path, title: str, metric: str | None = None) -> None:
    """Draw the values of each method: box of the quartiles, whiskers of 1.5 boxes, every item.

    Args:
        boxes: the methods.
        path: PNG and SVG to write.
        title: of the picture.
        metric: of the values; None: losses in nats per token.
    """
    with chart(path, title, 1.4 + 0.42 * len(boxes)) as axes:
        places = np.arange(len(boxes))
        axes.boxplot(
            [box.values for box in boxes],
            positions=places.tolist(),
            orientation="horizontal",
            widths=0.6,
            showfliers=False,
            medianprops={"color": "black"},
        )
        for place, box, (color, _) in zip(places, boxes, styles(), strict=False):
            axes.plot(box.values, np.full(len(box.values), place), "o", color=color, markersize=4, alpha=0.6)
        axes.set_yticks(places, [box.method for box in boxes])
        axes.invert_yaxis()
        lowest = metric is None or lower_is_better(metric)
        if metric is not None and lowest:
            log_axis(axes, "x")
        elif metric is not None:
            axes.set_xlim(-0.03, 1.03)
            axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        label = "nats per token" if metric is None else metric_label(metric)
        axes.set_xlabel(f"{label}, {'lower' if lowest else 'higher'} is better")


def draw_positions(curves: Sequence[PositionCurve], original_length: int | None, path: Path, title: str) -> None:
    """Draw the loss by position in the context with 95 % intervals."""
    with chart(path, title) as axes:
        for one, (color, _) in zip(curves, styles(), strict=False):
            centers = np.sqrt(np.maximum(one.edges[:-1], 1) * one.edges[1:])
            axes.plot(centers, one.losses, color=color, linewidth=1.2, label=one.method)
            axes.fill_between(centers, one.lows, one.highs, color=color, alpha=0.12, linewidth=0)
        if original_length is not None:
            mark_trained(axes, original_length)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(short_count))
        axes.set_xlabel("position in the context, tokens")
        axes.set_ylabel("nats per token")


def draw_sensitivities(found: Sequence[Sensitivity], path: Path) -> None:
    """Draw each variant of a method by the value of each of its parameters, and the mean of each value or a fit."""
    columns = min(2, len(found))
    lines = -(-len(found) // columns)
    title = f"{found[0].family} at {found[0].length} tokens"
    with figure(path, 1.2 + 2.5 * lines, title) as drawn:
        grid = drawn.subplots(lines, columns, sharey=True, squeeze=False)
        for axes, one in zip(grid.flat, found, strict=False):
            plain_axes(axes)
            _draw_levels(axes, one.levels, one.values, one.means) if one.trend is None else _draw_trend(axes, one.trend)
            share = "" if one.share is None else f": {one.share:.0%} of variance"
            axes.set_title(f"{one.parameter}{share}")
            if lower_is_better(one.metric):
                log_axis(axes)
            else:
                axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        for axes in list(grid.flat)[len(found) :]:
            axes.set_visible(False)
        drawn.supylabel(metric_label(found[0].metric), fontsize=10)
        legend_below(drawn, grid.flat[0])


def _draw_levels(axes: Axes, levels: Sequence[str], values: Sequence[float], means: Mapping[str, float]) -> None:
    names = list(means)
    axes.plot([names.index(level) for level in levels], values, "o", **VARIANTS)
    axes.plot(range(len(names)), list(means.values()), "-D", color=COLORS[1], markersize=5, label=AVERAGE)
    axes.set_xticks(range(len(names)), names, rotation=30 if max(map(len, names)) > 4 else 0)


def _draw_trend(axes: Axes, trend: Trend) -> None:
    axes.plot(trend.numbers, trend.reached, "o", **VARIANTS)
    axes.plot(trend.grid, trend.curve, "-", color=COLORS[1], label=AVERAGE)
    if trend.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        axes.xaxis.set_minor_formatter(FuncFormatter(leading_digits))


def _draw_curves(axes: Axes, curves: Sequence[Curve], original_length: int | None) -> None:
    for curve, (color, marker) in zip(curves, styles(), strict=False):
        axes.plot(curve.lengths, curve.values, color=color, marker=marker, markersize=5, label=curve.method)
        axes.fill_between(curve.lengths, curve.lows, curve.highs, color=color, alpha=0.12, linewidth=0)
    length_axis(axes, [length for curve in curves for length in curve.lengths], original_length)
