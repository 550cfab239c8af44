"""Put rescale factors into a Hugging Face model, prove that they act, and take them out again.

Only the rotary module is replaced; attention modules, kernels and caches are not touched.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from .embedding import ScaledRotaryEmbedding, Schedule
from .factor_sets import FactorSets, holds_factor_sets, load_factor_sets
from .factors import RescaleFactors
from .families import find_rope
from .frequencies import RopeGeometry
from .reading import load_factors


class Installation:
    """A model with our rotary module in place; a context manager that restores the model when it ends.

    Between `install` and `restore`, `set` chooses the candidates and `reset` shows the pre-trained model.
    """

    def __init__(self, model: nn.Module, original_length: int | None = None) -> None:
        self.model = model
        self._pretrained = rope = find_rope(model, original_length)
        self.geometry: RopeGeometry = rope.geometry
        num_layers = len(rope.layers) if rope.layers and rope.layer_type is None else None
        self.rotary = ScaledRotaryEmbedding(
            rope.module, rope.geometry, rope.layout, rope.casts, rope.layer_type, num_layers
        )
        self._hooks = _hook_layers(rope.layers, self.rotary)
        rope.parent.rotary_emb = self.rotary

    def set(self, candidates: Sequence[RescaleFactors]) -> None:
        """Use candidate c for batch row c (one candidate: for all rows); see `ScaledRotaryEmbedding.set`."""
        self.rotary.set(candidates)

    def set_differentiable(self, candidate: RescaleFactors) -> Tensor:
        """Use one candidate and return what to differentiate by; see `ScaledRotaryEmbedding.set_differentiable`."""
        return self.rotary.set_differentiable(candidate)

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The decoder layers."""
        return self._pretrained.layers

    def set_schedule(
        self, schedule: Schedule, planned_length: int | Sequence[int] | None = None, keep: bool = False
    ) -> None:
        """Use length-dependent factors; see `ScaledRotaryEmbedding.set_schedule`."""
        self.rotary.set_schedule(schedule, planned_length, keep)

    def reset(self) -> None:
        """Show the pre-trained RoPE while staying installed."""
        self.rotary.reset()

    def restore(self) -> None:
        """Put the pre-trained rotary module back; the model is bit for bit what it was."""
        for hook in self._hooks:
            hook.remove()
        self._pretrained.parent.rotary_emb = self._pretrained.module

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    @torch.no_grad()
    def check_canary(self, tokens: int = 32) -> float:
        """Return how far scaled factors move the logits of a probe; leaves the model in the pre-trained state.

        Raises:
            RuntimeError: the logits are not finite, do not move, or a batch row does not follow its own candidate.
        """
        device = self.model.get_input_embeddings().weight.device  # type: ignore[operator,union-attr]
        device = "cpu" if device.type == "meta" else device  # offloaded weights: accelerate moves the inputs
        ids = torch.arange(tokens, device=device)[None] % self.model.config.get_text_config().vocab_size  # type: ignore
        candidates = [_probe_factors(self.geometry, scale) for scale in (1.0, 4.0)]

        def logits(chosen: list[RescaleFactors]) -> Tensor:
            self.set(chosen)
            return self.model(input_ids=ids.expand(len(chosen), -1), use_cache=False)[0].float()

        try:
            plain, scaled, rows = logits(candidates[:1]), logits(candidates[1:]), logits(candidates)
        finally:
            self.reset()
        change = (plain - scaled).abs()
        strayed = (rows - torch.cat((plain, scaled))).abs().mean(dim=(1, 2))
        self._judge_canary(float(change.mean()), float(strayed.max()))
        return float(change.max())

    def _judge_canary(self, moved: float, strayed: float) -> None:
        name = type(self.model).__name__
        if not np.isfinite(moved + strayed):
            raise RuntimeError(f"logits must be finite, but {name} gives nan or inf on a probe; try another dtype")
        if moved == 0:
            raise RuntimeError(
                f"rescale factors must move the logits, but {name} gives the same ones with all frequencies divided "
                "by 4; its attention does not use this rotary module, so factors can't be searched"
            )
        if strayed > moved / 2:  # rounding of a batched forward is far below
            raise RuntimeError(
                f"each batch row must follow its own factors, but rows of {name} differ from their single runs by "
                f"{strayed:.3g} on average; load the model without use_kernels or other rotary functions"
            )


