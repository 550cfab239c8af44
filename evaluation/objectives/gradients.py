"""Derivatives of a loss with respect to rescale factors and attention factor, for searches that descend on them.

Memory: the weights are frozen, so that no gradient of theirs is made; of each layer only the input is kept, on the CPU
where the device may have no room for it, and its forward is run again in the backward pass (activation checkpointing);
feed-forward layers, norms and logits work on a part of the tokens at a time.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import save_on_cpu
from transformers import PreTrainedModel

from ...rope import RescaleFactors
from ..scoring.batching import in_fitting_chunks
from ..scoring.chunks import ROWS, Forward, in_chunks, recomputing, wrapped_forwards
from ..scoring.cost import gradient_bytes, input_bytes, model_size
from ..scoring.loss import differentiable_token_nats
from ..scoring.model import input_device
from ..scoring.resources import should_offload
from .base import WindowObjective, WindowScore
from .mixed import MixedObjective

PASSES = 3
"""What a token costs, in forward passes: one forward, and a backward of twice its work. The forwards that save memory
by being run again are left out, so that the cost is the same on every machine."""


@dataclass(frozen=True, kw_only=True)
class GradientScore(WindowScore):
    """The loss of one candidate on one window with its derivatives, which are empty if there is an error."""

    d_log_lambda: tuple[float, ...] = ()
    """Derivative of the summed loss with respect to the log of each rescale factor, length P."""
    d_log_attention: float = 0.0
    """Derivative of the summed loss with respect to the log of the attention factor."""


class GradientObjective:
    """Adds gradients to an objective, or to a weighted mean of several."""

    def __init__(self, objective: WindowObjective | MixedObjective, offload: bool | None = None) -> None:
        """Freeze the weights of the model, which a search never changes.

        Args:
            objective: what is differentiated.
            offload: keep the inputs of layers on the CPU; None: where a CUDA device may have no room for them.
        """
        self.objective, self.offload = objective, offload
        self.parts = objective.parts if isinstance(objective, MixedObjective) else [(objective, 1.0)]
        for part, _ in self.parts:
            part.model.requires_grad_(False)

    def price(self, document: int, gradient: bool) -> int:
        """Return the tokens that a score of one candidate costs, those of a backward pass counted twice."""
        return (PASSES if gradient else 1) * self.objective.tokens(document)

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> list[WindowScore]:
        """Return one score per candidate, in order, on the window with this index."""
        return self.objective.score(candidates, document)

    def gradient(self, candidate: RescaleFactors, document: int) -> GradientScore:
        """Return the score of one candidate on the window with this index, with its derivatives.

        Start tokens keep the pre-trained RoPE whatever the candidate, so only later positions contribute.
        """
        parts = [(_differentiate(part, candidate, document, self.offload), weight) for part, weight in self.parts]
        tokens, forwarded = (sum(getattr(score, name) for score, _ in parts) for name in ("tokens", "forwarded"))
        for score, _ in parts:
            if score.error is not None:
                return GradientScore(nats=None, tokens=tokens, error=score.error, forwarded=forwarded)
        shares = [(score, weight * tokens / score.tokens) for score, weight in parts]  # of the mean, times tokens
        total = sum(weight for _, weight in parts)
        return GradientScore(
            nats=sum(share * (score.nats or 0.0) for score, share in shares) / total,
            tokens=tokens,
            forwarded=forwarded,
            d_log_lambda=tuple(
                sum(share * score.d_log_lambda[pair] for score, share in shares) / total
                for pair in range(candidate.pairs)
            ),
            d_log_attention=sum(share * score.d_log_attention for score, share in shares) / total,
        )


def _differentiate(
    part: WindowObjective, candidate: RescaleFactors, document: int, offload: bool | None
) -> GradientScore:
    ids, scored = part.window(document)
    forwarded = PASSES * part.tokens(document)

    def differentiated(rows: int) -> tuple[float, list[float]]:
        short_of_memory = rows < ROWS and part.model.device.type == "cuda"
        on_cpu = (short_of_memory or _needs_offload(part.model, len(ids))) if offload is None else offload
        with torch.enable_grad(), in_chunks(part.model, rows), recomputed(part.installation.layers, on_cpu):
            changes = part.installation.set_differentiable(candidate)
            losses = differentiable_token_nats(part.model, ids[None].to(input_device(part.model)), part.chunk, scored)
            total = losses.double().sum()
            (derivatives,) = torch.autograd.grad(total, changes)
        return total.item(), derivatives.tolist()

    try:
        nats, (*d_log_lambda, d_log_attention) = in_fitting_chunks(part.model, differentiated)
    except (RuntimeError, MemoryError) as failure:  # or a kernel that has no derivative
        error = " ".join(f"{type(failure).__name__}: {failure}".split())
        return GradientScore(nats=None, tokens=len(scored), error=error, forwarded=forwarded)
    finally:
        part.installation.reset()  # frees the graph
    if not all(map(math.isfinite, (nats, *d_log_lambda, d_log_attention))):
        error = f"loss is {nats} with derivatives {d_log_lambda} and {d_log_attention}"
        return GradientScore(nats=None, tokens=len(scored), error=error, forwarded=forwarded)
    return GradientScore(
        nats=nats,
        tokens=len(scored),
        forwarded=forwarded,
        d_log_lambda=tuple(d_log_lambda),
        d_log_attention=d_log_attention,
    )


def _needs_offload(model: PreTrainedModel, length: int) -> bool:
    """Tell whether a CUDA device may have no room for the inputs of all layers."""
    eager = model.config._attn_implementation == "eager"
    size, width = model_size(model), model.dtype.itemsize
    return should_offload(model, gradient_bytes(size, length, width, eager), input_bytes(size, length, width))


def recomputed(layers: Sequence[nn.Module], offload: bool = False) -> AbstractContextManager[None]:
    """Keep of each layer's forward only the input, and run it again in the backward pass.

    Transformers' own switch works in training mode alone, which would turn dropout on.

    Args:
        layers: decoder layers.
        offload: keep the inputs on the CPU, from where the backward pass gets them one by one.
    """
    return wrapped_forwards(layers, _offloading if offload else recomputing)


def _offloading(forward: Forward) -> Forward:
    def kept_on_cpu(*args: Any, **kwargs: Any) -> Any:
        with save_on_cpu(pin_memory=torch.cuda.is_available()):
            return recomputing(forward)(*args, **kwargs)

    return kept_on_cpu
