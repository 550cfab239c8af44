"""One worker, in this process."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from types import TracebackType
from typing import Any, Generic, Self

from .base import Factory, Resources, Result, State, TaskFuture


class InlineExecutor(Generic[State]):
    """Runs each task when its result is asked for, in the order of the asking; nothing has to be picklable.

    Args:
        factory: called before the first task.
    """

    num_workers = 1
    in_process = True

    def __init__(self, factory: Factory[State]) -> None:
        self._factory = factory
        self._calls: dict[TaskFuture[Any], tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    @cached_property
    def _state(self) -> State:
        return self._factory(Resources())

    def submit(self, function: Callable[..., Result], *arguments: Any) -> TaskFuture[Result]:
        """Remember a call of a function with the state and arguments."""
        future: TaskFuture[Result] = TaskFuture()
        self._calls[future] = function, arguments
        return future

    def as_completed(self, futures: Iterable[TaskFuture[Result]]) -> Iterator[TaskFuture[Result]]:
        """Run the calls one by one; what is raised is in the future, and an interrupt comes through."""
        for future in futures:
            call = self._calls.pop(future, None)
            if call is not None and future.set_running_or_notify_cancel():
                state, (function, arguments) = self._state, call
                try:
                    future.set_result(function(state, *arguments))
                except Exception as error:
                    future.set_exception(error)
            yield future

    def close(self) -> None:
        """Forget what was not asked for."""
        self._calls.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