def install(model: nn.Module, original_length: int | None = None, canary: bool = True) -> Installation:
    """Replace the rotary module of a Hugging Face causal language model.

    Args:
        model: a model built by Transformers.
        original_length: context length of the pre-training, in tokens; default `max_position_embeddings`.
        canary: run three short forwards to prove that factors act on the logits, row by row.

    Raises:
        ValueError: the model has no RoPE module that can be replaced.
        RuntimeError: the canary found that factors do not act as they should; the model is restored.
    """
    installation = Installation(model, original_length)
    if canary:
        try:
            installation.check_canary()
        except BaseException:
            installation.restore()
            raise
    return installation


def apply_factors(
    model: nn.Module,
    factors: RescaleFactors | FactorSets | str | Path,
    target_length: int | None = None,
    planned_length: int | Sequence[int] | None = None,
) -> Installation:
    """Use rescale factors in a model, start tokens included; `restore()` of the result takes them out.

    Args:
        model: a model built by Transformers.
        factors: rescale factors, or any source of them that `load_factors` reads, or sets by length or their file. Of
            those a sequence gets the set of its planned length, or without it that of its first forward (the prompt, if
            it is read at once), and keeps it as long as it is in a cache.
        target_length: what the factors of a CSV were made for, in tokens; other sources tell it themselves.
        planned_length: of sets by length, prompt plus new tokens; one number, or one per batch row. Give it for prompts
            that are read in pieces or whose answers are long.

    Raises:
        ValueError: the factors can't be read, or don't fit the model.
        RuntimeError: the canary found that factors do not act as they should; the model is restored.

    Example:
        >>> apply_factors(model, "runs/tiny")
        >>> apply_factors(model, "published:llama2-7b-256k")
    """
    installation = install(model)
    try:
        if isinstance(factors, str | Path):
            by_length = holds_factor_sets(factors)
            geometry = installation.geometry
            factors = load_factor_sets(factors) if by_length else load_factors(factors, geometry, target_length)
        if isinstance(factors, FactorSets):
            installation.set_schedule(factors.at, planned_length, keep=True)
        else:
            installation.set([factors])
    except BaseException:
        installation.restore()
        raise
    return installation


def rope_geometry(model: nn.Module, original_length: int | None = None) -> RopeGeometry:
    """Return the pre-trained RoPE of a model without changing it."""
    return find_rope(model, original_length).geometry


def _hook_layers(layers: Sequence[nn.Module], rotary: ScaledRotaryEmbedding) -> list[Any]:
    """Let each decoder layer take its own cos and sin when factors differ by layer."""

    def take(index: int) -> Callable[..., Any]:
        def hook(
            layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            if len(rotary.layer_tables) <= 1:
                return None
            if "position_embeddings" not in kwargs:
                raise RuntimeError(
                    f"per-layer factors must reach each layer, but {type(layer).__name__} takes no tables"
                )
            return args, kwargs | {"position_embeddings": rotary.layer_tables[index]}

        return hook

    return [layer.register_forward_pre_hook(take(i), with_kwargs=True) for i, layer in enumerate(layers)]


def _probe_factors(geometry: RopeGeometry, scale: float) -> RescaleFactors:
    length = geometry.original_length
    lambdas = np.full(geometry.pairs, scale)
    return RescaleFactors(
        lambdas, length, round(scale * length), geometry.theta, geometry.rotary_dim, geometry.attention_factor
    )
