"""`longrope sweep` on a tiny random model: points, ranking, best, and the evaluation that takes them."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.evaluation.report.sweep_part import read_sweep_run


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for index, word in enumerate(("alpha", "beta", "gamma", "delta", "epsilon")):
        (folder / f"{word}.txt").write_text("".join(f"{word} {i * (index + 3)} " for i in range(40)))
    command = ["tokenize", "--model", model_folder, "--dataset", folder, "--save-tokenized", folder / "tokens"]
    assert main([str(part) for part in command]) == 0
    return folder / "tokens"


@pytest.fixture(scope="module")
def own_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweeps") / "mine.yaml"
    path.write_text(yaml.safe_dump({"method": "yarn", "parameters": {"beta_fast": {"values": [8, 16, 32]}}}))
    return path


@pytest.fixture(scope="module")
def swept(tokens: Path, model_folder: Path, own_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a sweep over two methods on three of five documents."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    assert main(arguments(model_folder, tokens, folder, "--sweeps", "linear", str(own_sweep))) == 0
    return folder


def arguments(model: Path, tokens: Path, folder: Path, *more: str) -> list[str]:
    named = {"model": model, "tokenized": tokens, "target-length": 128, "samples": 3, "output-dir": folder}
    return ["sweep", *(str(part) for name, value in named.items() for part in (f"--{name}", value)), *more]


def test_a_sweep_ranks_every_point_by_its_perplexity(swept: Path) -> None:
    content = json.loads((swept / "sweep.json").read_text())
    points = content["points"]
    specs = [point["spec"] for point in points]
    assert {"linear", "linear:factor=8", "yarn", "yarn:beta_fast=8", "yarn:beta_fast=16"} <= set(specs)
    assert len(specs) == len(set(specs)) == 1 + 6 + 3  # none, the model as it is, beside the points
    values = {
        row.method: row.value
        for row in read_results(swept / "results.json").rows
        if (row.metric, row.length) == ("token_weighted", 128)
    }
    assert {point["spec"]: point["value"] for point in points} == values
    for method in ("linear", "yarn"):
        own = [point for point in points if point["method"] == method]
        assert [point["value"] for point in own] == sorted(point["value"] for point in own)
        assert own[0]["rank"] == 1 and own[0]["tied"]
    assert content["provenance"]["protocols"]["perplexity"]["seed"] == 0
    table = list(csv.DictReader((swept / "sweep.csv").open()))
    assert [row["spec"] for row in table] == specs
    assert [row["beta_fast"] for row in table if row["spec"] == "yarn:beta_fast=16"] == ["16"]


def test_the_choice_is_tested_on_other_documents_and_the_page_says_what_to_take(swept: Path, tokens: Path) -> None:
    tuned, tested = (read_results(swept / place / "results.json") for place in (".", "held-out"))
    names = [one.provenance["protocols"]["perplexity"]["documents"] for one in (tuned, tested)]
    assert len(names[0]) == 3 and len(names[1]) == 2 and not set(names[0]) & set(names[1])
    points = json.loads((swept / "sweep.json").read_text())["points"]
    best = {next(p["spec"] for p in points if p["method"] == m) for m in ("none", "linear", "yarn")}
    assert {row.method for row in tested.rows} == best  # only the best of each method goes on
    page = (swept / "report.md").read_text()
    verdict = page.split("**")[1]
    assert (
        verdict.startswith("Perplexity at 128 tokens: no clear winner: ")
        and "With 2 documents no difference" in verdict
    )
    for title in ("What to take, by length", "Top ten configurations over all methods", "Parameter sensitivity"):
        assert f"## {title}" in page
    assert (swept / "report.html").is_file() and (swept / "figures" / "perplexity-boxes.png").is_file()
    assert not list(swept.glob(".figures-*"))
    rows = list(csv.DictReader((swept / "methods" / "yarn.csv").open()))
    assert [row["spec"] for row in rows] == ["yarn", "yarn:beta_fast=8", "yarn:beta_fast=16"]
    assert {path.stem for path in (swept / "methods").iterdir()} == {"none", "linear", "yarn"}


def test_a_report_of_a_sweep_is_the_page_that_the_sweep_wrote(swept: Path, tmp_path: Path) -> None:
    assert main(["report", str(swept), "--output-dir", str(tmp_path)]) == 0
    assert (tmp_path / "report.md").read_text() == (swept / "report.md").read_text()
    content = json.loads((swept / "sweep.json").read_text())
    (tmp_path / "old").mkdir()
    for name in ("results.json", "cells.jsonl"):
        (tmp_path / "old" / name).write_bytes((swept / name).read_bytes())
    (tmp_path / "old" / "sweep.json").write_text(json.dumps(content | {"version": 1}))
    with pytest.raises(ValueError, match="instead of longrope-sweep 2; sweep again"):
        read_sweep_run(tmp_path / "old")


def test_any_task_ranks_and_every_length_has_its_sentence(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"model": model_folder, "output-dir": tmp_path, "sweeps": "linear", "num-samples": 2, "samples": 1}
    named |= {"target-length": 1000, "lengths": 900, "rank-by": "passkey/accuracy", "needle-depths": 1}
    options = [f"--{name}={value}" for name, value in named.items()]
    command = ["sweep", *options, "--passkey-depths=2", "--tasks", "niah", "passkey"]
    assert main(command) == 0
    told = capsys.readouterr().out
    for task in ("Pass key retrieval", "Needle in a haystack"):
        for length in (900, 1000):
            assert f"{task} at {length:,} tokens: no clear winner" in told
    content = json.loads((tmp_path / "sweep.json").read_text())
    assert (content["task"], content["metric"]) == ("passkey", "accuracy")
    assert [point["value"] for point in content["points"]] == [0.0] * 4  # a random model finds nothing
    tested = read_results(tmp_path / "held-out" / "results.json")
    assert {row.n for row in tested.rows if row.task == "passkey"} == {4}  # twice the prompts, of another seed
    protocol = tested.provenance["protocols"]["passkey"]
    assert (protocol["trials"], protocol["seed"]) == (2, 1)


def test_the_best_of_each_method_goes_to_the_evaluation_on_other_documents(
    swept: Path, tokens: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = yaml.safe_load((swept / "best.yaml").read_text())
    points = json.loads((swept / "sweep.json").read_text())["points"]
    assert best["methods"] == [next(p["spec"] for p in points if p["method"] == m) for m in ("linear", "yarn")]
    command = ["evaluate", "--model", str(model_folder), "--tokenized", str(tokens), "--lengths", "128"]
    command += ["--tasks", "perplexity", "--methods", "none", f"@{swept / 'best.yaml'}", "--output-dir", str(tmp_path)]
    assert main([*command, "--samples", "2"]) == 0
    results = read_results(tmp_path / "results.json")
    assert {row.method for row in results.rows} == {"none", *best["methods"]}
    tuned = read_results(swept / "results.json").provenance["protocols"]["perplexity"]["documents"]
    assert not set(results.provenance["protocols"]["perplexity"]["documents"]) & set(tuned)
    assert main([*command, "--samples", "3"]) == 2
    assert "not among the 3 left out" in capsys.readouterr().err


def test_a_finished_sweep_runs_nothing_again_and_more_points_add_to_it(
    swept: Path, tokens: Path, model_folder: Path, own_sweep: Path
) -> None:
    before = (swept / "cells.jsonl").read_bytes()
    files = {name: (swept / name).read_bytes() for name in ("sweep.csv", "best.yaml")}
    assert main(arguments(model_folder, tokens, swept, "--sweeps", "linear", str(own_sweep))) == 0
    assert (swept / "cells.jsonl").read_bytes() == before
    assert {name: (swept / name).read_bytes() for name in files} == files
    more = arguments(model_folder, tokens, swept, "--sweeps", "linear", str(own_sweep), "--num-samples", "2")
    assert main([*more, "--best", "2"]) == 0
    added = (swept / "cells.jsonl").read_bytes().removeprefix(before).splitlines()
    assert len(added) == 2  # the random points of linear; yarn's are those of its grid
    assert len(yaml.safe_load((swept / "best.yaml").read_text())["methods"]) == 4


def test_a_dry_run_prints_the_points_and_writes_nothing(
    tokens: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(model_folder, tokens, tmp_path / "run", "--dry-run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"none", "linear", "ntk", "dynamic", "ntk-by-parts", "yarn", "llama3"} <= set(lines)
    assert lines[-1] == f"{len(lines) - 1} points"
    assert not (tmp_path / "run").exists()


def test_points_that_cannot_run_are_refused_by_a_dry_run_too(
    tokens: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "longrope.yaml"
    sweep.write_text(yaml.safe_dump({"method": "longrope", "parameters": {"start_tokens": {"values": [0, 4]}}}))
    for more in ([], ["--dry-run"]):
        assert main(arguments(model_folder, tokens, tmp_path / "run", "--sweeps", str(sweep), *more)) == 2
        captured = capsys.readouterr()
        assert "rescale_factors of longrope must be given, got none" in captured.err.splitlines()[-1]
        assert "points" not in captured.out


def test_fewer_documents_than_the_default_are_taken_and_told(
    tokens: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for word in ("alpha", "beta"):
        (texts / f"{word}.txt").write_text(f"{word} and so on " * 20)
    few = tmp_path / "few"
    command = ["tokenize", "--model", model_folder, "--dataset", texts, "--save-tokenized", few]
    assert main([str(part) for part in command]) == 0
    sweep = arguments(model_folder, few, tmp_path / "run", "--sweeps", "linear")
    place = sweep.index("--samples")
    assert main(sweep[:place] + sweep[place + 2 :]) == 0
    told = capsys.readouterr().out
    assert "has 2 documents of 128 or more tokens for this, not 5: all are taken" in told
    assert "has 0 documents left to test the choice on: it is not tested" in told
    assert "was not tested on other documents" in told
    assert main(sweep) == 2
    assert "samples must be at most the 2 documents" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sweeps", "yarm"], "sweeps must be a file that exists or one of"),
        (["--num-samples", "0"], "num_samples must be at least 1, got 0"),
        (["--best", "0"], "best must be at least 1, got 0"),
        (["--held-out", "-1"], "held_out must be at least 0, got -1"),
        (["--tasks", "passkez"], "unknown task 'passkez'; did you mean 'passkey'"),
        (["--rank-by", "passkey"], "rank_by must be one of the tasks perplexity, got passkey; add it to --tasks"),
        (["--lengths", "1"], "at least 2 tokens, got 1"),
        (["--samples", "9"], "samples must be at most the 5 documents"),
    ],
)
def test_bad_sweep_input_is_one_sentence(
    tokens: Path, model_folder: Path, tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(model_folder, tokens, tmp_path / "run"), *more]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
