"""What a report is made from: run folders, put together only where their numbers were measured alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..comparison.cells import CELLS_JSONL, collect, read_cells
from ..comparison.results import LeftOut, ResultRow, Results, read_results

RESULTS_JSON = "results.json"


@dataclass(frozen=True)
class Evaluation:
    """Numbers of one model that may stand in one table, and the records behind them."""

    sources: tuple[str, ...]
    """Run folders."""
    rows: list[ResultRow]
    records: dict[str, list[dict[str, Any]]]
    """By task: what the rows were computed from, one per document or sample, each with its `method`."""
    provenances: list[dict[str, Any]]
    """One per run folder."""
    failures: list[dict[str, Any]]
    costs: list[dict[str, Any]]
    left_out: list[LeftOut]

    @property
    def factors(self) -> dict[str, dict[str, Any]]:
        """Rescale factors by method, as they were installed for its longest length."""
        return {name: one for origin in self.provenances for name, one in origin.get("factors", {}).items()}

    @property
    def protocols(self) -> dict[str, dict[str, Any]]:
        """Protocol of each task."""
        return {task: one for origin in self.provenances for task, one in origin["protocols"].items()}


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read the results of a run folder, and of its journal the records that the results were computed from.

    Raises:
        ValueError: there is no `results.json`, or it is of another format.
    """
    folder = Path(folder)
    results = read_results(folder / RESULTS_JSON)
    try:
        return _read_evaluation(folder, results)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder} must be a folder as longrope evaluate wrote it, got {type(error).__name__}: {error}; restore "
            f"{RESULTS_JSON} and {CELLS_JSONL}, or evaluate again"
        ) from error


def _read_evaluation(folder: Path, results: Results) -> Evaluation:
    collected = collect(read_cells(folder), results.provenance, results.provenance["protocols"], {})
    behind = _by_place(results.rows)
    proven = {place for place, rows in _by_place(collected.results.rows).items() if behind.get(place) == rows}
    records = {
        task: [record for record in records if (record["method"], task, record["length"]) in proven]
        for task, records in collected.records.items()
    }
    provenance, failures = [results.provenance], results.failures
    return Evaluation((str(folder),), results.rows, records, provenance, failures, results.costs, results.left_out)


def combine(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Put evaluations together whose numbers compare: same model, dtype, kernel, and same protocol of shared tasks.

    Of methods that have the same name but differ, the later is called `NAME (FOLDER)`.
    """
    combined: list[Evaluation] = []
    for one in evaluations:
        partner = next((place for place, other in enumerate(combined) if _alike(other, one)), None)
        if partner is None:
            combined.append(one)
        else:
            combined[partner] = _joined(combined[partner], one)
    return combined


def only(evaluation: Evaluation, methods: Sequence[str]) -> Evaluation:
    """Return the rows and records of some methods."""
    rows = [row for row in evaluation.rows if row.method in methods]
    records = {
        task: [record for record in records if record["method"] in methods]
        for task, records in evaluation.records.items()
    }
    return replace(evaluation, rows=rows, records=records)


def _by_place(rows: Sequence[ResultRow]) -> dict[tuple[str, str, int], dict[str, ResultRow]]:
    places: dict[tuple[str, str, int], dict[str, ResultRow]] = {}
    for row in rows:
        places.setdefault((row.method, row.task, row.length), {})[row.metric] = row
    return places


def _alike(first: Evaluation, second: Evaluation) -> bool:
    one, other = first.provenances[0], second.provenances[0]
    same_model = _weights(one) == _weights(other) and all(one[name] == other[name] for name in ("dtype", "attention"))
    shared = first.protocols.keys() & second.protocols.keys()
    return same_model and all(first.protocols[task] == second.protocols[task] for task in shared)


def _weights(provenance: dict[str, Any]) -> Any:
    """Return what tells models apart: what they extend if that is told, else fingerprint or name."""
    if (extends := provenance.get("extends")) is not None:
        return extends
    model = provenance["model"]
    return model.get("sha256") or model.get("revision") or model["id"]


def _joined(first: Evaluation, second: Evaluation) -> Evaluation:
    second = _with_own_names(first, second)
    known = set(_by_place(first.rows))
    rows = [row for row in second.rows if (row.method, row.task, row.length) not in known]
    records = {task: list(records) for task, records in first.records.items()}
    for task, others in second.records.items():
        new = [record for record in others if (record["method"], task, record["length"]) not in known]
        records[task] = records.get(task, []) + new
    return Evaluation(
        first.sources + second.sources,
        first.rows + rows,
        records,
        first.provenances + second.provenances,
        first.failures + [failure for failure in second.failures if failure not in first.failures],
        first.costs + second.costs,
        first.left_out + [entry for entry in second.left_out if entry not in first.left_out],
    )


def _with_own_names(first: Evaluation, second: Evaluation) -> Evaluation:
    folder = Path(second.sources[0]).name
    names = {method: f"{method} ({folder})" for method in _conflicts(first, second)}

    def renamed(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [entry | {"method": names.get(entry["method"], entry["method"])} for entry in entries]

    factors = {names.get(name, name): one for name, one in second.factors.items()}
    return replace(
        second,
        rows=[replace(row, method=names.get(row.method, row.method)) for row in second.rows],
        records={task: renamed(records) for task, records in second.records.items()},
        failures=renamed(second.failures),
        costs=renamed(second.costs),
        provenances=[second.provenances[0] | {"factors": factors}],
    )


def _conflicts(first: Evaluation, second: Evaluation) -> set[str]:
    """Return the methods that have other factors, or another value of the same number, in the second evaluation."""
    conflicts = {name for name, one in second.factors.items() if first.factors.get(name, one) != one}
    known = _by_place(first.rows)
    for place, rows in _by_place(second.rows).items():
        if known.get(place, rows) != rows:
            conflicts.add(place[0])
    return conflicts
