"""The workers of an executor: who is starting, idle or busy, and what becomes of the task of one that is lost.

What a worker is made of is behind `Worker`: a process (`processes.py`) or an actor of Ray (`on_ray.py`). Each has one
task at a time, so the task that a lost worker had is known.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, Self

from .base import MAX_LOSSES, Result, State, TaskFuture, TaskLost


class Worker(Protocol):
    """One worker, from its start to its loss."""

    lost: tuple[type[BaseException], ...]
    """What its futures raise, and `submit`, once it is lost; never its tasks."""

    def start(self) -> Future[None]:
        """Begin to make the state; a worker that is lost by now says so in the future."""
        ...

    def submit(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        """Run a task; the one before has ended."""
        ...

    def close(self) -> None:
        """End at once, whatever it runs; a lost worker may be closed, too."""
        ...


@dataclass(eq=False)
class _Job:
    """A task and how many workers it has lost."""

    future: TaskFuture[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    losses: int = 0
    began: float = 0.0
    """When its last worker began it, by `time.perf_counter`."""


@dataclass(eq=False)
class _Seat:
    """Where a worker sits; when it is lost, another one takes its place."""

    make: Callable[[], Worker]
    worker: Worker
    failed_starts: int = 0


class PoolExecutor(Generic[State]):
    """Spreads tasks over workers.

    Args:
        makers: make one worker each, again whenever one is lost.
        max_losses: workers that a task may lose before it fails, and that a seat may lose before any has its state.
    """

    in_process = False

    def __init__(self, makers: Sequence[Callable[[], Worker]], max_losses: int = MAX_LOSSES) -> None:
        self.num_workers, self._max_losses = len(makers), max_losses
        self._seats: list[_Seat] = []
        self._idle: list[_Seat] = []
        self._waiting: deque[_Job] = deque()
        self._running: dict[Future[Any], tuple[_Seat, _Job | None]] = {}
        """What seats are at: a job, or None while they start."""
        try:
            for make in makers:
                self._seats.append(_Seat(make, make()))
                self._start(self._seats[-1])
        except BaseException:
            self.close()
            raise

    def submit(self, function: Callable[..., Result], *arguments: Any) -> TaskFuture[Result]:
        """See `Executor.submit`."""
        future: TaskFuture[Result] = TaskFuture()
        self._waiting.append(_Job(future, function, arguments))
        self._assign()
        return future

    def as_completed(self, futures: Iterable[TaskFuture[Result]]) -> Iterator[TaskFuture[Result]]:
        """See `Executor.as_completed`."""
        wanted = dict.fromkeys(futures)
        while wanted:
            for future in [one for one in wanted if one.done()]:
                del wanted[future]
                yield future
            self._assign()
            if wanted and self._running:
                for ended in wait(self._running, return_when=FIRST_COMPLETED).done:
                    self._settle(ended, *self._running.pop(ended))

    def close(self) -> None:
        """See `Executor.close`."""
        for seat in self._seats:
            seat.worker.close()
        self._idle.clear()
        self._waiting.clear()
        self._running.clear()

    def _start(self, seat: _Seat) -> None:
        self._running[seat.worker.start()] = seat, None

    def _replace(self, seat: _Seat) -> None:
        seat.worker.close()
        seat.worker = seat.make()
        self._start(seat)

    def _assign(self) -> None:
        """Give what waits to those that are idle."""
        while self._idle and self._waiting:
            job, seat = self._waiting.popleft(), self._idle.pop(0)
            if not job.future.running() and not job.future.set_running_or_notify_cancel():
                self._idle.insert(0, seat)
                continue
            job.began = time.perf_counter()
            try:
                self._running[seat.worker.submit(job.function, job.arguments)] = seat, job
            except seat.worker.lost:  # while it was idle, which is not the job's fault
                self._waiting.appendleft(job)
                self._replace(seat)

    def _settle(self, ended: Future[Any], seat: _Seat, job: _Job | None) -> None:
        """Take note of a worker that has its state, or of a task that ended."""
        error = ended.exception()
        if isinstance(error, seat.worker.lost):
            self._count_loss(error, seat, job)
            self._replace(seat)
            return
        if job is None:
            if error is not None:
                raise error
            seat.failed_starts = 0
        elif error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(ended.result())
        self._idle.append(seat)

    def _count_loss(self, error: BaseException | None, seat: _Seat, job: _Job | None) -> None:
        """Let the task of a lost worker wait again, or fail."""
        if job is None:
            seat.failed_starts += 1
            if seat.failed_starts >= self._max_losses:
                raise RuntimeError(
                    f"a worker must start, got {seat.failed_starts} that ended before they had their model; see what "
                    "they said, and whether memory suffices for all workers, or take fewer (--workers)"
                ) from error
            return
        job.losses += 1
        job.future.lost_seconds += time.perf_counter() - job.began
        if job.losses < self._max_losses:
            self._waiting.appendleft(job)
        else:
            reason = f"{job.losses} workers were lost while they were at it (killed, crashed, or out of memory)"
            job.future.set_exception(TaskLost(reason))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
