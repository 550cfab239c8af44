"""What holds for executors of every kind, and what becomes of tasks whose workers are killed."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from longrope.execution import Resources, TaskLost, only, process_executor

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
        asked: list[Future[Any]] = [executor.submit(toys().refuse, 3)]
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


def test_a_worker_killed_while_idle_is_replaced_and_costs_no_task() -> None:
    with process_executor(toys().Toy, [Resources((), 1)]) as executor:
        pid, _ = only(executor, toys().pid_and_calls, 0.0)
        os.kill(pid, signal.SIGKILL)
        while alive(pid):
            time.sleep(0.01)
        other, calls = only(executor, toys().pid_and_calls, 0.0)
        assert other != pid and calls == 1


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
        driver.stdout.read()  # workers hold the pipe: it ends with the last of them
    assert not any(map(alive, pids))
