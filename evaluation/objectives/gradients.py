"""Derivatives of a loss with respect to rescale factors and attention factor, for searches that descend on them.

Memory: the weights are frozen, so that no gradient of theirs is made; of each layer only the input is kept, and its
forward is run again in the backward pass (activation checkpointing); logits exist for a few positions at a time.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...rope import RescaleFactors
from ..scoring.loss import differentiable_token_nats
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

    def __init__(self, objective: WindowObjective | MixedObjective) -> None:
        """Freeze the weights of the model, which a search never changes."""
        self.objective = objective
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
        parts = [(_differentiate(part, candidate, document), weight) for part, weight in self.parts]
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


def _differentiate(part: WindowObjective, candidate: RescaleFactors, document: int) -> GradientScore:
    ids, scored = part.window(document)
    forwarded = PASSES * part.tokens(document)
    try:
        with torch.enable_grad(), recomputed(part.installation.layers):
            changes = part.installation.set_differentiable(candidate)
            losses = differentiable_token_nats(part.model, ids[None].to(part.model.device), part.chunk, scored)
            total = losses.double().sum()
            (derivatives,) = torch.autograd.grad(total, changes)
        nats, (*d_log_lambda, d_log_attention) = total.item(), derivatives.tolist()
    except RuntimeError as failure:  # out of memory, or a kernel that has no derivative
        error = " ".join(f"{type(failure).__name__}: {failure}".split())
        return GradientScore(nats=None, tokens=len(scored), error=error, forwarded=forwarded)
    finally:
        part.installation.reset()  # lets go of the graph
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


@contextmanager
def recomputed(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Keep of each layer's forward only the input, and run it again in the backward pass.

    Transformers' own switch works in training mode alone, which would turn dropout on.
    """
    own = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward
