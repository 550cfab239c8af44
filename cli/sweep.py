"""`longrope sweep`: the baselines over their own parameters, ranked, and the best of each tested on other documents."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ..evaluation.comparison.cells import collect, method_key, read_cells
from ..evaluation.comparison.compare import run_cells
from ..evaluation.comparison.results import ResultRow, write_results
from ..evaluation.comparison.runner import CellRunner
from ..evaluation.comparison.sweep import read_sweep
from ..evaluation.data.tokenized import TokenizedDocuments, count_documents
from ..evaluation.report.answers import UNMODIFIED
from ..evaluation.report.build import build_report
from ..evaluation.report.metrics import measure, metric_label
from ..evaluation.report.points import Point, finalists, rank_points
from ..evaluation.report.relations import parse_spec
from ..evaluation.report.runs import RESULTS_JSON, Evaluation, read_evaluation
from ..evaluation.report.runs import only as chosen_of
from ..evaluation.report.sweep_part import FORMAT, HELD_OUT, SWEEP_JSON, VERSION, read_sweep_run
from ..evaluation.report.writing import write_report
from ..evaluation.scoring.model import read_config
from ..execution import only
from ..hyperparams import sweep_file
from ..rope import Method, build_method, write_atomically
from ..rope.describe import describe_rope
from ..rope.files import lock_file
from .comparison_configs import SweepConfig
from .comparison_worker import ComparisonFactory
from .documents import LEAST_DOCUMENTS, load_documents
from .evaluate import RESULTS_LOCK
from .executors import open_executor
from .preflight import preflight
from .tasks import check_data, task_names

SHOWN = 10
SAMPLES = 5
"""Tuning documents where the user does not say how many."""


def run(config: SweepConfig) -> None:
    """Measure every point, test the best of each method on other documents, and write what to take."""
    config = replace(config, lengths=_check(config))
    geometry = describe_rope(read_config(config.model), config.original_length).geometry
    ratio = max(1.0, config.target_length / geometry.original_length)
    methods = {spec: build_method(spec, ratio) for spec in (UNMODIFIED, *_points(config, ratio))}
    for method in methods.values():  # a dry run refuses what a run would
        method.at_length(geometry, config.target_length).factors(geometry)
    if config.dry_run:
        print("\n".join(methods) + f"\n{len(methods)} points")
        return
    preflight(config, max(config.lengths))
    data, folder = _tuning_documents(config), Path(config.output_dir)
    failures = _measure(config, methods, data)
    tuning = chosen_of(read_evaluation(folder), list(methods))
    ranked_by = _ranked_by(config, tuning.rows, failures)
    points = rank_points(tuning.rows, tuning.records, *ranked_by, config.target_length, config.seed)
    failures += _test(config, methods, tuning, ranked_by, data)
    _write(config, points, ranked_by, failures, tuning.provenances[0], data)
    if failures:
        raise RuntimeError(f"{len(failures)} cells, documents or samples failed; {folder / SWEEP_JSON} lists them")


def _check(config: SweepConfig) -> tuple[int, ...]:
    """Return the lengths to measure."""
    lengths = sorted({config.target_length, *config.lengths})
    if lengths[0] < 2:
        raise ValueError(f"target_length and lengths must be at least 2 tokens, got {lengths[0]}; give longer ones")
    for name in ("samples", "num_samples", "best", "batch_size"):
        if (value := getattr(config, name)) is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if config.held_out < 0:
        raise ValueError(f"held_out must be at least 0, got {config.held_out}; 0 tests nothing")
    check_data(config)
    names = task_names(config)
    if config.rank_by is not None and config.rank_by.partition("/")[0] not in names:
        known = ", ".join(names)
        raise ValueError(f"rank_by must be one of the tasks {known}, got {config.rank_by}; add it to --tasks")
    return tuple(lengths)


def _points(config: SweepConfig, ratio: float) -> list[str]:
    """Return the texts of all points, each once."""
    specs: list[str] = []
    for name in config.sweeps:
        sweep = read_sweep(sweep_file(name))
        specs += (
            sweep.grid(ratio) if config.num_samples is None else sweep.samples(ratio, config.num_samples, config.seed)
        )
    if not specs:
        raise ValueError("sweeps must be at least one, such as yarn, got none")
    return list(dict.fromkeys(specs))


def _tuning_documents(config: SweepConfig) -> TokenizedDocuments | None:
    if config.tokenized is None:
        return None
    return load_documents(config.tokenized, _min_tokens(config), config.samples, SAMPLES, config.seed)


def _min_tokens(config: SweepConfig) -> int:
    return max(*config.lengths, config.dataset_min_tokens or 0)


def _measure(
    config: SweepConfig,
    methods: Mapping[str, Method],
    data: TokenizedDocuments | None,
    chosen: Mapping[str, Sequence[str]] | None = None,
) -> list[dict[str, Any]]:
    """Measure points on the tasks and write their results; return what failed.

    Args:
        config: with all lengths.
        methods: all points by their text, and the model as it is, so that no advice is worse than changing nothing.
        data: documents of the tasks.
        chosen: points by task; None: all points on all tasks.
    """
    folder = Path(config.output_dir)
    with open_executor(config, ComparisonFactory(config, methods, data)) as executor:
        outline = only(executor, CellRunner.outline)
        if chosen is not None:
            cells = [cell for cell in outline.cells if cell.method in chosen.get(cell.task, ())]
            outline = outline._replace(cells=cells)
        compared = run_cells(executor, outline, folder)
    keys = {spec: method_key(method) for spec, method in methods.items()}
    origin, protocols = outline.provenance, outline.provenance["protocols"]
    path = folder / RESULTS_JSON
    with lock_file(folder / RESULTS_LOCK):  # another command may have added cells, and writes the same file
        results = collect(read_cells(folder), origin, protocols, keys).results
        write_results(path, results.rows, results.provenance, results.failures, results.costs, compared.left_out)
    return compared.failures


def _ranked_by(config: SweepConfig, rows: Sequence[ResultRow], failures: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Return the task and the metric that points are ranked by."""
    task, _, metric = (config.rank_by or task_names(config)[0]).partition("/")
    found = [row.metric for row in rows if (row.task, row.length) == (task, config.target_length)]
    if not found and failures:
        raise RuntimeError(f"all points failed on {task}, first: {failures[0]['error']}")
    if not found or (metric and metric not in found):
        known = ", ".join(dict.fromkeys(found)) or "none"
        raise ValueError(
            f"rank_by must be a task and a metric that it has at {config.target_length} tokens ({known}), got "
            f"{config.rank_by or task}; choose another, the points are kept"
        )
    return task, metric or found[0]


