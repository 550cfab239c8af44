"""The rotary module that carries candidates: cos and sin per batch row, start tokens, angles in float32.

Shapes: B batch rows, C candidates (1, or one per batch row), L rows of layers (1 unless factors differ by layer),
T tokens, P = d/2 pairs.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .factors import RescaleFactors
from .frequencies import RopeGeometry, inverse_frequencies

Schedule = Callable[[int], RescaleFactors]
"""Rescale factors as a function of the sequence length in tokens."""

Layout = Literal["half", "interleaved", "single", "complex"]
"""How a model wants its P angles: twice in halves (0, 1, .., 0, 1, ..), twice as neighbours (0, 0, 1, 1, ..), once,
or once as complex numbers cos + i sin."""

Tables = tuple[Tensor, Tensor] | Tensor
"""Cos and sin, each (1 or C, T, d), or (.., P) in the `single` layout; one complex tensor (.., P) in `complex`."""


def rotary_tables(angles: Tensor, scale: Tensor | float, layout: Layout, dtype: torch.dtype) -> Tables:
    """Return cos and sin of float32 angles (1 or C, T, P), times `scale`, cast to `dtype` last."""
    if layout == "complex":
        return torch.polar(torch.ones_like(angles), angles) * scale
    if layout == "half":
        angles = torch.cat((angles, angles), dim=-1)
    elif layout == "interleaved":
        angles = angles.repeat_interleave(2, dim=-1)
    return (angles.cos() * scale).to(dtype), (angles.sin() * scale).to(dtype)


class ScaledRotaryEmbedding(nn.Module):
    """Replaces a model's rotary module; without candidates it calls the pre-trained one.

    1. Row c of a batch is rotated by candidate c, so one forward scores C candidates exactly as C forwards would.
    2. Positions below a candidate's start tokens keep the pre-trained angles (LongRoPE eq. 3).
    3. Angles are float32 products of float32 positions and frequencies, whatever the model's dtype, as in the
       models' own training. Nothing here is a buffer or a submodule, so `model.to(torch.bfloat16)` rounds no
       frequency. Cos and sin are cast last.
    """

    pretrained: nn.Module
    """The model's own rotary module."""
    layer_tables: list[Tables]
    """What the last call computed, one entry per row of layers; empty after `reset`."""

    def __init__(
        self,
        pretrained: nn.Module,
        geometry: RopeGeometry,
        layout: Layout = "half",
        casts: bool = True,
        layer_type: str | None = None,
        num_layers: int | None = None,
    ) -> None:
        """Start in the pre-trained state.

        Args:
            pretrained: the model's own rotary module.
            geometry: its frequencies.
            layout: what its tables look like.
            casts: whether cos and sin take the dtype of the activations (OLMo keeps them in float32).
            layer_type: the kind of layers that is rescaled, where the model has a RoPE for each kind.
            num_layers: rows that per-layer factors must have; None refuses per-layer factors.
        """
        super().__init__()
        self.__dict__["pretrained"] = pretrained  # no submodule: see point 3
        self.geometry = geometry
        self.layout: Layout = layout
        self.casts = casts
        self.layer_type = layer_type
        self.num_layers = num_layers
        self.reset()

    def reset(self) -> None:
        """Go back to the pre-trained RoPE."""
        self._candidates: list[RescaleFactors] = []
        self._schedule: Schedule | None = None
        self._planned: Tensor | None = None
        self._keep = False
        self._tensors: tuple[Tensor, ...] = ()
        self.layer_tables = []

    def set(self, candidates: Sequence[RescaleFactors]) -> None:
        """Use candidate c for batch row c; a single candidate holds for all rows.

        Raises:
            ValueError: there is no candidate, or one does not fit the model's rotary dimension or its layers.
        """
        if not candidates:
            raise ValueError("candidates must hold at least one set of factors, got none; use reset() for none")
        tensors = self._stack(candidates)
        self.reset()
        self._candidates, self._tensors = list(candidates), tensors

    def set_differentiable(self, candidate: RescaleFactors) -> Tensor:
        """Use one candidate, and return what to differentiate a loss by.

        Returns:
            Changes of log lambda, for each pair, and of the log attention factor: zeros, shape (P + 1,), float32, that
            require gradients. They leave every bit of cos and sin as it is without them.
        """
        self.set([candidate])
        changes = torch.zeros(self.geometry.pairs + 1, requires_grad=True)
        inv_freq, base, start_tokens, factor, start_factor = self._tensors
        rescaled, scaled = inv_freq * torch.exp(-changes[:-1]), factor * torch.exp(changes[-1])
        self._tensors = (rescaled, base, start_tokens, scaled, start_factor)
        return changes

    def set_schedule(
        self, schedule: Schedule, planned_length: int | Sequence[int] | None = None, keep: bool = False
    ) -> None:
        """Use factors that depend on the length of the sequence (dynamic methods, short/long pairs).

        The length is that of each batch row (its last position + 1), so a left-padded row gets the factors it would
        get alone. Keys in a cache keep the rotation they were made with, so a cached sequence needs one set of
        factors: `planned_length` (prompt plus new tokens; one number, or one per batch row) fixes it beforehand.
        Without it, a step that continues a sequence and would change the factors raises instead of mixing rotations,
        or with `keep` goes on with the factors that the sequence began with.
        """
        self.reset()
        self._keep = keep
        self._schedule = schedule
        self._planned = None if planned_length is None else torch.tensor(planned_length).reshape(-1)

    def _check(self, candidate: RescaleFactors) -> None:
        if candidate.rotary_dim != self.geometry.rotary_dim:
            raise ValueError(
                f"factors must have length {self.geometry.pairs} (rotary dim {self.geometry.rotary_dim} / 2), got "
                f"{candidate.pairs}; was the file searched for a model with another head size or partial rotary?"
            )
        if not math.isclose(candidate.theta, self.geometry.theta, rel_tol=1e-6):
            raise ValueError(
                f"factors must be made for the model's theta {self.geometry.theta:g}, got {candidate.theta:g}; were "
                "they made for another model?"
            )
        if candidate.per_layer and self.num_layers is None:
            raise ValueError(
                "per-layer factors must meet a model whose layers share one RoPE, got one with local layers or "
                "unknown layers; use one row of factors"
            )
        if candidate.per_layer and len(candidate.lambdas) != self.num_layers:
            raise ValueError(
                f"per-layer factors must have {self.num_layers} rows (layers), got {len(candidate.lambdas)}; "
                "was the file made for a model of another depth?"
            )

    def _stack(self, candidates: Sequence[RescaleFactors]) -> tuple[Tensor, ...]:
        """Return inv_freq (C, L, P), base inv_freq (P,), start tokens (C,), factor (C,), start factor (C,)."""
        for candidate in candidates:
            self._check(candidate)
        tables = [torch.tensor(c.lambdas, dtype=torch.float64).reshape(-1, c.pairs) for c in candidates]
        rows = max(len(table) for table in tables)
        lambdas = torch.stack([table.expand(rows, -1) for table in tables])
        columns = [
            torch.tensor([getattr(c, name) for c in candidates], dtype=torch.float32)
            for name in ("start_tokens", "attention_factor", "start_attention_factor")
        ]
        base = torch.tensor(self.geometry.inv_freq).float()
        return (rescaled_inv_freq(self.geometry, lambdas), base, *columns)

    def _follow_schedule(self, schedule: Schedule, positions: Tensor) -> None:
        lengths = positions.amax(dim=-1) + 1  # one per row
        planned = lengths if self._planned is None else self._planned.to(lengths.device)
        if bool((lengths > planned).any()):
            raise ValueError(
                f"planned_length must cover the whole sequence, got {planned.tolist()} for {lengths.tolist()} tokens; "
                "pass prompt plus new tokens"
            )
        wanted = [schedule(length) for length in planned.tolist()]
        wanted = wanted[:1] if all(candidate == wanted[0] for candidate in wanted) else wanted
        if wanted == self._candidates:
            return
        if self._candidates and bool((positions.amin(dim=-1) > 0).any()):
            if self._keep:
                return
            raise RuntimeError(
                f"factors must stay the same while a cache is in use, but they change at length {lengths.tolist()}; "
                "pass planned_length (prompt plus new tokens), or generate with use_cache=False"
            )
        self._candidates, self._tensors = wanted, self._stack(wanted)

    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> Tables:
        """Return the tables of the first row of layers, in the dtype of `x` (B, T, hidden) where the model casts.

        Raises:
            ValueError: several candidates are installed and the batch has another size.
        """
        if layer_type != self.layer_type or (self._schedule is None and not self._candidates):
            extra = () if layer_type is None else (layer_type,)
            return self.pretrained(x, position_ids, *extra)
        positions = _text_positions(position_ids)
        if self._schedule is not None:
            self._follow_schedule(self._schedule, positions)
        if len(self._candidates) not in (1, len(x)):
            raise ValueError(
                f"candidates must be one or as many as batch rows, got {len(self._candidates)} for {len(x)} rows"
            )
        self._tensors = tuple(t.to(x.device) for t in self._tensors)
        self.layer_tables = [self._tables(x.dtype, positions, row) for row in range(self._tensors[0].shape[1])]
        return self.layer_tables[0]

    def angles(self, positions: Tensor, row: int = 0) -> Tensor:
        """Return the float32 angles (C, T, P) of positions (1 or C, T) for a row of layers, in radians."""
        inv_freq, base, start_tokens, *_ = self._tensors
        columns = positions[..., None].float()  # exact below 2^24
        angles = columns * inv_freq[:, None, row, :]
        if start_tokens.any():
            angles = torch.where(columns < start_tokens[:, None, None], columns * base, angles)
        return angles

    def _tables(self, dtype: torch.dtype, positions: Tensor, row: int) -> Tables:
        _, _, start_tokens, factor, start_factor = (t[..., None, None] for t in self._tensors)
        scale = torch.where(positions[..., None] < start_tokens, start_factor, factor)  # (C, T, 1)
        return rotary_tables(self.angles(positions, row), scale, self.layout, dtype if self.casts else torch.float32)


