"""Executors of every kind over the toy states."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from longrope.execution import Executor, InlineExecutor, Resources, process_executor


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other processes import `toy_workers`."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((folder, os.environ.get("PYTHONPATH", ""))))
    sys.modules.pop("toy_workers", None)


@pytest.fixture(params=["inline", "processes"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@contextmanager
def open_kind(kind: str, factory: Callable[[Resources], Any], workers: int = 2) -> Iterator[Executor[Any]]:
    """Open an executor of a kind."""
    executor: Executor[Any] = InlineExecutor(factory)
    if kind == "processes":
        executor = process_executor(factory, [Resources((), 1)] * workers)
    with executor:
        yield executor


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
