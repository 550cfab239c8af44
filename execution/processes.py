"""Workers that are processes of this machine, each the one process of a pool of the standard library.

A pool of its own per worker, since a pool ends with the first process that it loses.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from typing import Any

from .base import Factory, Resources, State
from .pool import PoolExecutor
from .state import call, make_state


class ProcessWorker:
    """A process with one CUDA device or a group of them, or a share of the CPU."""

    lost: tuple[type[BaseException], ...] = (BrokenProcessPool,)

    def __init__(self, factory: Factory[Any], resources: Resources) -> None:
        self._factory, self._resources = factory, resources
        spawn = multiprocessing.get_context("spawn")  # a process with CUDA can't be forked
        self._pool = ProcessPoolExecutor(1, spawn, _prepare, (resources,))
        self._pid: Future[int] = self._pool.submit(os.getpid)

    def start(self) -> Future[None]:
        """Begin to make the state."""
        return self._pool.submit(make_state, self._factory, self._resources)

    def submit(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        """Run a task."""
        return self._pool.submit(call, function, *arguments)

    def close(self) -> None:
        """Kill the process: a pass may take minutes."""
        if self._pid.exception() is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid.result(), signal.SIGKILL)
        self._pool.shutdown()


def _prepare(resources: Resources) -> None:
    """Let a new process see its devices only, leave Ctrl-C to the driver, and end with it."""
    if resources.devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(resources.devices)
    if resources.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(resources.threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the end of the driver, however it ends; the process would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def process_executor(factory: Factory[State], resources: Sequence[Resources]) -> PoolExecutor[State]:
    """Return an executor with one process per entry of `resources`."""
    return PoolExecutor([partial(ProcessWorker, factory, one) for one in resources])
