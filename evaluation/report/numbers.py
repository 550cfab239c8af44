"""The numbers of each figure, before anything is drawn: plain arrays that a test or a CSV can hold."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...rope import RescaleFactors, RopeGeometry
from ..comparison.results import ResultRow
from ..scoring.estimates import token_weighted_perplexity
from .metrics import lower_is_better

Array = NDArray[np.float64]
Rows = list[dict[str, Any]]
"""What a CSV holds: one dict per line, with the same keys."""
MAX_DEPTHS = 10
"""Rows of a depth map; finer depths are averaged."""


class Curve(NamedTuple):
    """One metric of one method against the context length."""

    method: str
    lengths: Array
    """Tokens."""
    values: Array
    lows: Array
    """Lower ends of the intervals; the value itself where there is no interval."""
    highs: Array


class LambdaProfile(NamedTuple):
    """Rescale factors of one method by pair, shape (P,); the mean over layers if they differ."""

    method: str
    lambdas: Array


class LambdaProfiles(NamedTuple):
    """Profiles of several methods over the wavelengths of one model."""

    profiles: list[LambdaProfile]
    wavelengths: Array
    """Pre-trained period of each pair, tokens, shape (P,)."""
    original_length: int
    critical_pair: int
    """First pair whose period is longer than the original length: never seen whole in training."""

    def rows(self) -> Rows:
        """Return one line per pair."""
        return [
            {"pair": pair, "wavelength_tokens": wavelength} | {p.method: p.lambdas[pair] for p in self.profiles}
            for pair, wavelength in enumerate(self.wavelengths.tolist())
        ]


class SearchCurve(NamedTuple):
    """Progress of a search, one entry per incumbent, all on the same windows."""

    scored_tokens: Array
    """Tokens scored so far."""
    gain: Array
    """Loss of the incumbent minus the best seed's, nats per token."""

    def rows(self) -> Rows:
        """Return one line per incumbent."""
        return [dict(zip(self._fields, map(float, point), strict=True)) for point in zip(*self, strict=True)]


class Grid(NamedTuple):
    """Values over two labelled axes; NaN where there is none."""

    row_labels: list[str]
    column_labels: list[str]
    values: Array
    """Shape (rows, columns)."""

    def rows(self) -> Rows:
        """Return one line per row of the grid."""
        return [
            {"": label} | dict(zip(self.column_labels, map(float, line), strict=True))
            for label, line in zip(self.row_labels, self.values, strict=True)
        ]


class DepthMap(NamedTuple):
    """Scores of one method by depth of the needle and length of the context."""

    method: str
    grid: Grid


class Box(NamedTuple):
    """Values of one method, one per item: losses of documents in nats per token, or what its configurations reach."""

    method: str
    items: list[str]
    values: Array


class PositionCurve(NamedTuple):
    """Loss of one method by position in the context, averaged over documents."""

    method: str
    edges: Array
    """Ends of the bins in tokens, shape (bins + 1,)."""
    losses: Array
    """Nats per token, shape (bins,)."""
    lows: Array
    """Ends of the 95 % intervals over documents; the loss itself where there is no interval."""
    highs: Array


def curves(rows: Sequence[ResultRow], task: str, metric: str) -> list[Curve]:
    """Return one curve per method, in the order of the rows."""
    chosen = [row for row in rows if (row.task, row.metric) == (task, metric)]
    return [_curve(name, [r for r in chosen if r.method == name]) for name in dict.fromkeys(r.method for r in chosen)]


def curve_rows(curves: Sequence[Curve]) -> Rows:
    """Return one line per method and length."""
    return [
        {"method": one.method, "length": int(length), "value": value, "low": low, "high": high}
        for one in curves
        for length, value, low, high in zip(
            one.lengths.tolist(), one.values.tolist(), one.lows.tolist(), one.highs.tolist(), strict=True
        )
    ]


def lambda_profiles(factors: Mapping[str, RescaleFactors], geometry: RopeGeometry) -> LambdaProfiles:
    """Return the rescale factors of several methods for one model."""
    profiles = [
        LambdaProfile(name, np.atleast_2d(one.lambdas).mean(axis=0).astype(np.float64)) for name, one in factors.items()
    ]
    return LambdaProfiles(profiles, geometry.wavelengths, geometry.original_length, geometry.critical_dimension)


def grid_by_length(rows: Sequence[ResultRow], task: str, metric: str) -> Grid:
    """Return the values of one metric, methods down and lengths across."""
    return _grid([(row.method, row.length, row.value) for row in rows if (row.task, row.metric) == (task, metric)])


def grid_by_task(rows: Sequence[ResultRow], metrics: Mapping[str, str], length: int) -> Grid:
    """Return the values of several tasks at one length, tasks down and methods across."""
    chosen = [row for row in rows if row.length == length and metrics.get(row.task) == row.metric]
    methods = list(dict.fromkeys(row.method for row in chosen))
    return _grid([(row.task, row.method, row.value) for row in chosen], methods, list(metrics))


