"""Workers that are processes of this machine, each at the other end of a connection that nobody else holds.

A connection ends with its process, so that a worker that is killed is noticed whatever it was at: starting, idle, in a
task, or in the middle of an answer.
"""

import atexit
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from .base import Factory, Resources, State
from .pool import PoolExecutor
from .state import call, make_state, portable_errors


class WorkerEnded(RuntimeError):
    """The process of a worker has ended."""


class ProcessWorker:
    """A process with one CUDA device or a group of them, or a share of the CPU; use it in one thread."""

    lost: tuple[type[BaseException], ...] = (WorkerEnded,)

    def __init__(self, factory: Factory[Any], resources: Resources) -> None:
        self._factory, self._resources = factory, resources
        spawn = multiprocessing.get_context("spawn")  # a process with CUDA can't be forked
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, resources))
        self._process.start()
        theirs.close()  # while it is open here, a read would not end with the process
        self._thread = ThreadPoolExecutor(1)
        atexit.register(self.close)  # before processes that still run are waited for

    def start(self) -> Future[None]:
        """Begin to make the state."""
        return self._thread.submit(self._ask, make_state, self._factory, self._resources)

    def submit(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        """Run a task."""
        if not self._process.is_alive():
            raise WorkerEnded(f"process {self._process.pid} has ended with exit code {self._process.exitcode}")
        return self._thread.submit(self._ask, call, function, *arguments)

    def close(self) -> None:
        """Kill the process: a pass may take minutes."""
        self._process.kill()  # nothing where it has ended, even if another one has its number by now
        self._process.join()
        self._thread.shutdown()
        self._connection.close()
        atexit.unregister(self.close)

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Let the process call a function, and return its result or raise its error."""
        request = pickle.dumps((function, arguments))
        try:
            self._connection.send_bytes(request)
            answer = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise WorkerEnded(f"process {self._process.pid} has ended without an answer") from error
        result, error, trace = pickle.loads(answer)
        if error is not None:
            raise error from RuntimeError(trace)
        return result


def _serve(connection: Connection, resources: Resources) -> None:
    """Answer the driver until it ends."""
    _prepare(resources)
    with suppress(EOFError, OSError):  # of the connection: what a call raises is in its answer
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))


def _answer(request: bytes) -> bytes:
    """Return the pickled result of a pickled call, or what it raised, with the traceback."""
    try:
        with portable_errors():
            function, arguments = pickle.loads(request)
            return pickle.dumps((function(*arguments), None, ""))
    except BaseException as error:
        return pickle.dumps((None, error, traceback.format_exc()))


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
