"""Micro-batches that shrink when the accelerator runs out of memory."""

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

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
            free_memory()
        return results