def depth_maps(records: Sequence[dict[str, Any]], metric: str) -> list[DepthMap]:
    """Return the mean score by depth (down, in per cent) and length (across) of each method.

    Empty if the records have no depth, or only one. Many depths are put together into `MAX_DEPTHS` bands.
    """
    chosen = [r for r in records if "depth" in r and r.get("error") is None and metric in r.get("scores", {})]
    depths = sorted({float(record["depth"]) for record in chosen})
    if len(depths) < 2:
        return []
    bands = np.array_split(np.array(depths), min(len(depths), MAX_DEPTHS))
    names = {float(depth): _band(band) for band in bands for depth in band}
    lengths = sorted({record["length"] for record in chosen})
    maps = []
    for method in dict.fromkeys(record["method"] for record in chosen):
        scores: dict[tuple[str, int], list[float]] = {}
        for record in chosen:
            if record["method"] == method:
                place = (names[float(record["depth"])], record["length"])
                scores.setdefault(place, []).append(float(record["scores"][metric]))
        cells = [(band, length, float(np.mean(values))) for (band, length), values in scores.items()]
        maps.append(DepthMap(method, _grid(cells, lengths, list(dict.fromkeys(names.values())))))
    return maps


def depth_rows(maps: Sequence[DepthMap]) -> Rows:
    """Return one line per method and depth."""
    return [
        {"method": one.method, **{k or "depth": v for k, v in row.items()}} for one in maps for row in one.grid.rows()
    ]


def loss_boxes(records: Sequence[dict[str, Any]], length: int) -> list[Box]:
    """Return the losses of the documents of each method at one length."""
    chosen = [r for r in records if r["length"] == length and r.get("kind") is None and r.get("nats") is not None]
    chosen = [record for record in chosen if record["tokens"]]
    boxes = []
    for method in dict.fromkeys(record["method"] for record in chosen):
        own = [record for record in chosen if record["method"] == method]
        losses = np.array([record["nats"] / record["tokens"] for record in own])
        boxes.append(Box(method, [record["document"] for record in own], losses))
    return boxes


def box_rows(boxes: Sequence[Box], item: str = "document", value: str = "nats_per_token") -> Rows:
    """Return one line per method and item, with the names that items and values have."""
    return [
        {"method": box.method, item: name, value: number}
        for box in boxes
        for name, number in zip(box.items, box.values.tolist(), strict=True)
    ]


def position_curves(records: Sequence[dict[str, Any]], length: int, seed: int) -> list[PositionCurve]:
    """Return the loss by position of each method, from its records of the kind `positions` at one length."""
    chosen = [r for r in records if r["length"] == length and r.get("kind") == "positions" and r.get("error") is None]
    found = []
    for method in dict.fromkeys(record["method"] for record in chosen):
        own = [record for record in chosen if record["method"] == method]
        own = [record for record in own if record["edges"] == own[0]["edges"]]
        nats = np.array([record["nats"] for record in own], float)
        tokens = np.array([record["tokens"] for record in own], float)
        seen = tokens.sum(axis=0) > 0
        bins = [
            token_weighted_perplexity(nats[:, b].tolist(), tokens[:, b].tolist(), seed) for b in np.flatnonzero(seen)
        ]
        losses, lows, highs = (np.full(len(seen), np.nan) for _ in range(3))
        losses[seen] = [np.log(one.value) for one in bins]
        lows[seen] = [np.log(one.value if one.low is None else one.low) for one in bins]
        highs[seen] = [np.log(one.value if one.high is None else one.high) for one in bins]
        found.append(PositionCurve(method, np.array(own[0]["edges"], float), losses, lows, highs))
    return found


def position_rows(curves: Sequence[PositionCurve]) -> Rows:
    """Return one line per method and bin."""
    return [
        {"method": one.method, "from": start, "to": end, "nats_per_token": loss, "low": low, "high": high}
        for one in curves
        for start, end, loss, low, high in zip(
            one.edges[:-1], one.edges[1:], one.losses, one.lows, one.highs, strict=True
        )
    ]


def comparable(metric: str, value: float) -> float:
    """Return the value on the scale on which differences mean the same everywhere: nats for perplexities."""
    return float(np.log(value)) if lower_is_better(metric) else value


def measured(metric: str, value: float) -> float:
    """Return the value whose `comparable` it is."""
    return float(np.exp(value)) if lower_is_better(metric) else value


def _curve(method: str, rows: list[ResultRow]) -> Curve:
    rows = sorted(rows, key=lambda row: row.length)
    columns = [
        [float(row.length) for row in rows],
        [row.value for row in rows],
        [row.value if row.low is None else row.low for row in rows],
        [row.value if row.high is None else row.high for row in rows],
    ]
    return Curve(method, *(np.array(column) for column in columns))


def _grid(
    cells: Sequence[tuple[str, Any, float]], columns: Sequence[Any] | None = None, lines: Sequence[str] | None = None
) -> Grid:
    """Return the grid of (row, column, value); columns are sorted and rows in order unless they are given."""
    columns = sorted({cell[1] for cell in cells}) if columns is None else columns
    lines = list(dict.fromkeys(cell[0] for cell in cells)) if lines is None else lines
    values = np.full((len(lines), len(columns)), np.nan)
    for line, column, value in cells:
        values[lines.index(line), columns.index(column)] = value
    return Grid(list(lines), [str(column) for column in columns], values)


def _band(depths: Array) -> str:
    low, high = round(100 * float(depths[0])), round(100 * float(depths[-1]))
    return f"{low}" if low == high else f"{low}-{high}"
