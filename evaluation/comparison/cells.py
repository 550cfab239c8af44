"""The journal of a comparison, `cells.jsonl`: one line per cell that ended, and the results that follow from them.

A folder may hold cells of many calls: other tasks, methods, lengths, or the same ones under other protocols. What is
reported together must have been measured alike, so of each task one protocol counts, of each method one definition.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...rope import Method, RescaleFactors
from .results import DECISIVE_VERSIONS, ResultRow, Results

CELLS_JSONL = "cells.jsonl"


@dataclass(frozen=True)
class CellEntry:
    """One line of the journal: one method on one task at the lengths that one run of the task measures."""

    key: str
    """Sha256 of everything that decides the numbers; a finished cell of this key is never run again."""
    identity: str
    """`run_identity` of the model and the machine."""
    method: str
    method_key: str
    """`method_key` of the method: what it is, whatever it is called."""
    factors: dict[str, Any]
    """The rescale factors that were installed, as `RescaleFactors` has them."""
    task: str
    protocol: dict[str, Any]
    lengths: list[int]
    seconds: float
    tokens: int
    """Tokens that went through the model."""
    peak_memory_bytes: int | None
    """See `resources.PeakMemory`."""
    commit: str | None
    error: str | None
    """Why the cell has no score; it is tried again by the next call."""
    measurements: list[list[Any]]
    """Metric, length, value, low, high, n."""
    failures: list[dict[str, Any]]
    """Documents or samples without a score: length, item, error."""
    records: list[dict[str, Any]]
    """What the measurements were computed from, one per document or sample."""

    def rows(self, length: int) -> Iterator[ResultRow]:
        """Yield the numbers at one length."""
        return (ResultRow(self.method, self.task, *m) for m in self.measurements if m[1] == length)

    def costs(self) -> dict[str, Any]:
        """Return what the cell took."""
        speed = round(self.tokens / self.seconds, 1) if self.seconds else None
        named = {name: getattr(self, name) for name in ("method", "task", "lengths", "seconds", "tokens")}
        return {**named, "tokens_per_second": speed, "peak_memory_bytes": self.peak_memory_bytes}


class Collected(NamedTuple):
    """The results of a folder, and what is behind them."""

    results: Results
    records: dict[str, list[dict[str, Any]]]
    """By task: the records behind the rows, with the method in front."""
    set_aside: dict[tuple[str, str], int]
    """(method, task) -> finished cells that were measured under another protocol or definition of the method."""


def run_identity(provenance: Mapping[str, Any]) -> str:
    """Return the sha256 of what decides numbers beside method and task: weights, device type, dtype, kernel, versions.

    Where the model lies and the commit of this code are recorded, but do not decide.
    """
    model = {name: value for name, value in provenance["model"].items() if name != "id"}
    if None in model.values() or not model:
        model = provenance["model"]
    versions = {name: provenance["versions"][name] for name in DECISIVE_VERSIONS}
    device = provenance["device"].partition(":")[0]
    return digest([model, device, provenance["dtype"], provenance["attention"], versions])


def method_key(method: Method | RescaleFactors) -> str:
    """Return the sha256 of what a method is: its kind and parameters, or the factors themselves."""
    facts = asdict(method) | {"provenance": None}
    return digest([type(method).__name__, facts])


def factors_as_json(factors: RescaleFactors) -> dict[str, Any]:
    """Return factors without their provenance."""
    return json.loads(json.dumps(asdict(factors) | {"provenance": {}}, default=_plain))


def digest(content: Any) -> str:
    """Return the sha256 of JSON-able content, arrays included."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode()).hexdigest()


