"""The report of the quick start has a row over all seeds, and tells of each search what it said of itself."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from longrope.evaluation.comparison.results import ResultRow, provenance, write_results
from longrope.rope import RescaleFactors

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "quick_start.py"
GAINS = {"seed-0": {"mean": 0.01, "low": 0.002, "high": 0.02, "confidence": 0.8}, "seed-1": None}


def test_each_search_is_told_with_its_gain_and_intervals(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, llama
) -> None:
    script = runpy.run_path(str(SCRIPT))
    rows = [
        ResultRow(method, task, metric, length, value + length / 1e6, value - 0.1, value + 0.1, 3)
        for task, metric in script["METRICS"].items()
        for method, value in (("yarn", 0.5), ("seed-0", 0.3), ("seed-1", 0.7))
        for length in (64, 128)
    ]
    origin = provenance(llama, "tiny", {}, config={}, seed=0)
    write_results(tmp_path / "results.json", rows, origin, [])
    options = []
    for name, gain in GAINS.items():
        (tmp_path / name).mkdir()
        found = RescaleFactors(np.full(4, 2.0), 64, 128, 1e4, 8, provenance={} if gain is None else {"gain": gain})
        found.save(tmp_path / name / "factors.json")
        options.append(f"{name}={tmp_path / name}")
    report = tmp_path / "report"
    monkeypatch.setitem(script["main"].__globals__, "REPORT", report)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path), *options])
    script["main"]()
    text, numbers = report.with_suffix(".md").read_text(), json.loads(report.with_suffix(".json").read_text())
    assert "| longrope, 2 seeds: lowest" in text
    assert "1.00 % over the best baseline (80 % interval 0.20 to 1.98), which is sure" in text
    assert "nothing found" in text and "30 % [20 %, 40 %]" in text
    assert {name: one.get("gain") for name, one in numbers["searches"].items()} == GAINS
    assert len(numbers["rows"]) == len(rows)
