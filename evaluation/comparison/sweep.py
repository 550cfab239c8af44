"""Sweeps over a method's own parameters: every point of a grid, or random samples of ranges, as method texts.

A searched factor set must be compared with each baseline at its best, not at a default; the points of a sweep go
through the same comparison as everything else.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...rope import build_method
from ...rope.parsing import read_yaml
from .cells import method_key

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
    except (OSError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"a sweep must be a YAML file with method and parameters, got {path}: {reason}") from error
    text = ",".join(f"{name}={one.values[0]:.{DIGITS}g}" for name, one in sweep.parameters.items())
    try:
        build_method(f"{sweep.method}:{text}", 1.0)
    except ValueError as error:
        if str(error).startswith("unknown"):
            raise ValueError(f"a sweep must name a method and its parameters, got {path}: {error}") from error
    return sweep
