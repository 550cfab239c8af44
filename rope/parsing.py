"""Files from elsewhere: read as data, of bounded size, with values of their declared types; nothing is executed."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

MAX_BYTES = 10 * 2**20
"""Largest settings or factor file: the factors of 126 layers with 64 pairs are 0.2 MB."""
MAX_VALUES = 10**6
"""Most values in a YAML file, its aliases written out: ten lines can stand for 10^10."""
MAX_INT = 2**63


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Return the content of a text file.

    Raises:
        ValueError: it is larger than `max_bytes`, or not UTF-8.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"file must be at most {max_bytes / 2**20:g} MiB, got a larger one; is it the right file?")
    return data.decode("utf-8")


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Return the content of a JSON file.

    Raises:
        ValueError: it is too large or no JSON.
        OSError: it can't be read.
    """
    try:
        return json.loads(read_text(path, max_bytes))
    except RecursionError as error:
        raise ValueError("file must be JSON nested a few levels deep, got thousands") from error


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file, of plain values only.

    Raises:
        ValueError: it is too large, also by its aliases, or no YAML.
        OSError: it can't be read.
    """
    try:
        content = yaml.safe_load(read_text(path))
        _count(content, 0)
    except RecursionError as error:
        raise ValueError("file must be YAML nested a few levels deep, got thousands") from error
    except (yaml.YAMLError, TypeError, AttributeError, KeyError, IndexError) as error:  # of tags such as !!set
        raise ValueError(" ".join(str(error).split())) from error
    return content


def _count(value: Any, counted: int) -> int:
    if counted > MAX_VALUES:
        raise ValueError(f"file must hold at most {MAX_VALUES:,} values, aliases included, got more")
    counted += 1
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, list | tuple | set):
        parts = value
    for part in parts:
        counted = _count(part, counted)
    return counted


def check_types(cls: type, values: Mapping[str, Any]) -> None:
    """Check plain values against the annotations of a dataclass or named tuple; numbers must be finite.

    Raises:
        ValueError: a value is not of its type, or a name is unknown.
    """
    hints = get_type_hints(cls)
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"fields must be among {', '.join(hints)}, got {name[:80]!r}")
        if not _fits(value, hints[name]):
            kind = getattr(hints[name], "__name__", None) if get_origin(hints[name]) is None else hints[name]
            raise ValueError(f"{name} must be of type {kind or hints[name]}, got {repr(value)[:80]}")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if hint in (None, NoneType):
        return value is None
    if hint is int:
        return type(value) is int and abs(value) < MAX_INT
    if hint is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    if hint in (str, bool):
        return isinstance(value, hint)
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    return True
