"""What runs the cells of a comparison: a model with factors in it, tasks, and the plan of what is measured.

Baselines are built for the target length once, so a row at a shorter length shows the same installed factors; methods
that depend on the length by definition (dynamic NTK) are built for each.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple, Self

from transformers import PreTrainedModel

from ...rope import Installation, Method, RescaleFactors, RopeGeometry, install
from ..scoring.batching import free_memory, is_out_of_memory
from ..scoring.resources import PeakMemory
from ..tasks.base import Advance, Cell, Task
from .cells import CellEntry, digest, factors_as_json, method_key, run_identity
from .progress import Work
from .results import LeftOut


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

    def blank(self, identity: str, commit: str | None) -> CellEntry:
        """Return the entry of the cell before it has run."""
        return CellEntry(
            key=self.key(identity),
            identity=identity,
            method=self.method,
            method_key=self.method_key,
            factors=factors_as_json(self.factors),
            task=self.task.name,
            protocol=self.protocol,
            lengths=list(self.lengths),
            seconds=0.0,
            tokens=0,
            peak_memory_bytes=None,
            commit=commit,
            error=None,
            measurements=[],
            failures=[],
            records=[],
        )


class Outline(NamedTuple):
    """What a comparison has to do, for whoever does not hold the model."""

    cells: list[CellEntry]
    """Entries of the cells before they have run, in the order of the plan."""
    tokens: dict[Work, int]
    """Tokens that each kind of work processes."""
    left_out: list[LeftOut]
    """Lengths that tasks refused."""
    provenance: dict[str, Any]


class CellRunner:
    """Runs cells with one model; a context manager that restores the model when it ends.

    Args:
        model: the base model, without any factors installed.
        methods: what to compare, by the name it is reported under.
        lengths: context lengths in tokens; a task leaves out those that it has no room in.
        tasks: e.g. `Perplexity(...)`, `Passkey(...)`; each name once.
        provenance: of `results.provenance`.
        original_length: context length of the pre-training, in tokens; default `max_position_embeddings`.

    Raises:
        ValueError: a method doesn't fit the model, or there is nothing to compare.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        methods: Mapping[str, Method | RescaleFactors],
        lengths: Sequence[int],
        tasks: Sequence[Task],
        provenance: dict[str, Any],
        original_length: int | None = None,
    ) -> None:
        if not (methods and lengths and tasks):
            raise ValueError(f"methods, lengths and tasks must not be empty, got {list(methods)}, {lengths}, {tasks}")
        names = [task.name for task in tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"tasks must have different names, got {', '.join(names)}; name each one once")
        self._model, self._provenance, self._advance = model, provenance, _ignore
        self._identity, self._commit = run_identity(provenance), provenance["commit"]
        self._installation = install(model, original_length)
        try:
            possible, self._left_out = _possible(model, tasks, sorted(set(lengths)))
            geometry = self._installation.geometry
            plan = [cell for task, fitting in possible for cell in plan_cells(methods, fitting, task, geometry)]
        except BaseException:
            self._installation.restore()
            raise
        self._plan = {cell.key(self._identity): cell for cell in plan}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._installation.restore()

    def outline(self) -> Outline:
        """Return what there is to do."""
        cells = self._plan.values()
        work = {Work(cell.task.name, cell.lengths): cell.task for cell in cells}
        return Outline(
            [cell.blank(self._identity, self._commit) for cell in cells],
            {one: task.tokens(one.lengths) for one, task in work.items()},
            self._left_out,
            self._provenance,
        )

    def listen(self, advance: Advance) -> None:
        """Call a function with the tokens processed, as they are."""
        self._advance = advance

    def run(self, key: str) -> CellEntry:
        """Run a cell and return its entry, which has the error if it failed.

        Raises:
            ValueError: this plan has no such cell, so another program made the outline.
        """
        if key not in self._plan:
            raise ValueError(f"key must be of a cell of this plan, got {key}; run the same longrope on all machines")
        return _run(self._plan[key], self._identity, self._model, self._installation, self._commit, self._advance)


def _ignore(tokens: int) -> None:
    pass


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
    return replace(
        planned.blank(identity, commit),
        seconds=round(time.monotonic() - started, 3),
        tokens=counted[0],
        peak_memory_bytes=memory.read(),
        error=error,
        measurements=[[m.metric, m.length, *m.estimate] for m in cell.measurements],
        failures=[failure._asdict() for failure in cell.failures],
        records=cell.records,
    )
