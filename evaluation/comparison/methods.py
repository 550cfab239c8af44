"""Which methods are compared: baselines by name, and searched factors from their files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...rope import (
    Method,
    RescaleFactors,
    RopeGeometry,
    build_method,
    holds_factor_sets,
    load_factor_sets,
    load_factors,
)
from ...rope.methods.searched import ByLength, by_length
from ...rope.parsing import read_yaml


class Methods(NamedTuple):
    """What is compared."""

    by_name: dict[str, Method | RescaleFactors]
    """Baselines, then factor files, by the names they are reported under."""
    seen_documents: frozenset[str]
    """Digests of the documents that factors were searched on or baselines tuned on: never evaluate on them."""
    untold: tuple[str, ...]
    """Factor files that do not tell what they were searched on."""


def build_methods(
    specs: Sequence[str],
    factors: Sequence[str],
    geometry: RopeGeometry,
    lengths: Sequence[int],
    target_length: int | None = None,
    csv_attention_factor: float | str = "su",
) -> Methods:
    """Return baselines and factors.

    Args:
        specs: baselines, e.g. `yarn` or `yarn:beta_fast=16`, or `@FILE` of a YAML list of them.
        factors: sources of factors, as SOURCE or NAME=SOURCE (default name: longrope).
        geometry: RoPE of the evaluated model.
        lengths: context lengths of the evaluation, in tokens.
        target_length: that baselines are built for; None: the longest length, or that of the factors if it is longer.
        csv_attention_factor: of factors from a CSV, which holds none: su, yarn, or a number.

    Raises:
        ValueError: a method or file can't be read, or a name is there twice.
    """
    baselines, tuned_documents = _spell_out(specs)
    found: dict[str, RescaleFactors | ByLength] = {}
    for text in factors:
        name, equals, path = text.rpartition("=")
        name = name if equals else "longrope"
        if name in found or name in baselines:
            raise ValueError(f"factors must have names of their own, got {name!r} twice; write NAME=PATH")
        if holds_factor_sets(path):
            found[name] = by_length(load_factor_sets(path))
        else:
            found[name] = load_factors(path, geometry, max(lengths), csv_attention_factor)
    sets = {name: one.sets.sets if isinstance(one, ByLength) else (one,) for name, one in found.items()}
    target = target_length or max([*lengths, *(each[-1].target_length for each in sets.values())])
    factor = max(1.0, target / geometry.original_length)
    searched = {name: {digest for one in each for digest in one.searched_documents} for name, each in sets.items()}
    return Methods(
        {spec: build_method(spec, factor) for spec in baselines} | found,
        frozenset(tuned_documents).union(*searched.values()),
        tuple(name for name, documents in searched.items() if not documents),
    )


def _spell_out(specs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return methods, each `@FILE` replaced by those of the file, and the documents that those were tuned on."""
    spelled: list[str] = []
    documents: list[str] = []
    for spec in specs:
        if spec.startswith("@"):
            content = _read(Path(spec[1:]).expanduser())
            spelled += content["methods"]
            documents += content.get("tuned_documents", [])
        else:
            spelled.append(spec)
    return list(dict.fromkeys(spelled)), documents


def _read(path: Path) -> dict[str, list[str]]:
    """Read a list of methods, or the `best.yaml` of a sweep."""
    try:
        content: Any = read_yaml(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"methods must be names or @FILE of a YAML list, got @{path}: {reason}") from error
    content = {"methods": content} if isinstance(content, list) else content
    listed = content.get("methods") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed or not all(isinstance(spec, str) for spec in listed):
        raise ValueError(f"methods in {path} must be a YAML list such as [yarn, linear], got {str(listed)[:80]}")
    tuned = content.get("tuned_documents", [])
    if not isinstance(tuned, list) or not all(isinstance(digest, str) for digest in tuned):
        raise ValueError(f"tuned_documents in {path} must be a YAML list of digests, got {str(tuned)[:80]}")
    return content