def append_cell(folder: Path, entry: CellEntry) -> None:
    """Write one line, for good: it is on the disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / CELLS_JSONL).open("ab+") as file:
        if size := file.seek(0, os.SEEK_END):
            file.seek(size - 1)
            if file.read(1) != b"\n":  # killed while writing
                file.write(b"\n")
        file.write(json.dumps(asdict(entry), allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_cells(folder: Path) -> list[CellEntry]:
    """Return the entries in the order in which they ended; a torn line is a cell that never did."""
    journal = folder / CELLS_JSONL
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    entries = []
    for line in lines:
        try:
            entries.append(CellEntry(**json.loads(line)))
        except (ValueError, TypeError):  # torn, or of an earlier version of this program: it runs again
            continue
    return entries


def collect(
    entries: Sequence[CellEntry],
    provenance: dict[str, Any],
    protocols: Mapping[str, dict[str, Any]],
    methods: Mapping[str, str],
) -> Collected:
    """Return everything in a folder that belongs together.

    Args:
        entries: of `read_cells`.
        provenance: of this run; cells of another model, device, dtype, kernel or version are left out.
        protocols: by task; of tasks not named here the latest protocol counts.
        methods: `method_key` by method; of methods not named here the latest definition counts.
    """
    alike = [entry for entry in entries if entry.identity == run_identity(provenance)]
    latest = {entry.task: entry.protocol for entry in alike} | dict(protocols)
    known = {entry.method: entry.method_key for entry in alike} | dict(methods)
    kept, set_aside = [], {}
    for entry in alike:
        if digest(entry.protocol) == digest(latest[entry.task]) and entry.method_key == known[entry.method]:
            kept.append(entry)
        elif entry.error is None:
            place = (entry.method, entry.task)
            set_aside[place] = set_aside.get(place, 0) + 1
    chosen = _in_order(kept)
    tasks = {entry.task for entry, _ in chosen}
    origin = provenance | {
        "protocols": {task: latest[task] for task in latest if task in tasks or task in protocols},
        "commits": sorted({entry.commit for entry, _ in chosen if entry.commit}),
    }
    rows = [row for entry, length in chosen for row in entry.rows(length)]
    cells = list({entry.key: entry for entry, _ in chosen}.values())
    costs = [entry.costs() for entry in cells if entry.error is None]
    factors = _longest_factors(cells)
    results = Results(rows, origin | {"factors": factors}, list(failures(chosen)), costs)
    return Collected(results, _records(chosen), set_aside)


def failures(chosen: Iterable[tuple[CellEntry, int]]) -> Iterator[dict[str, Any]]:
    """Yield everything without a score: whole cells, then single documents or samples."""
    for entry, length in chosen:
        place = {"method": entry.method, "task": entry.task}
        if entry.error is not None:
            yield place | {"length": length, "item": "cell", "error": entry.error}
        yield from (place | failure for failure in entry.failures if failure["length"] == length)


def _in_order(entries: Sequence[CellEntry]) -> list[tuple[CellEntry, int]]:
    """Return which entry counts at each (task, method, length): the latest finished one, else the latest failure."""
    owners: dict[tuple[str, str, int], CellEntry] = {}
    for entry in entries:
        for length in entry.lengths:
            place = (entry.task, entry.method, length)
            if entry.error is None or place not in owners or owners[place].error is not None:
                owners[place] = entry
    tasks = list(dict.fromkeys(entry.task for entry in entries))
    methods = list(dict.fromkeys(entry.method for entry in entries))
    order = sorted(owners, key=lambda place: (tasks.index(place[0]), methods.index(place[1]), place[2]))
    return [(owners[place], place[2]) for place in order]


def _records(chosen: Iterable[tuple[CellEntry, int]]) -> dict[str, list[dict[str, Any]]]:
    records: dict[str, list[dict[str, Any]]] = {}
    for entry, length in chosen:
        at_length = [record for record in entry.records if record.get("length") == length]
        records.setdefault(entry.task, []).extend({"method": entry.method, **record} for record in at_length)
    return records


def _longest_factors(entries: Iterable[CellEntry]) -> dict[str, dict[str, Any]]:
    """Return by method the factors installed for its longest length."""
    ordered = sorted(entries, key=lambda entry: max(entry.lengths))
    return {entry.method: entry.factors for entry in ordered}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON-able")
