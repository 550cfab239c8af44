"""The report on a real language model says what its numbers say, here of a tiny model."""

import json
import math
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.rope import load_factors

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "smollm2.py"
START = "ntk-by-parts:alpha=0.5,beta=4,attention_factor=su"


@pytest.fixture(scope="module")
def run(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as `smollm2.sh` leaves it: a search of few windows, and an evaluation in two dtypes."""
    folder = tmp_path_factory.mktemp("run")
    for part, words in (("search", ("alpha", "beta", "gamma")), ("evaluation", ("delta", "epsilon", "zeta"))):
        (folder / part).mkdir()
        for word in words:
            (folder / part / f"{word}_of_a.txt").write_text("".join(f"{word} {i * len(word)} " for i in range(80)))
        command(model_folder, "tokenize", dataset=folder / part, save_tokenized=folder / f"{part}-tokens")
    found = folder / "search-0"
    budget = {"max_scored_tokens": 60 * 128, "target_length": 128, "trackers": "none", "batch_size": 1}
    command(model_folder, "search", tokenized=folder / "search-tokens", output_dir=found, **budget)
    shutil.copytree(found, folder / "search-1")
    earlier = folder / "earlier.json"
    replace(load_factors(found / "factors.json"), attention_factor=1.5).save(earlier)
    evaluated = [f"longrope_seed_0={found}", f"longrope_seed_7={earlier}"]
    common = {"tokenized": folder / "evaluation-tokens", "factors": evaluated, "target_length": 128}
    common |= {"lengths": ["64", "128"], "passkey_style": "comment", "passkey_depths": 2}
    common |= {"passkey_haystack": "documents", "methods": ["none", "yarn", START]}
    command(model_folder, "evaluate", output_dir=folder / "evaluation", samples=3, dtype="bfloat16", **common)
    exact = {"samples": 2, "dtype": "float32", "tasks": "perplexity", "lengths": "128"}
    command(model_folder, "evaluate", output_dir=folder / "float32", **{**common, **exact})
    return folder


def command(model: Path, name: str, **options: Any) -> None:
    arguments = [name, "--model", str(model)]
    for option, value in options.items():
        arguments += [f"--{option.replace('_', '-')}", *(value if isinstance(value, list) else [str(value)])]
    assert main(arguments) == 0


def test_the_report_tells_better_from_worse_and_from_no_difference(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "report"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(run), "--target=128", "--start", START, "--output", str(output)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    text, numbers = output.with_suffix(".md").read_text(), json.loads(output.with_suffix(".json").read_text())
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "Delta Of A, Epsilon Of A, Zeta Of A" in text
    assert "Alpha Of A, Beta Of A, Gamma Of A" in text
    assert str(run.parent) not in text + json.dumps(numbers)
    search, other = numbers["searches"]
    assert [one["evaluated_as"] for one in (search, other)] == ["longrope_seed_0"] * 2
    assert search["found_by"]
    assert "longrope_seed_7" not in text  # no search of the folder has these factors
    assert search["scored_tokens"] <= search["budget_tokens"] == 60 * 128
    said = 0
    for one in numbers["differences"]:
        if one["task"] == "perplexity" and "longrope_seed_0" in (one["first"], one["second"]):
            sign = 1 if one["first"] == "longrope_seed_0" else -1
            other = one["second"] if sign == 1 else one["first"]
            low, high = sorted((sign * one["low"], sign * one["high"]))
            verdict = "better than" if high < 0 else "worse than" if low > 0 else "indistinguishable from"
            line = next(x for x in text.splitlines() if x.startswith(f"- At {one['length']} tokens `longrope_seed_0`"))
            part = next(part for part in line.split(";") if f"`{other}`" in part)
            assert verdict in part
            said += 1
    assert said == 2 * 3


def test_dtypes_are_compared_on_the_same_documents(run: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    evaluation = script["read_evaluation"](run / "evaluation")
    precision = script["read_precision"](run / "float32", evaluation)
    rows = read_results(run / "float32" / "results.json").rows
    exact = {row.method: row.value for row in rows if row.metric == "token_weighted"}
    assert precision["documents"] == 2
    for method, value in precision["perplexity"]["float32"].items():
        assert value == pytest.approx(exact[method], rel=1e-9)
        records = evaluation.records["perplexity"]
        first = [r for r in records if r["method"] == method and r["length"] == 128 and r.get("kind") is None][:2]
        expected = math.exp(sum(r["nats"] for r in first) / sum(r["tokens"] for r in first))
        assert precision["perplexity"]["bfloat16"][method] == pytest.approx(expected)
    assert script["read_precision"](run / "nothing", evaluation) is None