def _test(
    config: SweepConfig,
    methods: Mapping[str, Method],
    tuning: Evaluation,
    ranked_by: tuple[str, str],
    data: TokenizedDocuments | None,
) -> list[dict[str, Any]]:
    """Measure the best of each method, by every task and length, on what did not choose; return what failed."""
    if config.held_out == 0:
        return []
    others = None
    if data is not None:
        left = count_documents(str(config.tokenized), _min_tokens(config)) - len(data.documents)
        if left < LEAST_DOCUMENTS:
            print(f"note: {config.tokenized} has {left} documents left to test the choice on: it is not tested")
            return []
        wanted, seen = config.held_out * len(data.documents), [document.digest for document in data.documents]
        others = load_documents(str(config.tokenized), _min_tokens(config), None, wanted, config.seed, exclude=seen)
    chosen: dict[str, list[str]] = {}
    for task, metric, length in dict.fromkeys((row.task, row.metric, row.length) for row in tuning.rows):
        best = finalists(tuning.rows, task, metric, length, ranked_by)
        chosen[task] = list(dict.fromkeys([*chosen.get(task, ()), *(row.method for row in best)]))
    times = config.held_out
    again = replace(
        config,
        output_dir=str(Path(config.output_dir) / HELD_OUT),
        seed=config.seed + 1,  # other prompts
        passkey_trials=times * config.passkey_trials,
        needle_trials=times * config.needle_trials,
        ruler_samples=times * config.ruler_samples,
    )
    return _measure(again, methods, others, chosen)


