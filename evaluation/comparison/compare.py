"""The comparison: methods x tasks x lengths under one protocol, resumable cell by cell.

Baselines are built for the target length once, so a row at a shorter length shows the same installed factors; methods
that depend on the length by definition (dynamic NTK) are built for each.
"""

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from ...rope import Installation, Method, RescaleFactors, RopeGeometry, install
from ..scoring.batching import free_memory, is_out_of_memory
from ..scoring.resources import PeakMemory
from ..tasks.base import Advance, Cell, Task
from .cells import CellEntry, append_cell, digest, factors_as_json, failures, method_key, read_journal, run_identity
from .progress import ComparisonBar, Work
from .results import LeftOut, ResultRow
from .sharing import share


class Comparison(NamedTuple):
    """What one call was asked for: its cells in the order of the plan, and the lengths that tasks refused."""

    entries: list[CellEntry]
    left_out: list[LeftOut]

    @property
    def rows(self) -> list[ResultRow]:
        """All numbers."""
        return [row for entry in self.entries for length in entry.lengths for row in entry.rows(length)]

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Everything that should have a score and has none."""
        return list(failures((entry, length) for entry in self.entries for length in entry.lengths))


@dataclass(frozen=True)
class PlannedCell:
    """The unit of resumption: one method on one task at the lengths that one run of the task measures."""

    method: str
    method_key: str
    factors: RescaleFactors
    task: Task
    protocol: dict[str, Any]
    lengths: tuple[int, ...]

    def key(self, identity: str) -> str:
        """Return the sha256 of everything that decides the cell's numbers."""
        factors = factors_as_json(self.factors)
        return digest([self.method, factors, self.task.name, self.protocol, self.lengths, identity])

    def work(self) -> Work:
        """Return what has to be done, whatever the method."""
        return Work(self.task.name, self.lengths)


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

    Each cell is appended to `cells.jsonl` in the folder as it ends; called again with the same arguments, finished
    cells are read instead of run, and failed ones are tried again. Processes that do so at the same time share the
    cells: each is run by one of them, and all return the same.

    Args:
        model: the base model, without any factors installed.
        methods: what to compare, by the name it is reported under.
        lengths: context lengths in tokens; a task leaves out those that it has no room in.
        tasks: e.g. `Perplexity(...)`, `Passkey(...)`; each name once.
        folder: where `cells.jsonl` is kept.
        provenance: of `results.provenance`; cells of another model, dtype, device, kernel or version are not reused.
        original_length: context length of the pre-training, in tokens; default `max_position_embeddings`.

    Raises:
        ValueError: a method doesn't fit the model, or there is nothing to compare.
    """
    if not (methods and lengths and tasks):
        raise ValueError(f"methods, lengths and tasks must not be empty, got {list(methods)}, {lengths}, {tasks}")
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"tasks must have different names, got {', '.join(names)}; name each one once")
    folder, identity = Path(folder), run_identity(provenance)
    with install(model, original_length) as installation:
        geometry, (possible, left_out) = installation.geometry, _possible(model, tasks, sorted(set(lengths)))
        plan = [cell for task, fitting in possible for cell in plan_cells(methods, fitting, task, geometry)]
        keys = [cell.key(identity) for cell in plan]
        finished, position = _finished(folder)
        todo = {key: cell for cell, key in zip(plan, keys, strict=True) if key not in finished}
        by_name = {task.name: task for task in tasks}
        with (
            ComparisonBar(
                [cell.work() for cell in todo.values()],
                lambda work: by_name[work.task].tokens(work.lengths),
                [(Work(entry.task, tuple(entry.lengths)), entry.seconds) for entry in finished.values()],
            ) as bar,
            closing(share(folder, todo, position)) as shared,
        ):
            for key, theirs in shared:
                cell = todo[key]
                if theirs is None:
                    bar.start(cell.method, cell.work())
                    finished[key] = _run(cell, key, identity, model, installation, provenance["commit"], bar.advance)
                    append_cell(folder, finished[key])
                    bar.end(finished[key].error is None)
                else:
                    finished[key] = theirs
                    bar.skip(cell.work(), None if theirs.error else theirs.seconds)
    return Comparison([finished[key] for key in keys], left_out)


def _finished(folder: Path) -> tuple[dict[str, CellEntry], int]:
    """Return the finished cells of a journal by key, and the bytes read; damaged lines are told of and left out."""
    journal = read_journal(folder)
    for note in journal.notes():
        warnings.warn(f"{folder}: {note}", stacklevel=3)
    return {entry.key: entry for entry in journal.entries if entry.error is None}, journal.end


def _possible(
    model: PreTrainedModel, tasks: Sequence[Task], lengths: Sequence[int]
) -> tuple[list[tuple[Task, list[int]]], list[LeftOut]]:
    """Return the lengths that each task can measure, and the others with the task's own reason.

    Raises:
        ValueError: no task can measure any length.
    """
    possible, left_out = [], []
    for task in tasks:
        fitting = []
        for length in lengths:
            try:
                task.check(model, [length])
                fitting.append(length)
            except ValueError as refusal:
                left_out.append(LeftOut(task.name, length, " ".join(str(refusal).split())))
        if fitting:
            possible.append((task, fitting))
    if not possible:
        raise ValueError(f"{left_out[0].reason} (and no other task can measure any of the lengths {list(lengths)})")
    return possible, left_out


def plan_cells(
    methods: Mapping[str, Method | RescaleFactors], lengths: Sequence[int], task: Task, geometry: RopeGeometry
) -> Iterator[PlannedCell]:
    """Yield the cells of a task in the order in which they run."""
    protocol = task.protocol()
    for name, method in methods.items():
        static = isinstance(method, RescaleFactors) or not method.depends_on_length
        for group in [tuple(lengths)] if task.one_forward and static else [(length,) for length in lengths]:
            yield PlannedCell(name, method_key(method), _factors(method, geometry, max(group)), task, protocol, group)


def _factors(method: Method | RescaleFactors, geometry: RopeGeometry, length: int) -> RescaleFactors:
    if isinstance(method, RescaleFactors):
        return method
    return method.at_length(geometry, length).factors(geometry)


def _run(
    planned: PlannedCell,
    key: str,
    identity: str,
    model: PreTrainedModel,
    installation: Installation,
    commit: str | None,
    advance: Advance,
) -> CellEntry:
    started, memory, cell, counted = time.monotonic(), PeakMemory(), Cell(), [0]
    error, starved = None, False

    def count(tokens: int) -> None:
        counted[0] += tokens
        advance(tokens)

    installation.set([planned.factors])
    try:
        cell = planned.task.run(model, planned.lengths, count)
        if endless := [m for m in cell.measurements if not math.isfinite(m.estimate.value)]:
            raise ArithmeticError(f"{endless[0].metric} must be finite, got {endless[0].estimate.value}")
    except (RuntimeError, ValueError, ArithmeticError, MemoryError) as failure:  # out of memory is a RuntimeError
        cell, starved = Cell(), is_out_of_memory(failure)
        error = " ".join(f"{type(failure).__name__}: {failure}".split())
    if starved:
        free_memory()
    return CellEntry(
        key=key,
        identity=identity,
        method=planned.method,
        method_key=planned.method_key,
        factors=factors_as_json(planned.factors),
        task=planned.task.name,
        protocol=planned.protocol,
        lengths=list(planned.lengths),
        seconds=round(time.monotonic() - started, 3),
        tokens=counted[0],
        peak_memory_bytes=memory.read(),
        commit=commit,
        error=error,
        measurements=[[m.metric, m.length, *m.estimate] for m in cell.measurements],
        failures=[failure._asdict() for failure in cell.failures],
        records=cell.records,
    )
