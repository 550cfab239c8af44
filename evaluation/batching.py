"""Micro-batches that shrink when the accelerator runs out of memory."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher:
    """Applies a function to a sequence in micro-batches, and remembers the size that fitted."""

    def __init__(self, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size

    def map(self, function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Result]:
        """Return the results of `function` over all items, in order.

        Raises:
            torch.OutOfMemoryError: not even one item fits.
        """
        results: list[Result] = []
        while len(results) < len(items):
            batch = items[len(results) : len(results) + self.batch_size]
            try:
                results += function(batch)
                continue
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
            self.batch_size = len(batch) // 2
            torch.cuda.empty_cache()  # outside the handler, whose traceback keeps the failed tensors alive
        return results
