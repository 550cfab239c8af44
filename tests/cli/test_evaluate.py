"""`longrope evaluate` in processes of its own: killed, resumed, added to; every local task by its name."""

import inspect
import json
import shutil
import signal
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml

from longrope.cli.comparison_configs import EvaluateConfig
from longrope.cli.main import main
from longrope.cli.task_options import TaskOptions
from longrope.cli.tasks import GROUPS, TASKS, missing_data, task_names
from longrope.evaluation.comparison.results import Results, read_results
from longrope.rope import RescaleFactors

from .processes import ForkServer, killed_at

QUICK = ["--samples", "2", "--passkey-depths", "2", "--needle-depths", "2", "--nolima-pairs", "1"]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> list[str]:
    """Return the arguments of an evaluation but for lengths, tasks, methods and folder."""
    folder = tmp_path_factory.mktemp("data")
    for index, word in enumerate(("alpha", "beta", "gamma", "delta")):
        lines = (f"{word} {i * (index + 3)} and so on.\n" for i in range(80))
        (folder / f"{word}.txt").write_text("".join(lines))
    tokens = folder / "tokens"
    command = ["tokenize", "--model", model_folder, "--dataset", folder, "--save-tokenized", tokens]
    assert main([str(part) for part in command]) == 0
    return ["evaluate", "--model", str(model_folder), "--tokenized", str(tokens), *QUICK]


def cells(folder: Path) -> list[dict]:
    journal = folder / "cells.jsonl"
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []


def rows(folder: Path) -> set:
    return set(read_results(folder / "results.json").rows)


