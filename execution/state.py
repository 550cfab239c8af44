"""The state of the worker whose process this is."""

from collections.abc import Callable
from typing import Any

from .base import Factory, Resources

_states: list[Any] = []


def make_state(factory: Factory[Any], resources: Resources) -> None:
    """Make the state, once."""
    _states[:] = [factory(resources)]


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with the state and arguments."""
    return function(_states[0], *arguments)
