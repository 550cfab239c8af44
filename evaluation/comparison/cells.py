"""The journal of a comparison, `cells.jsonl`: one line per cell that ended, and the results that follow from them.

A folder may hold cells of many calls: other tasks, methods, lengths, or the same ones under other protocols. What is
reported together must have been measured alike, so of each task one protocol counts, of each method one definition.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ...rope import Method, RescaleFactors
from ...rope.files import cannot_save
from ...rope.lines import append, from_line, to_line
from ...rope.parsing import check_types
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


class Journal(NamedTuple):
    """The entries of a journal that are complete."""

    entries: list[CellEntry]
    """In the order in which they ended."""
    end: int
    """Bytes of the file up to the end of the last whole line."""
    num_damaged: int
    """Lines before it that can't be read or have another checksum; their cells run again."""
    num_unchecked: int
    """Lines before it without a checksum, as earlier versions wrote them."""

    def notes(self) -> list[str]:
        """Return a sentence for each kind of line that is not as it should be."""
        notes = []
        if self.num_damaged:
            notes.append(
                f"{self.num_damaged} lines of {CELLS_JSONL} are damaged and left out; an evaluation runs again what "
                "they held"
            )
        if self.num_unchecked:
            notes.append(
                f"{self.num_unchecked} lines of {CELLS_JSONL} are of an earlier version and have no checksum; they are "
                "taken as they are"
            )
        return notes


def append_cell(folder: Path, entry: CellEntry) -> None:
    """Write one line, for good: it is on the disk when this returns. Several processes may do so at once.

    Raises:
        OSError: the disk is full or the folder can't be written; the journal is as it was.
    """
    path = folder / CELLS_JSONL
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+")
    except OSError as error:
        raise cannot_save(path, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        append(path, _end(file), to_line(asdict(entry)))


def _end(file: IO[bytes]) -> int:
    """Return the end of the last whole line: a killed process may have left an incomplete one."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read(1) in (b"", b"\n"):
        return size
    file.seek(0)
    return file.read().rfind(b"\n") + 1


def read_journal(folder: Path, start: int = 0) -> Journal:
    """Read the whole lines of a journal from a byte on; an incomplete line at its end is a cell that never ended."""
    path = folder / CELLS_JSONL
    if not path.exists():
        return Journal([], start, 0, 0)
    with path.open("rb") as file:
        file.seek(start)
        whole = file.read().rpartition(b"\n")
    lines = (whole[0] + whole[1]).split(b"\n")[:-1]
    entries, unchecked = [], 0
    for line in lines:
        try:
            content, checked = from_line(line + b"\n")
            entries.append(_entry(content))
        except (ValueError, TypeError):  # damaged, or of an earlier version of this program: it runs again
            continue
        unchecked += not checked
    return Journal(entries, start + sum(map(len, whole[:2])), len(lines) - len(entries), unchecked)


def _entry(content: dict[str, Any]) -> CellEntry:
    check_types(CellEntry, content)
    entry = CellEntry(**content)
    if any(len(measurement) != len(ResultRow.__match_args__) - 2 for measurement in entry.measurements):
        raise ValueError("a measurement must be metric, length, value, low, high and n")
    return entry


def read_cells(folder: Path) -> list[CellEntry]:
    """Return the entries in the order in which they ended."""
    return read_journal(folder).entries


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

    Returns:
        First what is not named, in the order in which it was measured, then what is, in the order in which it is named:
        which of two processes ended first does not show.
    """
    alike = [entry for entry in entries if entry.identity == run_identity(provenance)]
    latest = {entry.task: entry.protocol for entry in alike if entry.task not in protocols} | dict(protocols)
    known = {entry.method: entry.method_key for entry in alike if entry.method not in methods} | dict(methods)
    kept, set_aside = [], {}
    for entry in alike:
        if digest(entry.protocol) == digest(latest[entry.task]) and entry.method_key == known[entry.method]:
            kept.append(entry)
        elif entry.error is None:
            place = (entry.method, entry.task)
            set_aside[place] = set_aside.get(place, 0) + 1
    chosen = _in_order(kept, list(latest), list(known))
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


def _in_order(
    entries: Sequence[CellEntry], tasks: Sequence[str], methods: Sequence[str]
) -> list[tuple[CellEntry, int]]:
    """Return which entry counts at each (task, method, length): the latest finished one, else the latest failure."""
    owners: dict[tuple[str, str, int], CellEntry] = {}
    for entry in entries:
        for length in entry.lengths:
            place = (entry.task, entry.method, length)
            if entry.error is None or place not in owners or owners[place].error is not None:
                owners[place] = entry
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