def test_an_evaluation_killed_at_any_time_repeats_no_finished_cell(
    arguments: list[str], fork_server: ForkServer, tmp_path: Path
) -> None:
    settings = ["--lengths", "400", "500", "--methods", "none", "linear", "ntk", "dynamic", "yarn", "llama3"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [*arguments, *settings, "--output-dir", str(killed)]
    (dead,) = fork_server.run([command], tmp_path, killed_at(3, killed / "cells.jsonl"))
    assert dead.code == -signal.SIGKILL, dead.output
    assert not (killed / "results.json").exists(), "the evaluation was over before it could be killed"
    finished = [entry["key"] for entry in cells_that_are_whole(killed)]
    assert main([*arguments, *settings, "--output-dir", str(whole)]) == 0
    assert 3 <= len(finished) < len(cells(whole))
    assert main([*arguments, *settings, "--output-dir", str(killed)]) == 0
    keys = [entry["key"] for entry in cells_that_are_whole(killed)]
    assert keys[: len(finished)] == finished
    assert len(set(keys)) == len(keys) == len(cells(whole))
    assert rows(killed) == rows(whole)
    before = (killed / "cells.jsonl").read_bytes()
    assert main([*arguments, *settings, "--output-dir", str(killed)]) == 0
    assert (killed / "cells.jsonl").read_bytes() == before


def cells_that_are_whole(folder: Path) -> list[dict]:
    entries = []
    for line in (folder / "cells.jsonl").read_text().splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:  # the kill tore it
            continue
    return entries


def test_other_tasks_and_methods_add_to_a_folder(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*arguments, "--output-dir", str(tmp_path), "--target-length", "512"]
    assert main([*command, "--lengths", "500", "--tasks", "perplexity", "--methods", "none", "yarn"]) == 0
    assert main([*command, "--lengths", "400", "60", "--tasks", "passkey", "niah", "--methods", "none", "yarn"]) == 0
    assert main([*command, "--lengths", "500", "--tasks", "perplexity", "--methods", "ntk:alpha=2"]) == 0
    results = read_results(tmp_path / "results.json")
    assert {(row.method, row.task, row.length) for row in results.rows} == {
        *((method, "perplexity", 500) for method in ("none", "yarn", "ntk:alpha=2")),
        *((method, task, 400) for method in ("none", "yarn") for task in ("passkey", "niah")),
    }
    assert {(entry.task, entry.length) for entry in results.left_out} == {("passkey", 60), ("niah", 60)}
    assert set(results.provenance["protocols"]) == {"perplexity", "passkey", "niah"}
    assert len(results.costs) == 3 + 4
    predictions = [json.loads(line) for line in (tmp_path / "predictions" / "passkey.jsonl").read_text().splitlines()]
    assert len(predictions) == 2 * 2
    assert {"method", "length", "prompt_hash", "predicted", "references", "scores", "error"} <= set(predictions[0])
    capsys.readouterr()
    assert main([*command[:-1], "2048", "--lengths", "500", "--tasks", "perplexity", "--methods", "yarn"]) == 0
    out = capsys.readouterr().out
    assert "note: 1 earlier cells of yarn on perplexity are not in the results" in out
    methods_of = {
        row.task: {row.method for row in read_results(tmp_path / "results.json").rows} for row in results.rows
    }
    assert methods_of["perplexity"] >= {"none", "yarn", "ntk:alpha=2"}


def test_every_local_task_runs_by_its_name_and_what_lacks_data_is_named(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["perplexity_sliding", "longppl", "passkey_hard", "niah_multi", "nolima", "ruler"]
    command = [*arguments, "--output-dir", str(tmp_path), "--lengths", "700", "--methods", "linear", "--tasks", *names]
    code = main([*command, "--ruler-samples", "1", "--batch-size", "4"])
    results = read_results(tmp_path / "results.json")
    left_out = {entry.task for entry in results.left_out}
    assert {"ruler_qa_1", "ruler_qa_2"} <= left_out
    assert "give --ruler-squad" in next(e.reason for e in results.left_out if e.task == "ruler_qa_1")
    measured = {row.task for row in results.rows} - {"ruler"}  # its means
    assert "retrieval_of_6" in {row.metric for row in results.rows if row.task == "ruler"}
    assert measured | left_out == {*names[:-1], *GROUPS["ruler"]}
    assert not measured & left_out
    assert {"perplexity_sliding", "passkey_hard", "niah_multi", "nolima", "ruler_niah_single_1"} <= measured
    assert (code == 0) == (not results.failures)


def without(arguments: list[str], *flags: str) -> list[str]:
    """Return arguments without some flags and their values."""
    gone = {place + step for place, part in enumerate(arguments) if part in flags for step in (0, 1)}
    return [part for place, part in enumerate(arguments) if place not in gone]


def test_fewer_documents_than_the_default_are_taken_and_told(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*without(arguments, "--samples"), "--output-dir", str(tmp_path / "out"), "--tasks", "perplexity"]
    assert main([*command, "--lengths", "64", "--methods", "none"]) == 0
    assert "has 4 documents of 64 or more tokens for this, not 10: all are taken" in capsys.readouterr().out
    assert {row.n for row in read_results(tmp_path / "out" / "results.json").rows} == {4}
    assert main([*command, "--lengths", "64", "--methods", "none", "--samples", "5"]) == 2
    assert "samples must be at most the 4 documents" in capsys.readouterr().err
    assert main([*command, "--lengths", "99999", "--methods", "none"]) == 2
    assert "samples must be at most the 0 documents of 99999 or more tokens" in capsys.readouterr().err


def test_tasks_that_read_no_documents_need_none(model_folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "--model", str(model_folder), "--methods", "yarn:factor=8", "--tasks", "passkey", "niah"]
    assert main([*command, "--lengths", "400", "--passkey-depths", "2", "--needle-depths", "2"]) == 0
    results = read_results(tmp_path / "runs" / "evaluation" / "results.json")
    assert {row.task for row in results.rows} == {"passkey", "niah"}
    assert {protocol["haystack"] for protocol in results.provenance["protocols"].values()} == {"filler"}


@pytest.mark.parametrize(
    "tasks",
    [
        ["perplexity"],
        ["perplexity_sliding"],
        ["longppl"],
        ["ruler_niah_single_2"],
        ["niah", "--needle-haystack", "documents"],
        ["passkey_hard", "--passkey-haystack", "documents"],
    ],
)
def test_a_task_that_reads_documents_says_so_at_once(tasks: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--model", "/nowhere", "--lengths", "400", "--output-dir", "o", "--tasks", *tasks]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"tokenized must name documents for {tasks[0]}, got none" in line


def test_key_tokens_are_chosen_by_the_unmodified_model_and_the_results_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(__file__).parents[2] / "examples" / "tiny" / "model"
    (tmp_path / "texts").mkdir()
    for seed in range(2):  # numbers that come again after some 150 tokens: only the whole window of 256 tells them
        numbers = np.random.default_rng(seed).integers(10**5, 10**6, 14)
        lines = "".join(f"VALUE_{place} = {number}\n" for place, number in enumerate(numbers))
        (tmp_path / "texts" / f"{seed}.txt").write_text(lines * 6)
    tokens, out = tmp_path / "tokens", tmp_path / "out"
    tokenize = ["tokenize", "--model", model, "--dataset", tmp_path / "texts", "--save-tokenized", tokens]
    assert main([str(part) for part in tokenize]) == 0
    command = ["evaluate", "--model", str(model), "--tokenized", str(tokens), "--output-dir", str(out), "--lengths"]
    command += ["512", "--tasks", "longppl", "--methods"]
    assert main([*command, "none", "yarn"]) == 0
    note = "Key tokens were chosen by the unmodified model inside its own window of 256 tokens."
    assert note in capsys.readouterr().out and note in (out / "table.md").read_text()
    protocol = read_results(out / "results.json").provenance["protocols"]["longppl"]
    assert protocol["note"] == note
    assert protocol["key_tokens"]["rule"]["long_len"] == 256
    found = {path: path.read_bytes() for path in out.glob("key_tokens-*.json")}
    assert main([*command, "linear"]) == 0  # whatever is compared, the key tokens are the same
    assert {path: path.read_bytes() for path in out.glob("key_tokens-*.json")} == found
    assert len(found) == 1


def test_an_evaluator_of_key_tokens_that_is_compared_is_warned_of(
    arguments: list[str], model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    factors = RescaleFactors(np.linspace(1, 12, 8), 32, 400, 1e4, 16, attention_factor=1.1)
    factors.save(tmp_path / "factors.json")
    export = ["export", "--model", str(model_folder), "--factors", str(tmp_path), "--output-dir", str(tmp_path / "hf")]
    assert main(export) == 0
    command = [*arguments, "--output-dir", str(tmp_path), "--lengths", "400", "--tasks", "longppl"]
    command += ["--methods", "none", "yarn", "--factors", f"found={tmp_path / 'factors.json'}"]
    for evaluator, told in ((tmp_path / "hf", "found"), (model_folder, "none")):
        main([*command, "--longppl-evaluator", str(evaluator)])  # random weights may have no key tokens
        captured = capsys.readouterr().err
        assert f"warning: longppl_evaluator {evaluator} is the compared method {told}:" in captured
        assert captured.count("is the compared method") == 1
    main([*command[:-2], "--longppl-evaluator", str(tmp_path / "hf")])
    assert "is the compared method" not in capsys.readouterr().err


def test_names_of_tasks_are_checked_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--model", "/nowhere", "--tokenized", "t", "--lengths", "9", "--output-dir", "o", "--tasks"]
    assert main([*command, "perplexty"]) == 2
    assert "unknown task 'perplexty'; did you mean 'perplexity'?" in capsys.readouterr().err
    assert main([*command, "niah", "--needle-depths", "0"]) == 2
    assert "needle_depths must be at least 1, got 0" in capsys.readouterr().err


def test_a_chat_template_is_asked_for_and_its_results_replace_those_without(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--model", str(model_folder), "--methods", "none", "--tasks", "passkey", "--lengths", "400"]
    command += ["--passkey-depths", "2", "--output-dir", str(tmp_path / "out")]
    assert main([*command, "--chat-template"]) == 2
    assert "chat template must be off for a tokenizer that has none, got on" in capsys.readouterr().err
    chatty = shutil.copytree(model_folder, tmp_path / "chatty")
    (chatty / "chat_template.jinja").write_text("{{ bos_token }}[{{ messages[0].content }}]")
    command[2] = str(chatty)
    hashes = []
    for flags in ([], ["--chat-template"]):
        assert main([*command, *flags]) == 0
        lines = (tmp_path / "out" / "predictions" / "passkey.jsonl").read_text().splitlines()
        hashes.append({json.loads(line)["prompt_hash"] for line in lines})
    assert [len(found) for found in hashes] == [2, 2]
    assert not hashes[0] & hashes[1]
    assert "note: 1 earlier cells of none on passkey are not in the results" in capsys.readouterr().out
    protocol = read_results(tmp_path / "out" / "results.json").provenance["protocols"]["passkey"]
    assert protocol["template"] == {"before": "<s>[", "after": "]", "strips": False}


def test_standard_benchmarks_without_lm_eval_name_the_package(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "longrope.evaluation.tasks.harness", raising=False)
    command = [*arguments, "--lengths", "100", "--tasks", "standard", "--output-dir", str(tmp_path / "out")]
    assert main(command) == 2
    assert "pip install 'lm-eval[hf]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def config(**changes: object) -> EvaluateConfig:
    return EvaluateConfig(model="m", tokenized="t", lengths=(9,), output_dir="o", **changes)  # type: ignore[arg-type]


def test_groups_stand_for_their_tasks_once() -> None:
    names = task_names(config(tasks=("ruler_vt", "ruler", "standard", "lm_eval:gsm8k", "longbench")))
    assert len(names) == len(set(names)) == 11 + 4 + 1 + 21
    assert missing_data(config(tasks=("ruler",))).keys() == {"ruler_qa_1", "ruler_qa_2"}
    assert "ruler_qa_1" in task_names(config(tasks=("ruler", "ruler_qa_1")))  # asked for by name: an error, no note
    assert "ruler_qa_2" in task_names(config(tasks=("ruler",), ruler_hotpotqa="file.json"))


def test_every_task_is_named_in_the_help() -> None:
    text = inspect.getsource(TaskOptions) + inspect.getsource(EvaluateConfig)
    families = ("ruler_", "official_ruler_", "longbench_", "official_longbench_")
    for name in (*GROUPS, *(task for task in TASKS if not task.startswith(families)), "lm_eval:NAME"):
        assert name in text, name
    assert all(field.name in text for field in fields(EvaluateConfig))


@pytest.mark.parametrize("listed", [["linear", "yarn:beta_fast=16"], {"methods": ["linear", "yarn:beta_fast=16"]}])
def test_methods_come_from_a_file(arguments: list[str], tmp_path: Path, listed: object) -> None:
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(listed))
    command = [*arguments, "--output-dir", str(tmp_path), "--lengths", "100", "--tasks", "perplexity"]
    assert main([*command, "--methods", "none", f"@{tmp_path / 'best.yaml'}"]) == 0
    results: Results = read_results(tmp_path / "results.json")
    assert {row.method for row in results.rows} == {"none", "linear", "yarn:beta_fast=16"}


@pytest.mark.parametrize("content", ["", "methods: yarn", "[1, 2]", "[", "other: [yarn]"])
def test_a_file_of_no_methods_is_refused(
    arguments: list[str], tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    command = [*arguments, "--output-dir", str(tmp_path / "out"), "--lengths", "100"]
    assert main([*command, "--methods", f"@{tmp_path / 'bad.yaml'}"]) == 2
    assert "methods" in capsys.readouterr().err.splitlines()[-1]
