"""A full disk and a folder that can't be written: one sentence, nothing lost, and the same command goes on."""

import builtins
import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.rope import load_factors

from .processes import ForkServer

LIMITS = {"search": 3000, "evaluate": 3000, "sweep": 3000, "finetune": 20000, "extend": 3000}
"""Bytes beyond which no file of a command may grow, so that it fails about half-way."""
LIMIT = f"""
import resource
LIMITS = {list(LIMITS.values())}

def prepare(number):
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMITS[number], LIMITS[number]))
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_one_sentence(command: str, output: str) -> None:
    """The last line names what can't be written and what helps, and no traceback is in sight."""
    assert "Traceback" not in output, output
    last = output.splitlines()[-1]
    assert last.startswith(f"longrope {command}: ") and "must be writable, got " in last, output
    assert "free space or allow writing there, then run the command again" in last and "[Errno" not in last


def test_files_that_may_not_grow_stop_a_command_and_it_goes_on_when_they_may(
    small_commands: dict[str, list[str]], fork_server: ForkServer, tmp_path: Path
) -> None:
    commands = [[*small_commands[name], "--output-dir", str(tmp_path / name)] for name in LIMITS]
    for arguments, ended in zip(commands, fork_server.run(commands, tmp_path, LIMIT), strict=True):
        assert ended.code == 2, ended.output
        assert_one_sentence(arguments[0], ended.output)
        kept = {path: path.read_bytes() for path in tmp_path.glob(f"{arguments[0]}/**/*.jsonl")}
        assert main(arguments) == 0
        assert all(path.read_bytes().startswith(content) for path, content in kept.items())


@pytest.mark.parametrize("command", ["search", "sweep"])
def test_a_disk_that_is_full_at_any_write_costs_that_write_alone(
    small_commands: dict[str, list[str]],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, poor = tmp_path / "whole", tmp_path / "poor"
    assert main([*small_commands[command], "--output-dir", str(whole)]) == 0
    arguments, sync, left = [*small_commands[command], "--output-dir", str(poor)], os.fsync, [0]

    def full(file: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    code, stops, kept = 2, 0, b""
    while code == 2:
        capsys.readouterr()
        left[0] = 2  # each attempt may write two times
        code = main(arguments)
        stops += code == 2
        if code == 2:
            assert_one_sentence(command, capsys.readouterr().err)
        journal = poor / ("history.jsonl" if command == "search" else "cells.jsonl")
        now = journal.read_bytes() if journal.exists() else b""
        assert now.startswith(kept) and stops < 50
        kept = now
        if command == "sweep" and len(now.splitlines()) == len((whole / "cells.jsonl").read_bytes().splitlines()):
            monkeypatch.undo()  # all is measured; the results are written in more than two files
    assert code == 0 and stops > 2
    if command == "search":
        assert load_factors(poor) == load_factors(whole)
    else:
        assert read_results(poor / "results.json").rows == read_results(whole / "results.json").rows
        keys = [json.loads(line)["key"] for line in kept.splitlines()]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("command", ["search", "evaluate", "sweep", "finetune"])
def test_a_folder_that_cannot_be_written_is_one_sentence(
    small_commands: dict[str, list[str]],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def read_only(opener: Any) -> Any:
        def guarded(file: Any, mode: Any = "r", *rest: Any, **named: Any) -> Any:
            writes = mode & (os.O_WRONLY | os.O_RDWR) if isinstance(mode, int) else set(mode) & set("wax+")
            if writes and isinstance(file, str | Path) and str(file).startswith(str(tmp_path)):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))
            return opener(file, mode, *rest, **named)

        return guarded

    arguments = [*small_commands[command], "--output-dir", str(tmp_path)]
    for module in (builtins, io, os):
        monkeypatch.setattr(module, "open", read_only(module.open))
    assert main(arguments) == 2
    monkeypatch.undo()
    error = capsys.readouterr().err
    assert_one_sentence(command, error)
    assert str(tmp_path) in error.splitlines()[-1]
    assert not any(tmp_path.iterdir())