def _write(
    config: SweepConfig,
    points: Sequence[Point],
    ranked_by: tuple[str, str],
    failures: Sequence[Mapping[str, Any]],
    origin: dict[str, Any],
    data: TokenizedDocuments | None,
) -> None:
    """Write and print the ranking, and the report."""
    folder = Path(config.output_dir)
    write_atomically(folder / SWEEP_JSON, _as_json(config, points, ranked_by, failures, origin))
    write_atomically(folder / "sweep.csv", _as_csv(points))
    write_atomically(folder / "best.yaml", _as_yaml(config, points, ranked_by, data))
    report = build_report([], {}, {}, [read_sweep_run(folder)])
    write_report(report, folder)
    print(_table(points, config.target_length, ranked_by[1]))
    print("\n".join([report.parts[0].verdict, *report.parts[0].findings]))
    print(f"saved: {folder / 'report.html'}, report.md, figures, methods/ (one CSV each), {SWEEP_JSON}, sweep.csv")
    print("best.yaml holds the best of each method; compare them on other documents:")
    print(f"longrope evaluate --methods {UNMODIFIED} @{folder / 'best.yaml'} ...")


def _as_json(
    config: SweepConfig,
    points: Sequence[Point],
    ranked_by: tuple[str, str],
    failures: Sequence[Mapping[str, Any]],
    origin: dict[str, Any],
) -> str:
    facts = {"format": FORMAT, "version": VERSION, "provenance": origin, "target_length": config.target_length}
    facts |= {"task": ranked_by[0], "metric": ranked_by[1]}
    facts |= {"points": [point._asdict() for point in points], "failures": failures}
    return json.dumps(facts, indent=1, allow_nan=False) + "\n"


def _as_csv(points: Sequence[Point]) -> str:
    """Return one row per point, with a column for each parameter that any of them has."""
    parameters = [parse_spec(point.spec)[1] for point in points]
    names = list(dict.fromkeys(name for one in parameters for name in one))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*Point._fields, *names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**point._asdict(), **one} for point, one in zip(points, parameters, strict=True))
    return text.getvalue()


def _as_yaml(
    config: SweepConfig, points: Sequence[Point], ranked_by: tuple[str, str], data: TokenizedDocuments | None
) -> str:
    best: list[str] = []
    for method in dict.fromkeys(point.method for point in points if point.method != UNMODIFIED):
        best += [point.spec for point in points if point.method == method][: config.best]
    documents = [] if data is None else [document.digest for document in data.documents]
    content = {"methods": best, "tuned_documents": documents}
    by = f"{measure(*ranked_by)} at {config.target_length} tokens"
    note = f"# Each method at its best by {by}; longrope evaluate leaves the tuned documents out.\n"
    return note + yaml.safe_dump(content, sort_keys=False, width=1000)


def _table(points: Sequence[Point], length: int, metric: str) -> str:
    """Return the best points of each method, as many as `SHOWN`; `=` marks those not proven worse than its best."""
    lines = []
    for method in dict.fromkeys(point.method for point in points):
        alike = [point for point in points if point.method == method]
        what = f"{metric_label(metric)} at {length} tokens"
        lines.append(f"{method}: {len(alike)} points, {what}, = not proven worse than the best")
        lines += [f"{p.rank:5d} {'=' if p.tied else ' '} {p.value:10.4f}  {p.spec}" for p in alike[:SHOWN]]
    return "\n".join(lines)
