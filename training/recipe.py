"""Recipes of fine-tuning: how long, on what windows, with which optimiser; one or more stages, read from YAML.

A value at the top of the file holds for every stage that has none of its own.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..rope.parsing import read_yaml

Rope = Literal["rescaled", "original"]
Schedule = Literal["linear", "cosine", "constant"]
DOCUMENTS = "documents"
"""Name of the documents that windows are cut from, if nothing else is said."""


@dataclass(frozen=True)
class Window:
    """One kind of training window.

    Raises:
        ValueError: a value is out of range.
    """

    length: int
    """Tokens of a window."""
    share: float = 1.0
    """Weight of this kind among the tokens of a stage; the shares of a stage need not add up to 1."""
    rope: Rope = "rescaled"
    """`rescaled`: the factors are installed; `original`: the pre-trained RoPE (LongRoPE2, arXiv 2502.20082, mixed
    context windows)."""
    mask_documents: bool = False
    """Whether tokens attend to their own document only, with positions that begin anew with each document."""
    min_tokens: int = 0
    """Documents of fewer tokens are left out, so that long windows hold long documents."""
    source: str = DOCUMENTS
    """Name of the documents that the windows are cut from."""

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"length of a window must be at least 2 tokens, got {self.length}")
        if not (math.isfinite(self.share) and self.share > 0):
            raise ValueError(f"share of a window must be a finite number above 0, got {self.share}; leave it out for 1")
        if self.rope not in get_args(Rope):
            raise ValueError(f"rope of a window must be one of {', '.join(get_args(Rope))}, got {self.rope!r}")


@dataclass(frozen=True)
class Stage:
    """One stage of fine-tuning: a set of factors, a schedule of its own, a fresh optimiser (AdamW).

    Raises:
        ValueError: a value is out of range.
    """

    length: int
    """Tokens of the longest window; the sequence length that batch sizes count in."""
    steps: int
    """Optimiser steps."""
    batch_size: int
    """Sequences of `length` tokens (or as many tokens in shorter windows) per step, over all devices."""
    learning_rate: float
    """Peak learning rate."""
    schedule: Schedule = "linear"
    """How the learning rate goes on after the warm-up: `linear` or `cosine` down to 0, or `constant`."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    windows: tuple[Window, ...] = field(default=())
    """Kinds of windows; none: windows of `length` tokens under the factors, over the ends of documents."""

    def __post_init__(self) -> None:
        for name in ("length", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.warmup_steps <= self.steps:
            raise ValueError(f"warmup_steps must be from 0 to the {self.steps} steps, got {self.warmup_steps}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a finite number above 0, got {self.learning_rate}; papers: 2e-5")
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule must be one of {', '.join(get_args(Schedule))}, got {self.schedule!r}")
        object.__setattr__(self, "windows", tuple(self.windows) or (Window(self.length),))
        for window in self.windows:
            if self.length % window.length:
                raise ValueError(
                    f"length of a window must divide the length of its stage ({self.length}), so that all forwards "
                    f"are of one size, got {window.length}"
                )

    @property
    def tokens(self) -> int:
        """Tokens of the whole stage."""
        return self.steps * self.batch_size * self.length


@dataclass(frozen=True)
class Recipe:
    """Stages of fine-tuning, one after the other on the same weights."""

    stages: tuple[Stage, ...]

    def changed(
        self,
        lengths: Sequence[int] = (),
        steps: Sequence[int] = (),
        batch_size: int | None = None,
        learning_rate: float | None = None,
    ) -> "Recipe":
        """Return the recipe with other sizes: one number per stage, or one for all.

        Windows keep their proportion to the length of the stage, but for those of the original RoPE, which stay as
        long as they are where the new length allows it.

        Raises:
            ValueError: there are as many numbers as neither 1 nor the stages.
        """
        given: dict[str, Any] = {"batch_size": batch_size, "learning_rate": learning_rate}
        common = {name: value for name, value in given.items() if value is not None}
        stages = []
        for index, stage in enumerate(self.stages):
            length = _nth("lengths", lengths, index, len(self.stages), stage.length)
            count = _nth("steps", steps, index, len(self.stages), stage.steps)
            windows = tuple(_resized(window, stage.length, length) for window in stage.windows)
            warmup_steps = min(stage.warmup_steps, count)
            sizes = {"length": length, "steps": count, "warmup_steps": warmup_steps, "windows": windows}
            stages.append(replace(stage, **sizes, **common))
        return Recipe(tuple(stages))


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe from YAML.

    Raises:
        ValueError: the file is missing or unreadable, has unknown keys, or holds values of a wrong type or range.
    """
    try:
        raw = read_yaml(Path(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"recipe must be readable YAML, got {path}: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("stages"), list) or not raw["stages"]:
        raise ValueError(f"recipe must be a mapping with a list of stages, got {str(raw)[:80]!r} in {path}")
    common = {key: value for key, value in raw.items() if key != "stages"}
    try:
        return Recipe(tuple(_stage({**common, **_mapping("a stage", stage)}) for stage in raw["stages"]))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _stage(values: Mapping[str, Any]) -> Stage:
    listed = values.get("windows", [])
    if not isinstance(listed, list):
        raise ValueError(f"windows must be a list, got {str(listed)[:80]!r}")
    windows = tuple(_build(Window, _mapping("a window", one)) for one in listed)
    return _build(Stage, {**values, "windows": windows})


def _mapping(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a mapping of names to values, got {value!r}")
    return value


def _build(cls: type, values: Mapping[str, Any]) -> Any:
    known = {one.name: one for one in fields(cls)}
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"
            raise ValueError(f"unknown key {name!r}{hint}")
    for name, one in known.items():
        if one.default is MISSING and one.default_factory is MISSING and name not in values:
            raise ValueError(f"{name} must be given")
    return cls(**{name: _convert(name, value, known[name].type) for name, value in values.items()})


def _convert(name: str, value: Any, kind: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind is int and not whole:
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if kind is bool and not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    if kind is float:
        try:
            return float(value)  # YAML reads 2e-5 as text
        except (OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{name} must be a number, got {value!r}") from error
    return value


def _nth(name: str, values: Sequence[int], index: int, stages: int, default: int) -> int:
    if not values:
        return default
    if len(values) not in (1, stages):
        raise ValueError(f"{name} must be one number, or one for each of the {stages} stages, got {list(values)}")
    return values[index] if len(values) > 1 else values[0]


def _resized(window: Window, before: int, after: int) -> Window:
    if window.rope == "original":
        return replace(window, length=math.gcd(window.length, after))
    shrunk = after / before
    return replace(window, length=max(2, round(window.length * shrunk)), min_tokens=round(window.min_tokens * shrunk))
