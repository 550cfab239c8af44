"""Long windows in few activations: feed-forward layers and norms run on a part of the tokens at a time.

Both act on each token alone, so the results are those of one call, to the rounding of the matrix products. What
attention needs stays whole: at its peak a decoder layer holds a few tensors of shape (B, T, hidden), and of the
feed-forward width only `ROWS` tokens.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

ROWS = 16384
"""Tokens, over all batch rows, that a feed-forward layer or a norm gets at once; fewer go through it in one call."""
PREFILL_CHUNK = 8192
"""Tokens of a prompt that go through the model at once, so that activations stay small at 128k."""
OFFLOADED_CHUNK = 65536
"""The same with keys and values on the CPU: each chunk moves all of them to the device once."""

Forward = Callable[..., Any]
TOKENWISE = re.compile(r"(norm|mlp|moe|moeblock|feedforward|ffn)$", re.IGNORECASE)
"""How Transformers names the classes of what acts on each token alone."""


def tokenwise_modules(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules whose class says that they act on each token alone."""
    for child in module.children():
        if TOKENWISE.search(type(child).__name__):
            yield child
        else:
            yield from tokenwise_modules(child)


@contextmanager
def in_chunks(model: nn.Module, rows: int = ROWS) -> Iterator[None]:
    """Run feed-forward layers and norms on `rows` tokens at a time; no weight is copied or moved.

    With gradients on, each chunk keeps its input alone and is run again in the backward pass, which has to happen
    inside the context as well.

    Args:
        model: of Transformers; also one whose modules accelerate moves between devices.
        rows: tokens, over all batch rows; a shorter input is not touched.
    """
    with wrapped_forwards([*dict.fromkeys(tokenwise_modules(model))], partial(_by_rows, rows=rows)):
        yield


@contextmanager
def wrapped_forwards(modules: Sequence[nn.Module], wrap: Callable[[Forward], Forward]) -> Iterator[None]:
    """Replace the forward of modules by what `wrap` makes of it, until the context ends."""
    own = [module.__dict__.get("forward") for module in modules]
    for module in modules:
        module.forward = wrap(module.forward)
    try:
        yield
    finally:
        for module, forward in zip(modules, own, strict=True):
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def recomputing(forward: Forward) -> Forward:
    """Return a forward that keeps its inputs alone, and runs again in the backward pass."""
    return partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False)


def _by_rows(forward: Forward, rows: int) -> Forward:
    def chunked(*args: Any, **kwargs: Any) -> Any:
        states = args[0] if len(args) == 1 and not kwargs else None
        if not isinstance(states, torch.Tensor) or states.shape[:-1].numel() <= rows:
            return forward(*args, **kwargs)
        axis = max(range(states.ndim - 1), key=states.shape.__getitem__)
        pieces = states.split(max(1, rows * states.shape[axis] // states.shape[:-1].numel()), axis)
        gradients = torch.is_grad_enabled()
        run = recomputing(forward) if gradients else forward
        outputs = (run(piece.contiguous()) for piece in pieces)  # a copy only where there are several batch rows
        first = next(outputs)
        if not isinstance(first, torch.Tensor) or first.shape[:-1] != pieces[0].shape[:-1]:
            return forward(states)  # it gives more than states, e.g. the choice of experts
        if gradients:
            return torch.cat([first, *outputs], axis)
        joined = first.new_empty(*states.shape[:-1], first.shape[-1])
        for place, output in zip(joined.split(pieces[0].shape[axis], axis), chain([first], outputs), strict=True):
            place.copy_(output)
        return joined

    return chunked
