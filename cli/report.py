"""`longrope report`: what runs have measured, as one page for readers and as CSV for programs."""

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..evaluation.comparison.cells import read_journal
from ..evaluation.report.build import build_report
from ..evaluation.report.numbers import SearchCurve
from ..evaluation.report.runs import RESULTS_JSON, combine, read_evaluation
from ..evaluation.report.sweep_part import SWEEP_JSON, read_sweep_run
from ..evaluation.report.writing import write_report
from ..evolution import search_curve
from ..rope import load_factors
from .configs import ReportConfig

HISTORY_JSONL = "history.jsonl"
FACTORS_JSON = "factors.json"


def run(config: ReportConfig) -> None:
    """Read the run folders, write the report, and print its verdict."""
    folders = _folders(config.runs)
    for folder in folders.values():
        for note in read_journal(folder).notes():
            print(f"note: {folder}: {note}")
    sweeps = {folder: read_sweep_run(folder) for folder in folders.values() if (folder / SWEEP_JSON).is_file()}
    measured = [folder for folder in folders.values() if (folder / RESULTS_JSON).is_file() and folder not in sweeps]
    evaluations = combine([read_evaluation(folder) for folder in measured])
    searches = {name: _curve(folder) for name, folder in folders.items() if (folder / HISTORY_JSONL).is_file()}
    searched = {
        name: load_factors(folder / FACTORS_JSON)
        for name, folder in folders.items()
        if (folder / FACTORS_JSON).is_file()
    }
    report = build_report(evaluations, searches, searched, list(sweeps.values()))
    output = Path(config.output_dir)
    write_report(report, output, lambda pictures: tqdm(pictures, desc="figures", disable=None))
    for part in report.parts:
        print(part.verdict)
    print(f"saved: {output / 'report.html'}, {output / 'report.md'}, figures and CSV in {output}")


def _folders(runs: tuple[str, ...]) -> dict[str, Path]:
    """Return the run folders by name: the last part of the path, or the whole path where that is not enough."""
    paths = list(dict.fromkeys(Path(run) for run in runs))
    for path in paths:
        if not any((path / name).is_file() for name in (RESULTS_JSON, HISTORY_JSONL)):
            raise ValueError(
                f"runs must be folders with {RESULTS_JSON} or {HISTORY_JSONL}, got {path}; "
                "name the output folder of an evaluation or a search"
            )
    names = [path.resolve().name for path in paths]
    return {name if names.count(name) == 1 else str(path): path for name, path in zip(names, paths, strict=True)}


def _curve(folder: Path) -> SearchCurve:
    points = search_curve(folder)
    columns: list[Any] = [np.array([getattr(point, name) for point in points]) for name in SearchCurve._fields]
    return SearchCurve(*columns)
