"""The benchmark of the card runs anywhere with a small model, and says so where there is no card."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SMALL = ["--device", "cpu", "--layers", "2", "--hidden", "64", "--seconds", "0", "--candidates", "2"]


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> dict[str, object]:
    """Run the benchmark in this process and return its report."""
    monkeypatch.setattr(sys, "argv", ["scoring.py", *SMALL, "--output-dir", str(folder), *options])
    runpy.run_path(str(ROOT / "benchmarks" / "scoring.py"), run_name="__main__")
    (path,) = folder.glob("scoring-*cpu.json")
    assert path.with_suffix(".md").is_file()
    return json.loads(path.read_text())


def test_every_length_is_measured_with_every_kernel_that_can_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = run(monkeypatch, tmp_path, "--lengths", "128", "64")
    cells = report["cells"]
    assert isinstance(cells, list)
    assert [(cell["kernel"], cell["length"], cell["candidates"]) for cell in cells] == [
        ("sdpa", 64, 2),
        ("sdpa", 128, 2),
    ]
    assert all(cell["error"] is None and cell["tokens_per_second"] > 0 and cell["tflops"] > 0 for cell in cells)
    assert report["search"] is None


def test_a_length_there_is_no_time_for_is_left_out_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = run(monkeypatch, tmp_path, "--lengths", "64", "128", "--minutes", "0")["cells"]
    assert isinstance(cells, list)
    assert (cells[1]["tokens_per_second"], cells[1]["error"].split(",")[0]) == (None, "left out")
    (table,) = tmp_path.glob("*.md")
    assert "| sdpa | 128 | 2 | left out" in table.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_the_script_ends_with_one_sentence() -> None:
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    script = subprocess.run(
        ["bash", ROOT / "benchmarks" / "gpu.sh"], capture_output=True, text=True, env=environment, check=False
    )
    assert script.returncode == 1
    assert script.stderr.startswith("benchmarks/gpu.sh needs a CUDA device, and torch finds none here")
    assert len(script.stderr.splitlines()) == 1
