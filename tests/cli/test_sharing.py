"""Two processes in one folder: each cell is run by one of them, and a cell of a dead one by the other."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.rope.files import lock_file

from .processes import ForkServer

METHODS = ["linear", "ntk", "yarn"]
SLOW = """
import time
from longrope.evaluation.comparison import runner
run = runner._run

def slowly(*arguments):
    time.sleep(0.1)  # without it, one process may end before the other begins
    return run(*arguments)

runner._run = slowly

def prepare(number): pass
"""
DYING = """
import time
from longrope.evaluation.comparison import runner
run = runner._run

def prepare(number):
    if number == 0:
        runner._run = lambda *arguments: os.kill(os.getpid(), 9)
    else:
        time.sleep(1)
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("data")
    for index, word in enumerate(("alpha", "beta")):
        (folder / f"{word}.txt").write_text("".join(f"{word} {i * (index + 3)} and so on.\n" for i in range(80)))
    tokens = folder / "tokens"
    tokenize = ["tokenize", "--model", model_folder, "--dataset", folder, "--save-tokenized", tokens]
    assert main([str(part) for part in tokenize]) == 0
    of = ["--model", str(model_folder), "--tokenized", str(tokens), "--samples", "2"]
    depths = ["--passkey-depths", "2", "--passkey-trials", "1"]
    tasks = ["--tasks", "perplexity", "passkey", "--lengths", "400", "500"]
    return {
        "evaluate": ["evaluate", *of, *depths, *tasks, "--methods", *METHODS],
        "sweep": ["sweep", *of, "--sweeps", "linear", "--target-length", "400"],
    }


def keys(folder: Path) -> list[str]:
    return [json.loads(line)["key"] for line in (folder / "cells.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("command", ["evaluate", "sweep"])
def test_two_at_once_share_the_cells_and_tell_the_same(
    commands: dict[str, list[str]], fork_server: ForkServer, command: str, tmp_path: Path
) -> None:
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    arguments = commands[command]
    both = fork_server.run([[*arguments, "--output-dir", str(shared)]] * 2, tmp_path, SLOW)
    assert [one.code for one in both] == [0, 0], both
    assert main([*arguments, "--output-dir", str(alone)]) == 0
    assert sorted(keys(shared)) == sorted(keys(alone))
    assert read_results(shared / "results.json").rows == read_results(alone / "results.json").rows
    ran = [sum(" s, " in line for line in one.output.splitlines()) for one in both]
    assert sum(ran) == len(keys(alone)) and min(ran) > 0
    told = [[line for line in one.output.splitlines() if " s, " not in line] for one in both]
    assert told[0] == told[1]


def test_the_cell_of_a_dead_process_is_free_again(
    commands: dict[str, list[str]], fork_server: ForkServer, tmp_path: Path
) -> None:
    arguments = [*commands["evaluate"], "--output-dir", str(tmp_path / "run")]
    dead, other = fork_server.run([arguments] * 2, tmp_path, DYING)
    assert (dead.code, other.code) == (-signal.SIGKILL, 0), other.output
    assert len(set(keys(tmp_path / "run"))) == len(keys(tmp_path / "run")) == len(METHODS) * 3


@pytest.mark.parametrize("command", ["evaluate", "sweep"])
def test_cells_that_another_command_adds_at_the_end_are_in_the_results(
    commands: dict[str, list[str]], command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    arguments = commands["evaluate"]
    chosen = [*arguments[: arguments.index("--methods")], "--methods", "dynamic"]
    assert main([*chosen, "--output-dir", str(other)]) == 0

    def added(path: Path) -> Any:
        held = lock_file(path)  # whoever has it may have written until now
        with (one / "cells.jsonl").open("a") as file:
            file.write((other / "cells.jsonl").read_text())
        return held

    monkeypatch.setattr(f"longrope.cli.{command}.lock_file", added)
    assert main([*commands[command], "--output-dir", str(one)]) == 0
    assert "dynamic" in {row.method for row in read_results(one / "results.json").rows}


def test_a_file_system_without_locks_is_refused_in_a_sentence(
    commands: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> Callable[..., Any]:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("longrope.evaluation.comparison.sharing.fcntl.lockf", refuse)
    assert main([*commands["sweep"], "--output-dir", str(tmp_path)]) == 2
    assert "must lie on a file system with POSIX locks, got 'No locks available'" in capsys.readouterr().err
