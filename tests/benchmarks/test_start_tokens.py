"""The ablation compares each n_hat with none on the same documents."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longrope.cli.main import main
from longrope.rope import RopeGeometry
from longrope.rope.methods import YaRN

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "start_tokens.py"


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_differences_are_paired_by_document_and_each_has_its_own_n_hat(benchmark: dict[str, Any]) -> None:
    base = np.random.default_rng(0).uniform(1, 5, size=12)
    losses = np.stack([base, base - 0.1, base + 0.2])
    none, four, many = benchmark["effects"](losses, (0, 4, 64), 512, 0)
    assert (none.start_tokens, four.start_tokens, many.start_tokens) == (0, 4, 64)
    assert (none.difference, none.p) == (0.0, None)
    assert four.difference == pytest.approx(-0.1)
    assert many.difference == pytest.approx(0.2)
    assert four.loss == pytest.approx(base.mean() - 0.1)
    for one in (four, many):  # the same difference on every document: no spread, and surely not by chance
        assert one.low == pytest.approx(one.difference)
        assert one.high == pytest.approx(one.difference)
        assert one.p == pytest.approx(2 * 2 / 2**12)  # two of the 2^12 sign flips are as far off; Holm doubles it


def test_one_document_has_no_interval(benchmark: dict[str, Any]) -> None:
    _, four = benchmark["effects"](np.array([[2.0], [1.5]]), (0, 4), 512, 0)
    assert (four.difference, four.low, four.high, four.p) == (-0.5, None, None, None)


def test_it_runs_on_a_model_and_n_hat_beyond_the_window_is_the_pre_trained_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_folder: Path
) -> None:
    for word in ("alpha", "beta"):
        (tmp_path / f"{word}.txt").write_text("".join(f"{word} {i} " for i in range(40)))
    command = ["tokenize", "--model", model_folder, "--dataset", tmp_path, "--save-tokenized", tmp_path / "tokens"]
    assert main([str(part) for part in command]) == 0
    YaRN(4).factors(RopeGeometry(16, 1e4, 32)).save(tmp_path / "yarn.json")
    options = {"model": model_folder, "tokenized": tmp_path / "tokens", "factors": tmp_path / "yarn.json", "samples": 2}
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    arguments += ["--lengths", "64", "128", "--choices", "4", "256", "--output-dir", str(tmp_path / "report")]
    monkeypatch.setattr(sys, "argv", ["start_tokens.py", *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    found = json.loads((tmp_path / "report" / "start_tokens.json").read_text())["effects"]
    assert [(one["length"], one["start_tokens"]) for one in found] == [(n, k) for n in (64, 128) for k in (0, 4, 256)]
    plain = [one["loss"] for one in found if one["start_tokens"] == 256]
    evaluated = tmp_path / "evaluated"
    command = ["evaluate", "--model", model_folder, "--tokenized", tmp_path / "tokens", "--samples", 2, "--methods"]
    command += ["none", "--tasks", "perplexity", "--lengths", 64, 128, "--output-dir", evaluated]
    assert main([str(part) for part in command]) == 0
    rows = json.loads((evaluated / "results.json").read_text())["rows"]
    expected = [np.log(row["value"]) for row in rows if row["metric"] == "token_weighted"]
    np.testing.assert_allclose(plain, expected, rtol=1e-6)