def rescaled_inv_freq(geometry: RopeGeometry, lambdas: Tensor) -> Tensor:
    """Return the float32 inverse frequencies of rescale factors of shape (..., P), in radians per token.

    They come from the float32 formula of Transformers' longrope, `1 / (f theta^(2i/d))` with f relative to plain RoPE,
    and not from a better one: an angle is position times frequency, so the last bit counts at long positions, and an
    exported model has to give the logits of this one. A factor of 1 is the pre-trained frequency itself.
    """
    base = torch.tensor(geometry.inv_freq)
    plain = torch.from_numpy(inverse_frequencies(geometry.rotary_dim, geometry.theta))
    prescaled = torch.where(torch.isclose(plain, base, rtol=1e-6, atol=0), 1.0, plain / base)
    powers = geometry.theta ** (torch.arange(0, geometry.rotary_dim, 2).float() / geometry.rotary_dim)
    return torch.where(lambdas == 1, base.float(), 1 / ((lambdas * prescaled).float() * powers))


def _text_positions(position_ids: Tensor) -> Tensor:
    """Return positions (1 or B, T); vision-language models pass three per token, which agree for text."""
    if position_ids.ndim == 2:
        return position_ids
    if not bool((position_ids == position_ids[:1]).all()):
        raise ValueError(
            "position_ids must be the same on all axes, got image or video positions; rescale factors act on text only"
        )
    return position_ids[0]
