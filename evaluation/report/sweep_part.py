"""A sweep as a part of a report: what to take at each length, and all configurations behind that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...rope.parsing import read_json
from . import sections, sweep_sections
from .advice import Advice, advice_rows, advise, sentence, things
from .answers import loading
from .document import Part, Section
from .metrics import headlines, suites
from .numbers import Rows
from .points import method_rows, rank_points
from .relations import families
from .runs import RESULTS_JSON, Evaluation, only, read_evaluation
from .tables import cost_rows

SWEEP_JSON = "sweep.json"
HELD_OUT = "held-out"
"""Folder in that of a sweep: the evaluation of the best of each method on what did not choose."""
FORMAT = "longrope-sweep"
VERSION = 2
MAX_BYTES = 2**28
"""Largest `sweep.json`."""


@dataclass(frozen=True)
class SweepRun:
    """A sweep as its folder has it."""

    tuning: Evaluation
    """Every configuration on the documents that choose."""
    held_out: Evaluation | None
    """The best of each method on others; None: not tested."""
    target_length: int
    """Tokens that configurations are ranked at."""
    task: str
    """Task that they are ranked by, and its metric."""
    metric: str


def read_sweep_run(folder: str | Path) -> SweepRun:
    """Read the folder of a sweep.

    Raises:
        ValueError: it is no such folder, or of another version.
    """
    folder = Path(folder)
    try:
        content: Any = read_json(folder / SWEEP_JSON, MAX_BYTES)
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {content['format']} {content['version']} instead of {FORMAT} {VERSION}")
        length, task, metric = content["target_length"], content["task"], content["metric"]
        specs = [point["spec"] for point in content["points"]]
        if (type(length), type(task), type(metric)) != (int, str, str):
            raise ValueError(f"target_length, task and metric are {length!r}, {task!r} and {metric!r}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{folder / SWEEP_JSON} must be as longrope sweep wrote it, got: {reason}; sweep again, finished points "
            "are kept"
        ) from error
    tested = read_evaluation(folder / HELD_OUT) if (folder / HELD_OUT / RESULTS_JSON).is_file() else None
    run = SweepRun(only(read_evaluation(folder), specs), tested, length, task, metric)
    if not any((row.task, row.metric, row.length) == (task, metric, length) for row in run.tuning.rows):
        raise ValueError(
            f"{folder} must hold results of {task} {metric} at {length} tokens, which it is ranked by, got none; sweep "
            "again"
        )
    return run


def sweep_part(run: SweepRun, suffix: str = "") -> tuple[Part, dict[str, Rows]]:
    """Return everything about one sweep, and the numbers behind it by file name, one file per method among them.

    Args:
        run: what was measured.
        suffix: of the names of its CSV files.
    """
    tuning, rows = run.tuning, run.tuning.rows
    metrics = _metrics(run)
    points = rank_points(rows, tuning.records, run.task, run.metric, run.target_length, sections.SEED)
    advices = [
        advise(tuning, run.held_out, task, metric, length, (run.task, run.metric), sections.SEED)
        for task, metric in metrics.items()
        for length in _lengths(run, task, metric)
    ]
    main = next(one for one in advices if (one.best.task, one.best.length) == (run.task, run.target_length))
    body = [
        sweep_sections.choice_section(main, advices),
        sweep_sections.top_section(points, rows, metrics, run.task, run.metric, run.target_length),
        *(
            sweep_sections.task_section(rows, task, metric, _lengths(run, task, metric), _original_length(tuning))
            for task, metric in metrics.items()
        ),
        sections.sensitivity_section(rows, run.task, run.metric, run.target_length),
        sections.correlation_section(rows, metrics),
        sections.failure_section(tuning),
        sections.method_section(),
        sections.provenance_section(_by_family(tuning), f"costs{suffix}"),
        *_about_test(run.held_out, f"held-out-costs{suffix}"),
    ]
    best = main.best.method
    findings = [sentence(one) for one in advices if one is not main]
    findings.append(loading(best, tuning.factors.get(best), tuning.provenances[0].get("config", {})))
    title = f"{Path(tuning.provenances[0]['model']['id']).name}: sweep"
    part = Part(title, _facts(run, metrics, main), sentence(main), findings, [one for one in body if one])
    return part, _csv(run, points, advices, suffix)


def _about_test(held_out: Evaluation | None, csv: str) -> list[Section]:
    """Return failures and provenance of the test."""
    if held_out is None:
        return []
    found = [sections.failure_section(held_out), sections.provenance_section(_by_family(held_out), csv)]
    return [replace(one, title=f"The test: {one.title[0].lower()}{one.title[1:]}") for one in found if one]


def _metrics(run: SweepRun) -> dict[str, str]:
    """Return the metric of each task: the headline, of the first task that of the ranking."""
    rows = run.tuning.rows
    members = {task: metric for of_suite in suites(rows).values() for task, metric in of_suite.items()}
    return {run.task: run.metric} | {t: m for t, m in (headlines(rows) | members).items() if t != run.task}


def _lengths(run: SweepRun, task: str, metric: str) -> list[int]:
    """Return the lengths of a task, the longest first."""
    found = {row.length for row in run.tuning.rows if (row.task, row.metric) == (task, metric)}
    return sorted(found, reverse=True)


def _facts(run: SweepRun, metrics: Mapping[str, str], main: Advice) -> str:
    specs = list(dict.fromkeys(row.method for row in run.tuning.rows))
    lengths = ", ".join(f"{length:,}" for length in sorted({row.length for row in run.tuning.rows}))
    original, model = _original_length(run.tuning), run.tuning.provenances[0]["model"]["id"]
    trained = "" if original is None else f" trained on {original:,} tokens"
    tested = main.tested.get(main.best.method)
    test = "" if tested is None else f" and tested on {tested.n} others"
    tasks = f"{len(metrics)} task{'s' if len(metrics) > 1 else ''}"
    return (
        f"{model}{trained}: {len(specs)} configurations of {len(families(specs))} methods on {tasks} at {lengths} "
        f"tokens, chosen on {main.best.n} {things(main.best.metric)}{test}"
    )


def _original_length(evaluation: Evaluation) -> int | None:
    return next((one["original_length"] for one in evaluation.factors.values()), None)


def _by_family(evaluation: Evaluation) -> Evaluation:
    """Return it with costs that are summed up by method, not by configuration."""
    costs = [cost | {"method": cost["method"].partition(":")[0]} for cost in evaluation.costs]
    return replace(evaluation, costs=costs)


def _csv(run: SweepRun, points: Sequence[Any], advices: Sequence[Advice], suffix: str) -> dict[str, Rows]:
    found: dict[str, Rows] = {f"results{suffix}": [vars(row) for row in run.tuning.rows]}
    found[f"advice{suffix}"] = advice_rows(advices)
    found[f"costs{suffix}"] = cost_rows(run.tuning.costs)
    if run.held_out is not None:
        found[f"held-out-results{suffix}"] = [vars(row) for row in run.held_out.rows]
        found[f"held-out-costs{suffix}"] = cost_rows(run.held_out.costs)
    return found | {f"methods{suffix}/{method}": rows for method, rows in method_rows(run.tuning.rows, points).items()}
