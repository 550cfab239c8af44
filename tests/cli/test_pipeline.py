"""The whole way on a tiny random model: search, kill, resume, evaluate, export, load without us."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.rope import apply_factors, load_factors

from .processes import ForkServer, killed_at
from .small import without_times


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> list[str]:
    """Return the arguments of a search but for its folder."""
    folder = tmp_path_factory.mktemp("data")
    for index, word in enumerate(("alpha", "beta", "gamma", "delta", "epsilon", "zeta")):
        (folder / f"{word}.txt").write_text("".join(f"{word} {i * (index + 3)} " for i in range(60)))
    tokens = folder / "tokens"
    command = ["tokenize", "--model", model_folder, "--dataset", folder, "--save-tokenized", tokens]
    assert main([str(part) for part in command]) == 0
    settings = folder / "settings.json"  # in the official form
    settings.write_text(
        json.dumps(
            {
                "evo_scale": 1.0,
                "population_size": 8,
                "max_time_budget": 6,
                "mutation_numbers": 3,
                "crossover_size": 3,
                "max_crossover_try": 20,
                "parents_size": 4,
                "list_step": 0.01,
            }
        )
    )
    named = {"model": model_folder, "tokenized": tokens, "target-length": 256, "samples": 3, "hyper-params": settings}
    return [str(part) for name, value in named.items() for part in (f"--{name}", value)]


@pytest.fixture(scope="module")
def finished(arguments: list[str], fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted search."""
    folder = tmp_path_factory.mktemp("runs")
    (ended,) = fork_server.run([["search", *arguments, "--output-dir", str(folder / "whole")]], folder)
    assert ended.code == 0, ended.output
    return folder / "whole"


def test_a_search_killed_three_times_ends_as_if_it_had_never_stopped(
    arguments: list[str], finished: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    history = folder / "history.jsonl"
    rows = len((finished / "history.jsonl").read_text().splitlines())
    command = ["search", *arguments, "--output-dir", str(folder), "--resume"]
    for stop in sorted(np.random.default_rng().choice(np.arange(1, rows - 10), 3, replace=False)):
        (killed,) = fork_server.run([command], tmp_path, killed_at(stop, history))
        assert killed.code == -signal.SIGKILL, killed.output
        assert not (folder / "factors.json").exists(), "the search was over before it could be killed"
    (ended,) = fork_server.run([command], tmp_path)
    assert ended.code == 0, ended.output
    assert (folder / "factors.json").read_bytes() == (finished / "factors.json").read_bytes()
    assert without_times(folder) == without_times(finished)


def test_a_run_folder_is_not_searched_twice_or_with_other_settings(
    arguments: list[str], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    assert main(["search", *arguments, "--output-dir", str(finished)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["search", *arguments, "--output-dir", str(finished), "--resume", "--seed", "5"]) == 2
    assert "seed" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_finished_search_resumes_to_the_same_factors_without_scoring(
    arguments: list[str], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "history.jsonl").read_bytes()
    assert main(["search", *arguments, "--output-dir", str(finished), "--resume"]) == 0
    assert (finished / "history.jsonl").read_bytes() == before
    assert "search perplexity" in capsys.readouterr().out


def test_evaluate_reports_every_method_and_length(
    arguments: list[str], finished: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = arguments[arguments.index("--tokenized") + 1]
    command = ["evaluate", "--model", str(model_folder), "--tokenized", tokens, "--factors", str(finished)]
    command += ["--search-run", str(finished), "--lengths", "128,256", "--samples", "2", "--passkey-style", "comment"]
    command += ["--passkey-haystack", "documents", "--passkey-depths", "2", "--output-dir", str(tmp_path)]
    assert main(command) == 0
    results = read_results(tmp_path / "results.json")
    methods = {"none", "linear", "ntk", "yarn", "llama3", "longrope"}
    assert {(r.method, r.task, r.length) for r in results.rows} == {
        (method, task, length) for method in methods for task in ("perplexity", "passkey") for length in (128, 256)
    }
    assert all(row.low is None or row.low <= row.value <= row.high for row in results.rows if row.high is not None)
    for name in ("perplexity.png", "passkey.png", "lambdas.png", "search.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    table = capsys.readouterr().out
    assert all(re.search(rf"^\| {method} ", table, re.MULTILINE) for method in methods)


def test_the_export_gives_the_logits_of_apply_factors_in_a_python_without_longrope(
    arguments: list[str], finished: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = arguments[arguments.index("--tokenized") + 1]
    output = tmp_path / "exported"
    command = ["export", "--model", str(model_folder), "--factors", str(finished), "--tokenized", tokens]
    assert main([*command, "--samples", "2", "--output-dir", str(output)]) == 0
    factors = load_factors(finished)
    assert ("n_hat" in capsys.readouterr().out) == (factors.start_tokens > 0)
    code = (
        "import sys, torch, transformers\n"
        "sys.modules['longrope'] = None\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"  # another number would round differently
        f"model = transformers.AutoModelForCausalLM.from_pretrained({str(output)!r}, dtype=torch.float32)\n"
        f"ids = torch.arange(256)[None] * 7 % {AutoModelForCausalLM.from_pretrained(model_folder).config.vocab_size}\n"
        f"torch.save(model(input_ids=ids).logits, {str(tmp_path / 'logits.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    ids = torch.arange(256)[None] * 7 % model.config.vocab_size
    with apply_factors(model, factors.without_start_tokens()), torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), model(input_ids=ids).logits, atol=1e-5, rtol=0)


def test_factors_are_not_judged_on_the_documents_they_were_searched_on(
    arguments: list[str], finished: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = arguments[arguments.index("--tokenized") + 1]
    command = ["evaluate", "--model", str(model_folder), "--tokenized", tokens, "--factors", str(finished)]
    assert main([*command, "--lengths", "256", "--samples", "4", "--output-dir", str(tmp_path)]) == 2
    assert "not among the 3 left out" in capsys.readouterr().err
