"""The benchmark of long windows runs anywhere with a small model; its default cells are of known kinds."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "long_context.py"
SMALL = ["--device", "cpu", "--hidden", "64", "--dtype", "float32"]
KINDS = ("forward", "forward-whole", "gradient", "gradient-offload", "prompt", "prompt-offload", "prompt-masks")


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> list[dict[str, object]]:
    """Run the benchmark in this process and return the cells of its report."""
    monkeypatch.setattr(sys, "argv", ["long_context.py", *SMALL, "--output-dir", str(folder), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    (path,) = folder.glob("long_context-*cpu.json")
    report = json.loads(path.read_text())
    assert report["versions"]["torch"] and report["claims"]
    assert all(
        f"| {cell['kind']} | {cell['layers']} |" in path.with_suffix(".md").read_text() for cell in report["cells"]
    )
    return report["cells"]


def test_every_kind_of_cell_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = run(monkeypatch, tmp_path, "--cells", *(f"{kind}:2:96" for kind in KINDS))
    assert [cell["kind"] for cell in cells] == list(KINDS)
    for cell in cells:
        numbers = [cell[name] for name in ("seconds", "tokens_per_second", "tflops", "model_gib")]
        assert cell["error"] is None and all(isinstance(number, float) and number > 0 for number in numbers)
        assert (cell["token_seconds"] is not None) == str(cell["kind"]).startswith("prompt")


def test_a_cell_there_is_no_time_for_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = run(monkeypatch, tmp_path, "--cells", "forward:1:64", "forward:1:128", "--seconds", "0")
    assert cells[0]["error"] is None
    assert str(cells[1]["error"]).startswith("left out")


def test_an_unknown_kind_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, "--cells", "backward:1:64")
    assert "a cell's kind must be one of forward" in capsys.readouterr().err
