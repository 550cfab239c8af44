"""What an executor is: workers that each hold a state, and tasks that are functions of it.

A worker makes its state once, by a factory: a model on its device. A task is a function of the state with arguments,
so that nothing large travels. A task whose worker is lost is given to another; one that loses its workers again and
again fails with `TaskLost`.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

State = TypeVar("State")
State_co = TypeVar("State_co", covariant=True)
Result = TypeVar("Result")

MAX_LOSSES = 3
"""Workers that a task may lose before it fails."""


@dataclass(frozen=True)
class Resources:
    """What a worker may use."""

    devices: tuple[str, ...] = ()
    """CUDA devices as `CUDA_VISIBLE_DEVICES` names them; none: those that its process sees anyway."""
    threads: int | None = None
    """CPU threads of its computations; None: as many as the library takes."""


def threads_per_worker(workers: int) -> int:
    """Return the CPU threads of each worker of this machine: `OMP_NUM_THREADS`, or an equal share of the cores."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    return int(named) if named.isdigit() and int(named) else max(1, len(os.sched_getaffinity(0)) // workers)


Factory = Callable[[Resources], State]
"""Makes the state of a worker, in the worker; for workers in other processes it has to be picklable."""


class TaskLost(RuntimeError):
    """A task has no result, because each worker that began it was lost."""


class TaskFuture(Future[Result]):
    """The result of a task, once it has one."""

    lost_seconds: float = 0.0
    """Wall time that workers were at it which were then lost."""


class Executor(Protocol, Generic[State_co]):
    """Runs tasks on workers; use it in a `with` statement, in one thread."""

    num_workers: int
    """Tasks that may run at once."""
    in_process: bool
    """Whether the state is in this process, so that tasks may be handed what can't be pickled."""

    def submit(self, function: Callable[..., Result], *arguments: Any) -> TaskFuture[Result]:
        """Let a worker call a function with its state and arguments; `cancel` of the result withdraws what waits.

        Args:
            function: for workers in other processes picklable, that is, of the top level of a module.
            arguments: follow the state; picklable, too.
        """
        ...

    def as_completed(self, futures: Iterable[TaskFuture[Result]]) -> Iterator[TaskFuture[Result]]:
        """Yield futures of `submit` as they end; nothing runs but while this is iterated over or a task is running.

        The result of a future raises what its task raised, or `TaskLost`.

        Raises:
            RuntimeError: workers are lost before they have their state.
            Exception: what the factory raised.
        """
        ...

    def close(self) -> None:
        """End the workers, with what they run; a future that has not ended never will."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def only(executor: Executor[State], function: Callable[..., Result], *arguments: Any) -> Result:
    """Return the result of one task."""
    (ended,) = executor.as_completed([executor.submit(function, *arguments)])
    return ended.result()
