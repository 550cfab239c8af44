"""The comparison: methods x tasks x lengths under one protocol, resumable cell by cell."""

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from ...execution import Executor, InlineExecutor, TaskFuture, TaskLost, only
from ...rope import Method, RescaleFactors
from ..tasks.base import Task
from .cells import CellEntry, append_cell, failures, read_journal
from .progress import ComparisonBar, Work
from .results import LeftOut, ResultRow
from .runner import CellRunner, Outline
from .sharing import SharedCells


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


def compare(
    model: PreTrainedModel,
    methods: Mapping[str, Method | RescaleFactors],
    lengths: Sequence[int],
    tasks: Sequence[Task],
    folder: str | Path,
    provenance: dict[str, Any],
    original_length: int | None = None,
) -> Comparison:
    """Measure every method on every task at every length with a model that is here; see `run_cells`.

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
    with CellRunner(model, methods, lengths, tasks, provenance, original_length) as runner:
        return run_cells(InlineExecutor(lambda _: runner), runner.outline(), folder)


def run_cells(executor: Executor[CellRunner], outline: Outline, folder: str | Path) -> Comparison:
    """Run the cells of an outline that have not finished.

    Each cell is appended to `cells.jsonl` in the folder as it ends; called again with the same arguments, finished
    cells are read instead of run, and failed ones are tried again. Processes that do so at the same time share the
    cells: each is run by one of them, and all return the same.

    Args:
        executor: whose workers hold the model, tasks and methods that the outline is of.
        outline: of one of them.
        folder: where `cells.jsonl` is kept.
    """
    folder = Path(folder)
    finished, position = _finished(folder)
    todo = {cell.key: cell for cell in outline.cells if cell.key not in finished}
    known = [(_work(entry), entry.seconds) for entry in finished.values()]
    with (
        ComparisonBar(list(map(_work, todo.values())), outline.tokens, known, executor.num_workers) as bar,
        SharedCells(folder, todo, position) as shared,
    ):
        if executor.in_process:
            only(executor, CellRunner.listen, bar.advance)
        running: dict[TaskFuture[CellEntry], CellEntry] = {}
        while True:
            while len(running) < executor.num_workers and (claimed := shared.claim(wait=not running)):
                key, theirs = claimed
                if theirs is None:
                    bar.start(todo[key].method, _work(todo[key]))
                    running[executor.submit(CellRunner.run, key)] = todo[key]
                else:
                    finished[key] = theirs
                    bar.skip(_work(theirs), None if theirs.error else theirs.seconds)
            if not running:
                break
            ended = next(executor.as_completed(running))
            entry = _entry(ended, running.pop(ended))
            append_cell(folder, entry)
            shared.release(entry.key)
            finished[entry.key] = entry
            bar.end(entry.method, _work(entry), entry.seconds, entry.error is None)
    return Comparison([finished[cell.key] for cell in outline.cells], outline.left_out)


def _entry(ended: Future[CellEntry], blank: CellEntry) -> CellEntry:
    """Return what a worker made of a cell; one that lost its workers again and again has failed."""
    try:
        return ended.result()
    except TaskLost as loss:
        return replace(blank, error=f"TaskLost: {loss}")


def _work(entry: CellEntry) -> Work:
    return Work(entry.task, tuple(entry.lengths))


def _finished(folder: Path) -> tuple[dict[str, CellEntry], int]:
    """Return the finished cells of a journal by key, and the bytes read; damaged lines are told of and left out."""
    journal = read_journal(folder)
    for note in journal.notes():
        warnings.warn(f"{folder}: {note}", stacklevel=3)
    return {entry.key: entry for entry in journal.entries if entry.error is None}, journal.end
