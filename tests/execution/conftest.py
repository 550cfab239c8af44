"""Executors of every kind over the toy states."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from longrope.execution import Executor, InlineExecutor, RayExecutor, Resources, process_executor

Opened = Callable[..., Any]
"""Opens an executor: `with opened(factory, workers) as executor`."""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other processes import `toy_workers`."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((folder, os.environ.get("PYTHONPATH", ""))))
    sys.modules.pop("toy_workers", None)


@pytest.fixture(
    params=[
        "inline",
        "processes",
        pytest.param("ray", marks=pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")),
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@contextmanager
def open_kind(kind: str, factory: Callable[[Resources], Any], workers: int = 2) -> Iterator[Executor[Any]]:
    """Open an executor of a kind."""
    if kind == "inline":
        executor: Executor[Any] = InlineExecutor(factory)
    elif kind == "ray":
        executor = RayExecutor(factory, None, workers, 0)
    else:
        executor = process_executor(factory, [Resources((), 1)] * workers)
    with executor:
        yield executor
