"""The state of the worker whose process this is."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .base import Factory, Resources

_states: list[Any] = []


def make_state(factory: Factory[Any], resources: Resources) -> None:
    """Make the state, once."""
    _states[:] = [factory(resources)]


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with the state and arguments."""
    return function(_states[0], *arguments)


@contextmanager
def portable_errors() -> Iterator[None]:
    """Raise an error that can't be pickled, or made again from its pickle, as a RuntimeError with its type and text."""
    try:
        yield
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise
