"""Workers in processes of their own: the same numbers as one process, also where one is killed."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from longrope.cli.executors import executor_kind, open_executor
from longrope.cli.main import main
from longrope.cli.search_worker import ExecutedObjective
from longrope.evaluation.comparison import compare
from longrope.evaluation.comparison.results import read_results
from longrope.evaluation.objectives.base import WindowScore
from longrope.evolution import RunFolder, Unit, UnitScores
from longrope.execution import InlineExecutor, TaskLost
from longrope.execution.processes import ProcessWorker

from ..conftest import FULL
from ..execution.conftest import alive
from .small import without_times

KILLS = 20 if FULL else 1
"""Runs of each command in which a worker is killed."""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compute with one thread here and in workers, so that sums are added in the same order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the tasks that workers are given."""
    given: list[str] = []
    submit = ProcessWorker.submit

    def counted(worker: ProcessWorker, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        given.append(function.__name__)
        return submit(worker, function, arguments)

    monkeypatch.setattr(ProcessWorker, "submit", counted)
    return given


def killing(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Return a function that also kills a worker at its n-th call, from 1."""
    calls: list[int] = []

    def called(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            os.kill(random.choice(multiprocessing.active_children()).pid or 0, signal.SIGKILL)
        return function(*arguments)

    return called


def test_a_search_whose_worker_is_killed_gives_the_bytes_of_one_process(
    small_commands: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: list[str]
) -> None:
    monkeypatch.setattr("longrope.cli.model_search.git_commit", lambda: None)  # which an edit would change
    arguments = small_commands["search"]
    assert main([*arguments, "--output-dir", str(tmp_path / "one"), "--executor", "inline"]) == 0
    expected = without_times(tmp_path / "one")
    units = sum(row["rows_left"] == 0 for row in expected)
    append = RunFolder.append
    for number in range(KILLS):
        folder, tasks[:] = tmp_path / str(number), []
        monkeypatch.setattr(RunFolder, "append", killing(append, random.Random(number).randint(1, units - 2)))
        assert main([*arguments, "--output-dir", str(folder), "--workers", "2"]) == 0
        assert not multiprocessing.active_children()
        assert sorted(without_times(folder), key=repr) == sorted(expected, key=repr)
        for name in ("factors.json", "factors.csv", "config.yaml"):
            assert (folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
        assert units <= tasks.count("score") <= units + 1  # the pass that the worker was in


def test_an_evaluation_whose_worker_is_killed_gives_the_numbers_of_one_process(
    small_commands: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: list[str]
) -> None:
    arguments = [*small_commands["evaluate"], "--methods", "none", "linear", "ntk", "yarn"]
    assert main([*arguments, "--output-dir", str(tmp_path / "one")]) == 0
    append = compare.append_cell
    for number in range(KILLS):
        folder, tasks[:] = tmp_path / str(number), []
        monkeypatch.setattr(compare, "append_cell", killing(append, 1 + number % 3))
        assert main([*arguments, "--output-dir", str(folder), "--workers", "2"]) == 0
        assert not multiprocessing.active_children()
        lines = (folder / "cells.jsonl").read_text().count("\n")
        assert lines == (tmp_path / "one" / "cells.jsonl").read_text().count("\n")
        rows = [read_results(path / "results.json").rows for path in (tmp_path / "one", folder)]
        assert rows[0] == rows[1]
        assert tasks.count("run") in (lines, lines + 1)


def test_a_sweep_whose_worker_is_killed_gives_the_numbers_of_one_process(
    small_commands: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: list[str]
) -> None:
    arguments = [*small_commands["sweep"], "--samples=1"]  # leaves documents to test the best on
    assert main([*arguments, "--output-dir", str(tmp_path / "one")]) == 0
    append, parts = compare.append_cell, [Path(), Path("held-out")]
    expected = [(tmp_path / "one" / part / "cells.jsonl").read_text().count("\n") for part in parts]
    for number in range(max(KILLS, 2)):
        folder, tasks[:] = tmp_path / str(number), []
        at = random.Random(number).randint(1, expected[0] - 1)
        monkeypatch.setattr(compare, "append_cell", killing(append, at))
        assert main([*arguments, "--output-dir", str(folder), "--workers", "2"]) == 0
        assert not multiprocessing.active_children()
        for part, lines in zip(parts, expected, strict=True):
            assert (folder / part / "cells.jsonl").read_text().count("\n") == lines
            rows = [read_results(path / part / "results.json").rows for path in (tmp_path / "one", folder)]
            assert rows[0] == rows[1]
        for name in ("sweep.csv", "best.yaml", "methods/linear.csv"):
            assert (folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
        assert sum(expected) <= tasks.count("run") <= sum(expected) + 1


DRIVER = """
import json, multiprocessing, os, signal, sys
from longrope.cli.main import main
from longrope.evolution import RunFolder

append, stop = RunFolder.append, int(sys.argv[1])

def append_and_die(folder, rows):
    append(folder, rows)
    if len(folder.rows) >= stop:
        print(json.dumps([child.pid for child in multiprocessing.active_children()]), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

RunFolder.append = append_and_die
main(sys.argv[2:])
"""


@pytest.mark.skipif(not FULL, reason="the long form; tests of executors kill drivers without a model")
def test_a_search_whose_driver_is_killed_leaves_no_worker_and_goes_on(
    small_commands: dict[str, list[str]], tmp_path: Path
) -> None:
    arguments = small_commands["search"]
    assert main([*arguments, "--output-dir", str(tmp_path / "one")]) == 0
    expected = without_times(tmp_path / "one")
    for number in range(KILLS):
        stop, place = random.Random(number).randint(1, len(expected) - 4), tmp_path / str(number)
        folder = ["--output-dir", str(place)]
        command = [sys.executable, "-c", DRIVER, str(stop), *arguments, *folder, "--workers", "2"]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # workers hold the pipe
        assert ended.returncode == -signal.SIGKILL
        pids = json.loads(ended.stdout.splitlines()[-1])
        assert len(pids) == 2 and not any(map(alive, pids))
        assert main([*arguments, *folder]) == 0
        assert sorted(without_times(place), key=repr) == sorted(expected, key=repr)
        assert (place / "factors.json").read_bytes() == (tmp_path / "one/factors.json").read_bytes()


class Losing(InlineExecutor[Any]):
    """Loses every worker that a candidate of a certain name goes to, and one that the last of others goes to."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        def fatal(state: Any, unit: Unit) -> UnitScores:
            if "poison" in unit.candidates:  # type: ignore[comparison-overlap]
                raise TaskLost("3 workers were lost")
            return UnitScores([WindowScore(1.0, 5, forwarded=9) for _ in unit.candidates], 0.1)

        task = super().submit(fatal, *arguments)
        task.lost_seconds = 3.0 if "poison" in arguments[0].candidates else float("c" in arguments[0].candidates)
        return task


def test_a_candidate_that_kills_its_workers_fails_alone() -> None:
    objective = ExecutedObjective(Losing(lambda _: None), {False: [9, 9], True: [27, 27]}, unit_size=3)
    units = [Unit(("a", "poison", "b"), 1, False), Unit(("c",), 0, False)]  # type: ignore[arg-type]
    scores = dict(objective.score_units(units))
    assert [score.error for score in scores[0].scores] == [None, "TaskLost: 3 workers were lost", None]
    assert [score.nats for score in scores[0].scores] == [1.0, None, 1.0]
    assert scores[0].scores[1].forwarded == 9 and scores[1].scores[0].error is None
    assert [scores[place].seconds for place in (0, 1)] == pytest.approx([3.0 + 0.1 + 3.0 + 0.1, 1.0 + 0.1])


class Options:
    """Options of a command."""

    def __init__(self, **changes: Any) -> None:
        self.executor, self.workers, self.devices_per_worker = "auto", None, 1
        self.ray_address, self.device = None, "auto"
        vars(self).update(changes)


@pytest.mark.parametrize(
    ("options", "count", "kind"),
    [
        ({}, 0, "inline"),
        ({}, 1, "inline"),
        ({}, 2, "processes"),
        ({"device": "cpu"}, 2, "inline"),
        ({"device": "auto-shard"}, 2, "inline"),
        ({"workers": 2}, 0, "processes"),
        ({"workers": 1}, 4, "inline"),
        ({"devices_per_worker": 2}, 4, "processes"),
        ({"executor": "ray"}, 0, "ray"),
    ],
)
def test_auto_is_processes_where_there_are_several_devices(
    options: dict[str, Any], count: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert executor_kind(Options(**options)) == kind


@pytest.mark.parametrize(
    ("visible", "options", "groups"),
    [
        (None, {}, [("0",), ("1",), ("2",), ("3",), ("4",)]),
        ("7,5,3,1,GPU-ab", {"workers": 2}, [("7",), ("5",)]),
        ("7,5,3,1,GPU-ab", {"devices_per_worker": 2}, [("7", "5"), ("3", "1")]),
    ],
)
def test_each_process_has_a_group_of_the_visible_devices(
    visible: str | None, options: dict[str, Any], groups: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    seen: list[Any] = []
    monkeypatch.setattr("longrope.cli.executors.process_executor", lambda _, resources: seen.extend(resources))
    open_executor(Options(**options), lambda _: None)
    assert [one.devices for one in seen] == groups


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"devices_per_worker": 0}, "devices_per_worker must be at least 1"),
        ({"ray_address": "auto"}, "ray_address must come with the executor ray"),
        ({"executor": "inline", "workers": 2}, "must be 1 with the executor inline"),
        ({"executor": "processes"}, "workers must be given"),
        ({"workers": 2, "device": "cuda:1"}, "device must be auto, cuda or cpu"),
        ({"workers": 2, "devices_per_worker": 2, "device": "cpu"}, "devices_per_worker left out"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, Any], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=rule):
        open_executor(Options(**options), lambda _: None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1, True)),
        ({"device": "cuda"}, (1, False)),
        ({"device": "cpu"}, (0, False)),
        ({"devices_per_worker": 2}, (2, False)),  # who names devices wants them
    ],
)
def test_workers_of_ray_do_without_a_gpu_where_nobody_asks_for_one(
    options: dict[str, Any], expected: tuple[int, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("longrope.cli.executors.RayExecutor", lambda *arguments: asked.extend(arguments[-2:]))
    open_executor(Options(executor="ray", **options), lambda _: None)
    assert tuple(asked) == expected
