"""Sweeps over a method's own parameters: every point of a grid, or random samples of ranges, as method texts.

A searched factor set must be compared with each baseline at its best, not at a default; the points of a sweep go
through the same comparison as everything else.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ...rope import build_method
from ...rope.parsing import read_yaml
from .cells import CellEntry, method_key
from .results import ResultRow
from .statistics import SIGNIFICANCE, holm, paired_differences

DIGITS = 4
"""Significant digits of a parameter: a method's text holds exactly what was run."""
TRIES = 20
"""Draws per requested sample; a space with fewer points than that is exhausted."""


@dataclass(frozen=True)
class Parameter:
    """What values a parameter takes in a sweep.

    Raises:
        ValueError: there are no values, or the range is none.
    """

    values: tuple[float, ...]
    """Points of the grid; also of random samples, where there is no range."""
    low: float | None = None
    high: float | None = None
    scale: Literal["linear", "log"] = "linear"
    """How random samples are spread from `low` to `high`."""
    relative: bool = False
    """Whether numbers are multiples of the extension ratio, target length / original length."""

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values of a swept parameter must be at least one number, got none; write values: [1, 2]")
        if (self.low is None) != (self.high is None):
            raise ValueError(f"low and high must be given together, got {self.low} and {self.high}; add the other")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}; swap them")
        if self.scale == "log" and self.low is not None and self.low <= 0:
            raise ValueError(f"low must be above 0 on a log scale, got {self.low}; use scale: linear")

    def draw(self, rng: np.random.Generator) -> float:
        """Return a random value of the range, evenly spread on its scale."""
        if self.low is None or self.high is None:
            return float(rng.choice(self.values))
        if self.scale == "log":
            return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class Sweep:
    """A method and the parameters to vary."""

    method: str
    parameters: Mapping[str, Parameter]

    def grid(self, ratio: float) -> list[str]:
        """Return the method at its defaults, then at every combination of values that it accepts.

        Args:
            ratio: target length / original length.
        """
        return self._unlike(product(*(one.values for one in self.parameters.values())), ratio)

    def samples(self, ratio: float, count: int, seed: int) -> list[str]:
        """Return the method at its defaults, then at `count` different random points, fewer if there are no more."""
        rng = np.random.default_rng(seed)
        draws = (tuple(one.draw(rng) for one in self.parameters.values()) for _ in range(TRIES * count))
        return self._unlike(draws, ratio, count)

    def _unlike(self, points: Iterator[tuple[float, ...]], ratio: float, count: int | None = None) -> list[str]:
        specs = {method_key(build_method(self.method, ratio)): self.method}
        for point in points:
            spec = self._spec(point, ratio)
            try:
                specs.setdefault(method_key(build_method(spec, ratio)), spec)
            except ValueError:  # ends of a ramp that cross, or a ratio below 1
                continue
            if count is not None and len(specs) > count:
                break
        return list(specs.values())

    def _spec(self, point: Sequence[float], ratio: float) -> str:
        scaled = [
            value * ratio if one.relative else value for one, value in zip(self.parameters.values(), point, strict=True)
        ]
        numbers = zip(self.parameters, scaled, strict=True)
        return f"{self.method}:" + ",".join(f"{name}={value:.{DIGITS}g}" for name, value in numbers)


def read_sweep(path: str | Path) -> Sweep:
    """Read a sweep from YAML: `method` and, by name, the `parameters` as `Parameter` has them.

    Raises:
        ValueError: the file is no such YAML, or the method or a parameter is unknown.
    """
    try:
        content: Any = read_yaml(Path(path))
        method, parameters = content.pop("method"), content.pop("parameters")
        if content:
            raise TypeError(f"unknown {', '.join(content)}")
        fields = {name: {**one, "values": tuple(map(float, one["values"]))} for name, one in parameters.items()}
        sweep = Sweep(method, {name: Parameter(**one) for name, one in fields.items()})
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"a sweep must be a YAML file with method and parameters, got {path}: {reason}") from error
    text = ",".join(f"{name}={one.values[0]:.{DIGITS}g}" for name, one in sweep.parameters.items())
    try:
        build_method(f"{sweep.method}:{text}", 1.0)
    except ValueError as error:
        if str(error).startswith("unknown"):
            raise ValueError(f"a sweep must name a method and its parameters, got {path}: {error}") from error
    return sweep


class Point(NamedTuple):
    """One configuration of a sweep and how it did."""

    method: str
    """Name of the method without parameters."""
    spec: str
    """Text that `build_method` reads."""
    perplexity: float
    low: float | None
    high: float | None
    n: int
    """Documents."""
    rank: int
    """Place among the points of the same method, 1 the lowest perplexity; equal perplexities share a place."""
    p: float | None
    """Corrected p-value of the difference from the best of the same method; None for the best itself, or untestable."""
    tied: bool
    """Whether the documents do not prove it worse than the best of the same method."""


def rank_points(entries: Sequence[CellEntry], length: int, seed: int) -> list[Point]:
    """Return the finished points of a sweep by method, the lowest perplexity at a length first.

    Each point is compared with the best of its method on the same documents; p-values are corrected for the number of
    points, but the best was picked on these documents too, so its lead is real only on others.

    Args:
        entries: cells of the task `perplexity`.
        length: the length to rank at, in tokens.
        seed: of the resampling.
    """
    scored = [
        (entry, row)
        for entry in entries
        if entry.error is None
        for row in entry.rows(length)
        if row.metric == "token_weighted"
    ]
    points: list[Point] = []
    for method in dict.fromkeys(_base(entry.method) for entry, _ in scored):
        alike = sorted((one for one in scored if _base(one[0].method) == method), key=lambda one: one[1].value)
        p_values = _against_best(alike, seed)
        for (entry, row), p in zip(alike, p_values, strict=True):
            rank = 1 + sum(other.value < row.value for _, other in alike)
            tied = p is None or p >= SIGNIFICANCE
            points.append(Point(method, entry.method, row.value, row.low, row.high, row.n, rank, p, tied))
    return points


def parameters_of(spec: str) -> dict[str, str]:
    """Return the parameters of a method's text, by name."""
    text = spec.partition(":")[2]
    return dict(part.split("=", 1) for part in text.split(",")) if text else {}


def _base(spec: str) -> str:
    return spec.partition(":")[0]


def _against_best(scored: Sequence[tuple[CellEntry, ResultRow]], seed: int) -> list[float | None]:
    """Return the corrected p-value of each entry's difference from the first, None for the first."""
    best, *others = [_losses(entry, row.length) for entry, row in scored]
    p_values: list[float | None] = []
    for other in others:
        shared = [document for document in best if document in other]
        if not shared:
            p_values.append(None)
            continue
        losses = np.array([[points[document][0] for document in shared] for points in (best, other)])
        tokens = np.array([best[document][1] for document in shared], float)
        p_values.append(paired_differences(losses, seed, tokens)[0].p)
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None, *(None if p is None else next(corrected) for p in p_values)]


def _losses(entry: CellEntry, length: int) -> dict[str, tuple[float, int]]:
    """Return nats per token, and tokens, of each document with a score."""
    whole = [record for record in entry.records if record["length"] == length and record.get("kind") is None]
    scored = [record for record in whole if record["error"] is None]
    return {record["document"]: (record["nats"] / record["tokens"], record["tokens"]) for record in scored}
