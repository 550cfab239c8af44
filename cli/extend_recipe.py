"""Recipes of `longrope extend`: a model, its data, and stages that are each a command with options of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from ..rope.names import unknown_name
from ..rope.parsing import check_types, read_yaml
from .comparison_configs import EvaluateConfig
from .configs import ExportConfig, SearchConfig
from .training_configs import ExtendConfig, FinetuneConfig

KINDS: dict[str, type] = {
    "search": SearchConfig,
    "finetune": FinetuneConfig,
    "readjust": SearchConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
}
"""Stages, and the command whose options each takes; `readjust` is a search for each of its `lengths`."""
GIVEN = {
    "model",
    "tokenized",
    "factors",
    "output_dir",
    "resume",
    "init_factors",
    "readjust",
    "short_factors",
    "results",
}
"""Options that the stages before decide."""


@dataclass(frozen=True)
class StagePlan:
    """One stage of an extension."""

    kind: str
    options: Mapping[str, Any]

    def folder(self, number: int) -> str:
        """Return the name of its folder."""
        return f"{number}-{self.kind}"


@dataclass(frozen=True)
class Extension:
    """A recipe that was read."""

    model: str
    train: tuple[str, ...]
    search: str
    eval: str
    output_dir: str
    stages: tuple[StagePlan, ...]
    original_length: int | None = None


def load_extension(path: str | Path, config: ExtendConfig) -> Extension:
    """Read a recipe, and put what the command line says in its place.

    Raises:
        ValueError: the file can't be read, or a key or stage is unknown, missing or out of order.
    """
    try:
        raw = read_yaml(Path(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"recipe must be readable YAML, got {path}: {' '.join(str(error).split())}") from error
    names = [field.name for field in fields(Extension)]
    if not isinstance(raw, dict):
        raise ValueError(f"recipe must be a mapping with {', '.join(names)}, got {str(raw)[:80]!r} in {path}")
    for key in raw:
        if key not in names:
            raise unknown_name(f"key of {path}", str(key), names)
    if missing := [name for name in names if name != "original_length" and name not in raw]:
        raise ValueError(f"recipe must have {', '.join(missing)}, got none in {path}")
    try:
        check_types(Extension, raw)
    except ValueError as error:
        raise ValueError(f"recipe must hold values of their types, got {path}: {error}") from error
    if not isinstance(raw["stages"], list):
        raise ValueError(f"stages of a recipe must be a list, got {str(raw['stages'])[:80]!r} in {path}")
    stages = tuple(_stage(one) for one in raw["stages"])
    read = Extension(**{**raw, "train": tuple(raw["train"]), "stages": stages})
    _check_order([stage.kind for stage in stages])
    changed = {name: getattr(config, name) for name in ("model", "train", "search", "eval", "output_dir")}
    return replace(read, **{name: value for name, value in changed.items() if value})


def _stage(entry: Any) -> StagePlan:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(f"a stage must be one of {', '.join(KINDS)} with its options, got {str(entry)[:80]!r}")
    ((kind, options),) = entry.items()
    if kind not in KINDS:
        raise unknown_name("stage", str(kind), KINDS)
    options = options or {}
    if not isinstance(options, dict):
        raise ValueError(f"options of a stage {kind} must be a mapping, got {str(options)[:80]!r}")
    known = get_type_hints(KINDS[kind])
    allowed = {name for name in known if name not in GIVEN}
    if kind == "readjust":
        allowed = allowed - {"target_length"} | {"lengths"}
    for name in options:
        if name not in allowed:
            raise unknown_name(f"option of {kind}", str(name), allowed)
    tuples = {name for name, hint in known.items() if get_origin(hint) is tuple} | {"lengths"}
    spelled = {name: _as_tuple(value) if name in tuples else value for name, value in options.items()}
    needed = {"search": ("target_length", "max_scored_tokens"), "readjust": ("lengths", "max_scored_tokens")}
    for name in needed.get(kind, ()):
        if name not in spelled:
            raise ValueError(f"{name} must be given for a stage {kind}, got {options}")
    return StagePlan(kind, spelled)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _check_order(kinds: list[str]) -> None:
    for before, after in (("search", "finetune"), ("search", "readjust"), ("search", "export"), ("search", "evaluate")):
        if after in kinds and before not in kinds[: kinds.index(after)]:
            raise ValueError(f"stages must have a {before} before {after}, got {', '.join(kinds)}")
