"""The reader of hyper-parameter files: ours (YAML) and the official ones (JSON)."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..rope.parsing import read_yaml
from .settings import SETTINGS, PaperSettings, Settings

# Keys of the JSON files in the official repository (microsoft/LongRoPE, evolution/default_hyper_params), which its code
# multiplies by `evo_scale` and cuts to whole numbers, the number of iterations included.
OFFICIAL_COUNTS = {
    "population_size": "population_size",
    "max_time_budget": "num_iterations",
    "mutation_numbers": "num_mutations",
    "crossover_size": "num_crossovers",
    "max_crossover_try": "max_attempts",
    "parents_size": "num_parents",
}
OFFICIAL_KEYS = {"evo_scale", "list_step", *OFFICIAL_COUNTS}


def load_settings(path: str | Path) -> Settings:
    """Read a hyper-parameter file: ours (YAML with a `strategy` key) or the official JSON.

    Raises:
        ValueError: the file is missing or unreadable, has unknown keys, or holds values of a wrong type or range.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"hyper-params must be a file that exists, got {path}; try hyperparams/longrope.yaml")
    try:
        raw = read_yaml(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"hyper-params must be readable YAML or JSON, got {path}: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"hyper-params must be a mapping of names to values, got {str(raw)[:80]!r} in {path}")
    try:
        return _from_official(raw) if raw.keys() & (OFFICIAL_KEYS - {"population_size"}) else _from_ours(raw)
    except (OverflowError, ValueError) as error:  # a whole number beyond what floats reach
        raise ValueError(f"{path}: {error}") from error


def _from_ours(raw: Mapping[str, Any]) -> Settings:
    strategy = raw.get("strategy")
    if not isinstance(strategy, str) or strategy not in SETTINGS:
        raise ValueError(f"strategy must be one of {sorted(SETTINGS)}, got {strategy!r}{_hint(strategy, SETTINGS)}")
    cls = SETTINGS[strategy]
    kinds = {field.name: field.type for field in fields(cls)}
    values = {key: value for key, value in raw.items() if key != "strategy"}
    _check_known(values, kinds)
    return cls(**{key: _convert(key, value, kinds[key]) for key, value in values.items()})


def _from_official(raw: Mapping[str, Any]) -> PaperSettings:
    _check_known(raw, OFFICIAL_KEYS)
    evo_scale = _convert("evo_scale", raw.get("evo_scale", 1.0), float)
    counts = {
        name: int(evo_scale * _convert(key, raw[key], int)) for key, name in OFFICIAL_COUNTS.items() if key in raw
    }
    step = {"step": _convert("list_step", raw["list_step"], float)} if "list_step" in raw else {}
    return PaperSettings(**counts, **step)


def _convert(key: str, value: Any, kind: Any) -> Any:
    """Return the value as its field wants it; YAML knows lists, not tuples, and writes 1 for 1.0."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind is int and whole:
        return value
    if kind is float and (whole or isinstance(value, float)):
        return float(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind == tuple[int, ...] and isinstance(value, list) and all(type(item) is int for item in value):
        return tuple(value)
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a list of whole numbers")
    raise ValueError(f"{key} must be {wanted}, got {value!r}")


def _check_known(keys: Mapping[str, Any], known: Mapping[str, Any] | set[str]) -> None:
    for key in keys:
        if key not in known:
            raise ValueError(f"unknown key {key!r}{_hint(key, known)}; known: {', '.join(sorted(known))}")


def _hint(word: Any, known: Mapping[str, Any] | set[str]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
