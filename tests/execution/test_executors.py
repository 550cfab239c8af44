"""What holds for executors of every kind, and what becomes of tasks whose workers are killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from longrope.execution import Resources, TaskFuture, TaskLost, only, process_executor
from longrope.execution.pool import PoolExecutor, Worker
from longrope.execution.processes import ProcessWorker

from .conftest import alive, open_kind


def toys() -> Any:  # imported where `toy_workers` is importable by name, as in the workers
    import toy_workers

    return toy_workers


def test_every_task_ends_once_with_its_result(kind: str) -> None:
    with open_kind(kind, toys().Toy) as executor:
        futures = {executor.submit(toys().square, number): number for number in range(20)}
        ended = list(executor.as_completed(futures))
        assert len(ended) == 20 and set(ended) == set(futures)
        assert all(future.result() == futures[future] ** 2 for future in ended)
        assert executor.num_workers == (1 if kind == "inline" else 2)


def test_a_task_that_raises_fails_alone_and_a_withdrawn_one_never_runs(kind: str) -> None:
    with open_kind(kind, toys().Toy, 1) as executor:
        asked: list[TaskFuture[Any]] = [executor.submit(toys().refuse, 3)]
        asked += [executor.submit(toys().square, number) for number in (4, 5)]
        bad, good, withdrawn = asked
        assert withdrawn.cancel()
        assert set(executor.as_completed(asked)) == set(asked)
        with pytest.raises(ArithmeticError, match="^no score for 3$"):
            bad.result()
        with pytest.raises(CancelledError):
            withdrawn.result()
        assert good.result() == 16
        assert only(executor, toys().pid_and_calls, 0.0)[1] == 2  # this and the good one


def test_what_the_factory_raises_comes_out(kind: str) -> None:
    with (
        open_kind(kind, toys().Broken, 1) as executor,
        pytest.raises(ValueError, match="the model must be there"),
    ):
        only(executor, toys().square, 2)


def test_what_can_not_travel_comes_out_with_its_type_and_text() -> None:
    with open_kind("processes", toys().Toy, 1) as executor:
        with pytest.raises(RuntimeError, match="^Unportable: no score for 3$") as caught:
            only(executor, toys().refuse_unportably)
        assert "toy_workers.py" in str(caught.value.__cause__)  # where it was raised
        with pytest.raises((AttributeError, RuntimeError), match="refuse_to_travel"):
            only(executor, toys().refuse_to_travel)
        with pytest.raises(SystemExit, match="no licence"):
            only(executor, toys().refuse_by_leaving)
        with pytest.raises((AttributeError, RuntimeError), match="lambda"):
            only(executor, lambda toy: toy)
        assert only(executor, toys().pid_and_calls, 0.0)[1] == 1  # still the first worker, with its first call
    with (
        open_kind("processes", toys().BrokenUnportably, 1) as executor,
        pytest.raises(RuntimeError, match="^Unportable: no model for workers$"),
    ):
        only(executor, toys().square, 2)


def test_workers_are_processes_of_their_own_with_their_share_of_the_machine() -> None:
    shares = [Resources(("4", "7"), None), Resources(("GPU-ab",), 3)]
    with process_executor(toys().Toy, shares) as executor:
        slow = [executor.submit(toys().pid_and_calls, 0.3) for _ in shares]
        pids = {future.result()[0] for future in executor.as_completed(slow)}
        assert len(pids) == 2 and os.getpid() not in pids
        told = [executor.submit(toys().facts) for _ in range(8)]
        seen = {future.result()[0]: future.result()[1:] for future in executor.as_completed(told)}
    assert seen[shares[0]][0] == "4,7" and seen[shares[1]] == ("GPU-ab", "3")
    assert all(not alive(pid) for pid in pids)


def test_the_task_of_a_killed_worker_is_given_to_another_up_to_a_cap(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    with open_kind("processes", toys().Toy) as executor:
        futures: dict[Any, int] = {executor.submit(toys().square, number): number for number in range(6)}
        unlucky = executor.submit(toys().die_until, few, 2)
        poison = executor.submit(toys().die_until, many, 99)
        assert len(list(executor.as_completed([*futures, unlucky, poison]))) == 8
        assert all(future.result() == number**2 for future, number in futures.items())
        assert unlucky.result() == 2
        with pytest.raises(TaskLost, match="3 workers were lost while they were at it"):
            poison.result()
        assert len(list(many.iterdir())) == 3
        assert only(executor, toys().square, 9) == 81


@pytest.mark.parametrize("size", [1, 300_000])  # one write, and more than a pipe holds
def test_a_worker_killed_in_the_middle_of_its_answer_is_replaced(size: int, tmp_path: Path) -> None:
    with open_kind("processes", toys().Toy, 1) as executor:
        assert only(executor, toys().die_in_answer_until, tmp_path, 1, size) == b"\x01" * size
        assert len(only(executor, toys().large, 10 * size)) == 10 * size


def test_the_time_of_lost_workers_is_known(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    started = time.perf_counter()
    with open_kind("processes", toys().Toy, 1) as executor:
        asked = [executor.submit(toys().take_and_die_until, *one, 0.1) for one in ((few, 1), (many, 99), (few, 1))]
        assert set(executor.as_completed(asked)) == set(asked)
    unlucky, poison, lucky = asked
    assert unlucky.result() == 1 and isinstance(poison.exception(), TaskLost) and lucky.result() == 1
    assert unlucky.lost_seconds >= 0.1 and poison.lost_seconds >= 0.3 and lucky.lost_seconds == 0
    assert unlucky.lost_seconds + poison.lost_seconds + 0.2 < time.perf_counter() - started


def test_a_worker_killed_before_it_starts_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = ProcessWorker.start, []

    def killed_first(worker: ProcessWorker) -> Any:
        started.append(worker)
        if len(started) == 1:
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
            time.sleep(0.3)  # in which whoever watches it may notice
        return start(worker)

    monkeypatch.setattr(ProcessWorker, "start", killed_first)
    with open_kind("processes", partial(toys().padded, bytes(1_000_000)), 1) as executor:  # more than a pipe holds
        assert only(executor, toys().square, 3) == 9
    assert len(started) == 2


def test_what_was_made_is_closed_where_the_rest_can_not_be() -> None:
    def fail() -> Worker:
        raise OSError("too many open files")

    makers: list[Callable[[], Worker]] = [lambda: ProcessWorker(toys().Toy, Resources((), 1)), fail]
    with pytest.raises(OSError, match="too many open files"):
        PoolExecutor(makers)
    assert not multiprocessing.active_children()


def test_a_worker_killed_while_idle_is_replaced_and_costs_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    kill, signalled = os.kill, []

    def noting(pid: int, number: int) -> None:
        signalled.append(pid)
        kill(pid, number)

    with process_executor(toys().Toy, [Resources((), 1)]) as executor:
        pid, _ = only(executor, toys().pid_and_calls, 0.0)
        os.kill(pid, signal.SIGKILL)
        (child,) = multiprocessing.active_children()
        child.join()
        monkeypatch.setattr(os, "kill", noting)
        task = executor.submit(toys().pid_and_calls, 0.0)
        assert list(executor.as_completed([task])) == [task] and task.lost_seconds == 0
        other, calls = task.result()
        assert other != pid and calls == 1
    assert signalled == [other]  # the first number may be that of another process by now


def test_workers_that_never_get_their_state_are_given_up_in_a_sentence() -> None:
    with (
        open_kind("processes", toys().Dying, 1) as executor,
        pytest.raises(RuntimeError, match="a worker must start, got 3 that ended before"),
    ):
        only(executor, toys().square, 2)


DRIVER = """
import signal
import sys
from pathlib import Path
import toy_workers
from longrope.execution import Resources, process_executor

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    with process_executor(toy_workers.Toy, [Resources((), 1)] * 2) as executor:
        for future in executor.as_completed([executor.submit(toy_workers.pid_and_calls, 0.3) for _ in range(2)]):
            print(future.result()[0], flush=True)
        list(executor.as_completed([executor.submit(toy_workers.wait_for, Path(sys.argv[1]))]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_driver(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [sys.executable, str(script), str(tmp_path / "never")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stdout and driver.stderr
        pids = [int(driver.stdout.readline()) for _ in range(2)]
        assert all(map(alive, pids))
        driver.send_signal(how)
        driver.stdout.read()  # workers hold the pipe: it ends when the last of them is about to be gone
    while any(map(alive, pids)):
        time.sleep(0.01)


UNCLOSED = """
import toy_workers
from longrope.execution import Resources, only, process_executor

if __name__ == "__main__":
    executor = process_executor(toy_workers.Toy, [Resources((), 1)])
    print(only(executor, toy_workers.pid_and_calls, 0.0)[0])
"""


def test_a_driver_that_forgets_to_close_ends_with_its_workers(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(UNCLOSED)
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True)
    assert not ended.stderr and not alive(int(ended.stdout))
