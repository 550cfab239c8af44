"""States and tasks that other processes can import, for the tests of executors."""

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from longrope.execution import Resources


class Toy:
    """A state that knows its process and its resources."""

    def __init__(self, resources: Resources) -> None:
        self.resources, self.calls = resources, 0


class Broken(Toy):
    """Can't be made."""

    def __init__(self, resources: Resources) -> None:
        raise ValueError(f"the model must be there, got none for {resources.threads} threads")


class Dying(Toy):
    """Takes its process with it."""

    def __init__(self, resources: Resources) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Unportable(ArithmeticError):
    """Can be pickled, but not be made again from its pickle."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"no {what} for {where}")


class BrokenUnportably(Toy):
    """Can't be made, for a reason that can't travel."""

    def __init__(self, resources: Resources) -> None:
        raise Unportable("model", "workers")


def padded(padding: bytes, resources: Resources) -> Toy:
    """Return a state, made by a factory of any size."""
    return Toy(resources)


def square(toy: Toy, number: int) -> int:
    """Return the square."""
    toy.calls += 1
    return number**2


def pid_and_calls(toy: Toy, seconds: float) -> tuple[int, int]:
    """Return the process and how many tasks it had, after some time."""
    toy.calls += 1
    time.sleep(seconds)
    return os.getpid(), toy.calls


def facts(toy: Toy) -> tuple[Resources, str | None, str | None]:
    """Return what the process was given."""
    return toy.resources, os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")


def refuse(toy: Toy, number: int) -> None:
    """Raise what a task may raise."""
    raise ArithmeticError(f"no score for {number}")


def refuse_unportably(toy: Toy) -> None:
    """Raise what can't travel."""
    raise Unportable("score", "3")


def refuse_to_travel(toy: Toy) -> Any:
    """Return what can't be pickled."""
    return lambda: None


def refuse_by_leaving(toy: Toy) -> None:
    """Raise what ends a process where nobody catches it."""
    raise SystemExit("no licence")


def large(toy: Toy, size: int) -> bytes:
    """Return many bytes."""
    return bytes(size)


def die_until(toy: Toy, folder: Path, times: int) -> int:
    """Take the worker along so many times, over all workers; then return how often."""
    deaths = len(list(folder.iterdir()))
    if deaths < times:
        (folder / str(deaths)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return deaths


def take_and_die_until(toy: Toy, folder: Path, times: int, seconds: float) -> int:
    """Take some time, and then the worker along so many times."""
    time.sleep(seconds)
    return die_until(toy, folder, times)


def die_in_answer_until(toy: Toy, folder: Path, times: int, size: int) -> bytes:
    """Take the worker along in the middle of the answer so many times; then return how often, in so many bytes."""
    deaths = len(list(folder.iterdir()))
    if deaths < times:
        (folder / str(deaths)).touch()

        def send_half(connection: Connection, buffer: Any) -> None:
            os.write(connection.fileno(), bytes(buffer)[: max(1, len(buffer) // 2)])
            os.kill(os.getpid(), signal.SIGKILL)

        Connection._send = send_half  # type: ignore[attr-defined]
    return bytes([deaths]) * size


def wait_for(toy: Toy, path: Path) -> int:
    """Return the process once a file is there."""
    while not path.exists():
        time.sleep(0.01)
    return os.getpid()
