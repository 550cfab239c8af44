"""`longrope evaluate`: methods x lengths x tasks under one protocol; results.json, a table and plots."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.comparison.cells import Collected, collect, method_key, read_cells
from ..evaluation.comparison.compare import run_cells
from ..evaluation.comparison.methods import Methods, build_methods
from ..evaluation.comparison.results import LeftOut, ResultRow, Results, read_results, write_results
from ..evaluation.comparison.ruler_means import ruler_means
from ..evaluation.comparison.runner import CellRunner
from ..evaluation.data.tokenized import TokenizedDocuments
from ..evaluation.report.figures import draw_accuracy, draw_lambdas, draw_perplexity, draw_search
from ..evaluation.report.numbers import SearchCurve, curves, lambda_profiles
from ..evaluation.report.table import render_tables
from ..evaluation.scoring.model import read_config
from ..evolution import search_curve
from ..execution import only
from ..rope import Method, RescaleFactors, RopeGeometry, write_atomically
from ..rope.describe import describe_rope
from ..rope.files import lock_file
from .comparison_configs import EvaluateConfig
from .comparison_worker import ComparisonFactory
from .documents import EVALUATION_DOCUMENTS, load_documents
from .executors import open_executor
from .longppl import compared_evaluator
from .preflight import preflight
from .tasks import check_data, missing_data, task_names

RESULTS_JSON = "results.json"
RESULTS_LOCK = ".results.lock"


def run(config: EvaluateConfig, extends: str | None = None) -> None:
    """Compare methods and factors; print the tables and write them with their numbers and figures.

    Args:
        config: the options.
        extends: what the model was tuned from; a report puts evaluations of the same into one table.
    """
    _check(config)
    preflight(config, max(config.lengths))
    geometry = describe_rope(read_config(config.model), config.original_length).geometry
    chosen = build_methods(
        config.methods,
        config.factors,
        geometry,
        config.lengths,
        config.target_length,
        config.csv_attention_factor,
    )
    methods, folder = chosen.by_name, Path(config.output_dir)
    _warn(config, geometry, methods)
    with open_executor(config, ComparisonFactory(config, methods, _documents(config, chosen), extends)) as executor:
        outline = only(executor, CellRunner.outline)
        compared = run_cells(executor, outline, folder)
    origin, protocols = outline.provenance, outline.provenance["protocols"]
    keys = {name: method_key(method) for name, method in methods.items()}
    missing = [LeftOut(task, max(config.lengths), reason) for task, reason in missing_data(config).items()]
    with lock_file(folder / RESULTS_LOCK):  # another command may have added cells, and writes the same files
        collected = collect(read_cells(folder), origin, protocols, keys)
        collected.results.rows.extend(ruler_means(collected.results.rows))
        left_out = _write(folder, collected, compared.left_out + missing, [*protocols, *missing_data(config)])
    _draw(config, collected.results.rows, methods, geometry, folder)
    print(_tables(collected.results))
    _tell(collected, left_out, folder)
    if compared.failures:
        raise RuntimeError(f"{len(compared.failures)} cells or samples failed; {folder / RESULTS_JSON} lists them")


def _documents(config: EvaluateConfig, chosen: Methods) -> TokenizedDocuments | None:
    """Return the evaluation documents, without those that factors were searched on; None if none are given."""
    if config.tokenized is None:
        return None
    for name in chosen.untold:
        print(f"note: the factors of {name} don't tell their search documents; make sure these are others")
    min_tokens = max(*config.lengths, config.dataset_min_tokens or 0)
    return load_documents(
        config.tokenized, min_tokens, config.samples, EVALUATION_DOCUMENTS, exclude=chosen.seen_documents
    )


def _warn(config: EvaluateConfig, geometry: RopeGeometry, methods: dict[str, Method | RescaleFactors]) -> None:
    """Warn if the evaluator of LongPPL is one of the compared methods."""
    if config.longppl_evaluator is None or "longppl" not in task_names(config):
        return
    for name in compared_evaluator(config.longppl_evaluator, config.model, geometry, methods):
        print(
            f"warning: longppl_evaluator {config.longppl_evaluator} is the compared method {name}: it chooses the "
            "tokens that it predicts well, so LongPPL favours it; leave the option out for a neutral evaluator",
            file=sys.stderr,
        )


def _tables(results: Results) -> str:
    return render_tables(results.rows, results.provenance["protocols"])


def _check(config: EvaluateConfig) -> None:
    if not config.lengths or min(config.lengths) < 2:
        raise ValueError(f"lengths must be at least one number of 2 or more tokens, got {list(config.lengths)}")
    check_data(config)
    for name, value in asdict(config).items():
        if type(value) is int and name != "seed" and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if config.seed < 0:
        raise ValueError(f"seed must be at least 0, got {config.seed}")


def _write(folder: Path, collected: Collected, left_out: list[LeftOut], tasks: list[str]) -> list[LeftOut]:
    """Write results, tables and answers; return what is left out, that of the folder's other tasks included."""
    results, path = collected.results, folder / RESULTS_JSON
    earlier = read_results(path).left_out if path.is_file() else []
    left_out = [entry for entry in earlier if entry.task not in tasks] + left_out
    write_results(path, results.rows, results.provenance, results.failures, results.costs, left_out)
    write_atomically(folder / "table.md", _tables(results))
    for task, records in collected.records.items():
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomically(folder / "predictions" / f"{task.replace(':', '-')}.jsonl", lines)
    return left_out


def _tell(collected: Collected, left_out: list[LeftOut], folder: Path) -> None:
    for entry in left_out:
        print(f"note: {entry.task} left out at {entry.length}: {entry.reason}")
    for (method, task), cells in collected.set_aside.items():
        print(
            f"note: {cells} earlier cells of {method} on {task} are not in the results: they were measured with "
            "other factors or another protocol (lengths, samples and target length decide both)"
        )
    for failure in collected.results.failures:
        print("failed: {method} {task} {length} {item}: {error}".format(**failure))
    print(f"saved: {folder / RESULTS_JSON}, {folder / 'table.md'}, answers in predictions/ and plots in {folder}")


def _draw(
    config: EvaluateConfig,
    rows: list[ResultRow],
    methods: dict[str, Method | RescaleFactors],
    geometry: RopeGeometry,
    folder: Path,
) -> None:
    length = geometry.original_length
    if perplexities := curves(rows, "perplexity", "token_weighted"):
        draw_perplexity(perplexities, length, folder / "perplexity.png")
    if accuracies := curves(rows, "passkey", "accuracy"):
        draw_accuracy(accuracies, length, folder / "passkey.png")
    factors = {name: one if isinstance(one, RescaleFactors) else one.factors(geometry) for name, one in methods.items()}
    draw_lambdas(lambda_profiles(factors, geometry), folder / "lambdas.png")
    if config.search_run:
        points = search_curve(config.search_run)
        columns: list[Any] = [np.array([getattr(p, name) for p in points]) for name in SearchCurve._fields]
        draw_search(SearchCurve(*columns), folder / "search.png")
