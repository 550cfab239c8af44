"""States and tasks that other processes can import, for the tests of executors."""

import os
import signal
import time
from pathlib import Path

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


def die_until(toy: Toy, folder: Path, times: int) -> int:
    """Take the worker along so many times, over all workers; then return how often."""
    deaths = len(list(folder.iterdir()))
    if deaths < times:
        (folder / str(deaths)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return deaths


def wait_for(toy: Toy, path: Path) -> int:
    """Return the process once a file is there."""
    while not path.exists():
        time.sleep(0.01)
    return os.getpid()
