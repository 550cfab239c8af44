"""Result rows and where they come from: `results.json`, versioned, never written or read without provenance."""

import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedConfig, PreTrainedModel

from ...rope.files import write_atomically
from ...rope.parsing import check_types, read_json
from ..data.commit import checkout_commit

FORMAT = "longrope-results"
VERSION = 1
PROVENANCE = ("versions", "commit", "model", "device", "dtype", "attention", "protocols")
"""Fields without which a number can't be trusted; `protocols` holds windows, data fingerprints and seeds by task."""
DECISIVE_VERSIONS = ("longrope", "torch", "transformers")
"""Packages whose versions decide a number."""
MAX_BYTES = 2**30
"""Largest `results.json`."""
WEIGHTS = ("*.safetensors", "*.bin", "config.json")


@dataclass(frozen=True)
class ResultRow:
    """One number: a method on a task at a length."""

    method: str
    task: str
    metric: str
    length: int
    """Context length in tokens."""
    value: float
    low: float | None
    """Lower end of the 95 % interval; None if there is too little to tell."""
    high: float | None
    n: int
    """Documents or samples behind the value; failed ones are left out and listed in `failures`."""


class LeftOut(NamedTuple):
    """A length that a task has no room in, so that no method has a row there."""

    task: str
    length: int
    reason: str


class Results(NamedTuple):
    """The content of a `results.json`."""

    rows: list[ResultRow]
    provenance: dict[str, Any]
    """`PROVENANCE` and, by method, the `factors` that were installed for its longest length."""
    failures: list[dict[str, Any]]
    """Cells, documents and samples without a score, each with its error."""
    costs: list[dict[str, Any]] = []
    """Seconds, tokens, tokens per second and peak memory of each finished cell."""
    left_out: list[LeftOut] = []


def provenance(
    model: PreTrainedModel, model_id: str, protocols: dict[str, dict[str, Any]], **extra: Any
) -> dict[str, Any]:
    """Return what is needed to make the numbers again.

    Args:
        model: the model as loaded.
        model_id: folder or hub id it was loaded from.
        protocols: the `protocol()` of each task, by task name.
        extra: further JSON-able facts, e.g. the resolved configuration.
    """
    return {
        "versions": versions(),
        "commit": git_commit(),
        "model": {"id": model_id, **model_fingerprint(model, model_id)},
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": model.config._attn_implementation,
        "protocols": protocols,
        **extra,
    }


def versions() -> dict[str, str]:
    """Return the versions of what decides a number."""
    packages = ("longrope", "torch", "transformers", "datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def git_commit() -> str | None:
    """Return the commit of the checkout this code runs from (with `-dirty` if changed), None outside of one."""
    return checkout_commit(Path(__file__))


def model_fingerprint(model: PreTrainedModel | PreTrainedConfig, model_id: str) -> dict[str, str | None]:
    """Return the sha256 over weights and config of a local model, or the revision of a hub model (or its config)."""
    place = Path(model_id).expanduser()
    if not place.exists():
        return {"revision": getattr(getattr(model, "config", model), "_commit_hash", None)}
    digest = hashlib.sha256()
    for path in [place] if place.is_file() else sorted(path for pattern in WEIGHTS for path in place.glob(pattern)):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return {"sha256": digest.hexdigest()}


def write_results(
    path: str | Path,
    rows: Sequence[ResultRow],
    provenance: dict[str, Any],
    failures: Sequence[dict[str, Any]],
    costs: Sequence[dict[str, Any]] = (),
    left_out: Sequence[LeftOut] = (),
) -> None:
    """Write `results.json`; it appears whole or not at all.

    Raises:
        ValueError: a field of the provenance is missing, or a value is no finite number.
    """
    payload = {
        "format": FORMAT,
        "version": VERSION,
        "provenance": provenance,
        "rows": [asdict(row) for row in rows],
        "failures": list(failures),
        "costs": list(costs),
        "left_out": [entry._asdict() for entry in left_out],
    }
    _check(payload, "results")
    write_atomically(Path(path), json.dumps(payload, indent=1, allow_nan=False) + "\n")


def read_results(path: str | Path) -> Results:
    """Read a `results.json`.

    Raises:
        ValueError: the file is missing, is of another format, or lacks provenance.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"results must be a file that exists, got {path}; make it: longrope evaluate")
    try:
        payload = read_json(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ValueError(f"results must be readable JSON, got {path}: {error}; restore the file") from error
    _check(payload, str(path))
    try:
        for row in payload["rows"]:
            check_types(ResultRow, row)
        failures, costs, origin = payload["failures"], payload.get("costs", []), payload["provenance"]
        check_types(Results, {"failures": failures, "costs": costs, "provenance": origin})
        left_out = [LeftOut(**entry) for entry in payload.get("left_out", [])]
        for entry in left_out:
            check_types(LeftOut, entry._asdict())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} must be as longrope evaluate wrote it, got: {error}; restore the file") from error
    return Results([ResultRow(**row) for row in payload["rows"]], origin, failures, costs, left_out)


def _check(payload: Any, source: str) -> None:
    if not isinstance(payload, dict) or payload.get("format") != FORMAT or payload.get("version") != VERSION:
        raise ValueError(f"{source} must be of format {FORMAT} {VERSION}; write it with longrope evaluate")
    recorded = payload.get("provenance") or {}
    recorded = recorded if isinstance(recorded, dict) else {}
    if missing := [name for name in PROVENANCE if name not in recorded]:
        raise ValueError(f"{source} must carry provenance, got none for {', '.join(missing)}; evaluate again")
    named = recorded["versions"] if isinstance(recorded["versions"], dict) else {}
    if missing := [name for name in DECISIVE_VERSIONS if name not in named]:
        raise ValueError(
            f"{source} must carry the versions of {', '.join(DECISIVE_VERSIONS)}, got none for {', '.join(missing)}; "
            "evaluate again"
        )
    if not isinstance(payload.get("rows"), list) or not isinstance(payload.get("failures"), list):
        raise ValueError(f"{source} must hold lists of rows and failures; write it with longrope evaluate")
    names = {field.name for field in fields(ResultRow)}
    for row in payload["rows"]:
        if not isinstance(row, dict) or set(row) != names:
            raise ValueError(f"rows of {source} must have the fields {', '.join(sorted(names))}, got {str(row)[:200]}")
        if not isinstance(row["value"], int | float) or not abs(row["value"]) <= sys.float_info.max:
            raise ValueError(
                f"value must be a finite number, got {str(row)[:200]} in {source}; failures belong in failures"
            )
