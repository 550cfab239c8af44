"""Micro-batches, and chunks along the sequence, that shrink when the accelerator runs out of memory."""

import gc
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from .chunks import ROWS

LEAST_ROWS = 1024
"""Tokens of the smallest chunk along a sequence that is tried."""
SMALLER = 4
"""What the tokens of a chunk are divided by where they did not fit."""

Item = TypeVar("Item")
Result = TypeVar("Result")


OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What a RuntimeError says on devices without an exception of their own: MPS, CPU on Linux, CPU on Windows."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that less at a time might fit, on CUDA, MPS or CPU."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in OUT_OF_MEMORY)
    )


def free_memory() -> None:
    """Give cached memory back to the device; call it outside the handler, whose traceback keeps tensors alive."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


_fitting: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Rows of the chunks that fitted, for models of which larger ones did not."""


def fitting_rows(model: nn.Module) -> int:
    """Return the tokens of a chunk along the sequence that fit in memory so far, as of `chunks.in_chunks`."""
    return _fitting.get(model, ROWS)


def in_fitting_chunks(model: nn.Module, function: Callable[[int], Result]) -> Result:
    """Return what a function gives that works on so many tokens at a time, fewer where memory runs out.

    What fitted is remembered for the model. Use it for one window or prompt; several are to be divided first.

    Raises:
        Exception: what the device raises when chunks of `LEAST_ROWS` tokens do not fit either.
    """
    while True:
        rows = fitting_rows(model)
        try:
            return function(rows)
        except (RuntimeError, MemoryError) as error:
            if rows <= LEAST_ROWS or not is_out_of_memory(error):
                _fitting.pop(model, None)  # no size fits this length; shorter ones may have all of it
                raise
        _fitting[model] = rows // SMALLER
        warnings.warn(f"memory ran out in a pass; it runs again in chunks of {rows // SMALLER} tokens", stacklevel=2)
        free_memory()


class Batcher:
    """Applies a function to a sequence in micro-batches, and remembers the size that fitted."""

    def __init__(self, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size

    def map(self, function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Result]:
        """Return the results of `function` over all items, in order.

        Raises:
            Exception: what the device raises when not even one item fits; see `is_out_of_memory`.
        """
        results: list[Result] = []
        while len(results) < len(items):
            batch = items[len(results) : len(results) + self.batch_size]
            try:
                results += function(batch)
                continue
            except (RuntimeError, MemoryError) as error:
                if len(batch) == 1 or not is_out_of_memory(error):
                    raise
            self.batch_size = len(batch) // 2
            warnings.warn(f"memory ran out in a pass of {len(batch)}; it goes on by {self.batch_size}", stacklevel=2)
            free_memory()
        return results
