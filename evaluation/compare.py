"""The comparison: methods x tasks x lengths under one protocol, resumable cell by cell.

Baselines are built for the target length once, so a row at a shorter length shows the same installed factors; methods
that depend on the length by definition (dynamic NTK) are built for each.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm
from transformers import PreTrainedModel

from ..rope import Installation, Method, RescaleFactors, RopeGeometry, install
from .results import ResultRow
from .task import Advance, Cell, Task

CELLS_JSONL = "cells.jsonl"


class Comparison(NamedTuple):
    """Rows of all finished cells, and everything that has no score."""

    rows: list[ResultRow]
    failures: list[dict[str, Any]]


@dataclass(frozen=True)
class PlannedCell:
    """The unit of resumption: one method on one task at the lengths that one run of the task measures."""

    method: str
    factors: RescaleFactors
    task: Task
    lengths: tuple[int, ...]

    def key(self, identity: dict[str, Any]) -> str:
        """Return the sha256 of everything that decides the cell's numbers."""
        factors = asdict(self.factors) | {"lambdas": self.factors.lambdas.tolist(), "provenance": None}
        parts = [self.method, factors, self.task.name, self.task.protocol(), self.lengths, identity]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def compare(
    model: PreTrainedModel,
    methods: Mapping[str, Method | RescaleFactors],
    lengths: Sequence[int],
    tasks: Sequence[Task],
    folder: str | Path,
    provenance: dict[str, Any],
    original_length: int | None = None,
) -> Comparison:
    """Measure every method on every task at every length.

    Each finished cell is appended to `cells.jsonl` in the folder; called again with the same arguments, finished cells
    are read instead of run, and failed ones are tried again.

    Args:
        model: the base model, without any factors installed.
        methods: what to compare, by the name it is reported under.
        lengths: context lengths in tokens.
        tasks: e.g. `Perplexity(...)`, `Passkey(...)`.
        folder: where `cells.jsonl` is kept.
        provenance: of `results.provenance`; cells of another model, dtype, device or kernel are not reused.
        original_length: context length of the pre-training, in tokens; default `max_position_embeddings`.

    Raises:
        ValueError: a method doesn't fit the model, or there is nothing to compare.
    """
    if not (methods and lengths and tasks):
        raise ValueError(f"methods, lengths and tasks must not be empty, got {list(methods)}, {lengths}, {tasks}")
    identity = {name: provenance[name] for name in ("model", "dtype", "device", "attention", "versions", "commit")}
    journal = Path(folder) / CELLS_JSONL
    with install(model, original_length) as installation:
        for task in tasks:
            task.check(model, lengths)
        plan = list(plan_cells(methods, sorted(set(lengths)), tasks, installation.geometry))
        keys = [cell.key(identity) for cell in plan]
        finished = {entry["key"]: entry for entry in _read(journal) if entry["error"] is None}
        todo = [cell for cell, key in zip(plan, keys, strict=True) if key not in finished]
        with tqdm(total=sum(c.task.tokens(c.lengths) for c in todo), unit="tok", unit_scale=True, disable=None) as bar:
            entries = []
            for cell, key in zip(plan, keys, strict=True):
                bar.set_description(f"{cell.method} {cell.task.name}")
                entries.append(finished.get(key) or _run(cell, key, model, installation, journal, bar.update))
    return Comparison([row for e in entries for row in _rows(e)], [f for e in entries for f in _failures(e)])


def plan_cells(
    methods: Mapping[str, Method | RescaleFactors],
    lengths: Sequence[int],
    tasks: Sequence[Task],
    geometry: RopeGeometry,
) -> Iterator[PlannedCell]:
    """Yield the cells in the order in which they run: task by task, so that methods can be compared early."""
    for task in tasks:
        for name, method in methods.items():
            static = isinstance(method, RescaleFactors) or not method.depends_on_length
            for group in [tuple(lengths)] if task.one_forward and static else [(length,) for length in lengths]:
                yield PlannedCell(name, _factors(method, geometry, max(group)), task, group)


def _factors(method: Method | RescaleFactors, geometry: RopeGeometry, length: int) -> RescaleFactors:
    if isinstance(method, RescaleFactors):
        return method
    return method.at_length(geometry, length).factors(geometry)


def _run(
    planned: PlannedCell, key: str, model: PreTrainedModel, installation: Installation, journal: Path, advance: Advance
) -> dict[str, Any]:
    started, error, cell = time.monotonic(), None, Cell()
    installation.set([planned.factors])
    try:
        cell = planned.task.run(model, planned.lengths, advance)
        if endless := [m for m in cell.measurements if not math.isfinite(m.estimate.value)]:
            raise ArithmeticError(f"{endless[0].metric} must be finite, got {endless[0].estimate.value}")
    except (RuntimeError, ValueError, ArithmeticError) as failure:  # out of memory is a RuntimeError
        error = " ".join(f"{type(failure).__name__}: {failure}".split())
    entry = {
        "key": key,
        "method": planned.method,
        "task": planned.task.name,
        "lengths": planned.lengths,
        "seconds": round(time.monotonic() - started, 3),
        "error": error,
        "measurements": [[m.metric, m.length, *m.estimate] for m in cell.measurements],
        "failures": [failure._asdict() for failure in cell.failures],
        "records": cell.records,
    }
    _append(journal, entry)
    return entry


def _rows(entry: dict[str, Any]) -> list[ResultRow]:
    return [ResultRow(entry["method"], entry["task"], *measurement) for measurement in entry["measurements"]]


def _failures(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cell = {"method": entry["method"], "task": entry["task"]}
    if entry["error"] is not None:
        yield from (cell | {"length": length, "item": "cell", "error": entry["error"]} for length in entry["lengths"])
    yield from (cell | failure for failure in entry["failures"])


def _append(journal: Path, entry: dict[str, Any]) -> None:
    journal.parent.mkdir(parents=True, exist_ok=True)
    torn = journal.exists() and not journal.read_bytes().endswith(b"\n")  # killed while writing
    with journal.open("a", encoding="utf-8") as file:
        file.write("\n" * torn + json.dumps(entry, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines; a torn one is a cell that was never finished."""
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
