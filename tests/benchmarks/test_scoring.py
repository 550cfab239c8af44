"""The benchmark of scoring runs anywhere with small models, and the card's script says so where there is no card."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.scoring import __main__ as scoring
from benchmarks.scoring.cells import Cell, growth

ROOT = Path(__file__).parents[2]
SMALL = ["--device", "cpu", "--rounds", "2", "--candidates", "2", "--memory-length", "600"]


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> dict[str, Any]:
    """Run the benchmark in this process, its memory passes in others, and return its report."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["scoring", *SMALL, "--output-dir", str(folder), *options])
    threads = torch.get_num_threads()
    try:
        scoring.main()
    finally:
        torch.set_num_threads(threads)
    return json.loads((folder / "scoring.json").read_text())


def test_every_length_is_measured_and_short_ones_beside_the_other_ways(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = run(monkeypatch, tmp_path, "--cells", "random-2x64x256:128,64,192", "--compare-to", "64")
    cells = report["cells"]
    assert [(cell["kernel"], cell["length"], cell["candidates"]) for cell in cells] == [
        ("sdpa", length, 2) for length in (64, 128, 192)
    ]
    assert all(cell["error"] is None and cell["tokens_per_second"] > 0 and cell["tflops"] > 0 for cell in cells)
    assert [len(cell["vs_bare_forward"]) for cell in cells] == [2, 0, 0]
    assert report["vs_labels_call"] == pytest.approx(sum(cells[0]["vs_labels_call"]) / 2)
    assert report["peak_memory_ratio"] == report["peak_memory"]["score"] / report["peak_memory"]["labels"] < 1
    assert report["growth"][0]["lengths"] == [64, 128, 192] and report["search"] is None
    assert "| random-2x64x256 | sdpa | 64 | 2 |" in (tmp_path / "scoring.md").read_text()


def test_a_length_there_is_no_time_for_is_left_out_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scoring, "peak_memory", lambda name, length: {"length": length, "error": "not asked"})
    cells = run(monkeypatch, tmp_path, "--cells", "random-1x64x256:64,128", "--minutes", "0")["cells"]
    assert (cells[1]["tokens_per_second"], cells[1]["error"].split(",")[0]) == (None, "left out")
    assert "| random-1x64x256 | sdpa | 128 | 2 | left out" in (tmp_path / "scoring.md").read_text()


def test_the_exponent_is_that_of_the_times() -> None:
    cells = [Cell("m", "sdpa", length, 1, seconds=[1e-6 * length**1.5]) for length in (64, 128, 512)]
    found = growth(cells, "m")
    assert found is not None and math.isclose(found["exponent"], 1.5)
    assert found["between_neighbours"] == pytest.approx([1.5, 1.5])
    assert growth(cells[:2], "m") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_the_script_ends_with_one_sentence() -> None:
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    script = subprocess.run(
        ["bash", ROOT / "benchmarks" / "gpu.sh"], capture_output=True, text=True, env=environment, check=False
    )
    assert script.returncode == 1
    assert script.stderr.startswith("benchmarks/gpu.sh needs a CUDA device, and torch finds none here")
    assert len(script.stderr.splitlines()) == 1
