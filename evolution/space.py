"""The search space of LongRoPE (arXiv 2402.13753, table 4), on an integer grid.

Genomes count whole grid steps, so they compare, hash and travel through JSON exactly, and a trace is the same on every
machine; only `Space.decode` makes floats of them. Shapes: P = rotary_dim / 2 pairs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rope.attention_factor import yarn
from ..rope.factors import RescaleFactors
from ..rope.frequencies import RopeGeometry

START_TOKEN_CHOICES = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256)
ATTENTION_RESOLUTION = 1000
"""Grid steps per 1.0 of the attention factor."""


@dataclass(frozen=True)
class Genome:
    """One point of the space: rescale factors, start tokens and, where it is searched, the attention factor."""

    steps: tuple[int, ...]
    """Rescale factors in grid steps, length P: `lambda_i = steps_i * step`."""
    start_tokens: int = 0
    """n_hat: positions below it keep the original RoPE (LongRoPE eq. 3), in tokens."""
    attention: int | None = None
    """Attention factor in grid steps, relative to the pre-trained one; None: a policy fixes it."""
    critical_dimension: int | None = None
    """Pair below which the factors follow NTK (LongRoPE2 d_rcd); None: all factors are free."""


@dataclass(frozen=True)
class Space:
    """Non-decreasing rescale factors in [1, upper_ratio * scale], start tokens from a list, maybe an attention factor.

    Raises:
        ValueError: a value is out of range; the message names the argument and the rule.
    """

    num_pairs: int
    """Number of dimension pairs P of the model: `rotary_dim / 2`."""
    scale: float
    """Extension ratio s = target length / original length."""
    step: float = 0.01
    """Grid step of lambda, 1 / whole number (LongRoPE table 4: 0.01)."""
    upper_ratio: float = 1.25
    """Largest lambda as a multiple of s (LongRoPE table 4: 1.25)."""
    start_token_choices: tuple[int, ...] = START_TOKEN_CHOICES
    """Values n_hat may take, in tokens, rising."""
    search_attention: bool = False
    """Whether the attention factor is a gene, at most twice as far above 1 as YaRN's and at least the reciprocal of
    that; else a policy fixes it."""
    critical_dimensions: tuple[int, int] | None = None
    """First and last pair that may be the critical dimension (LongRoPE2: ten periods and one period in training)."""
    sensitive_pairs: tuple[int, int] | None = None
    """First pair of fewer than ten periods in training, first pair of less than one period in the target length."""

    def __post_init__(self) -> None:
        if self.num_pairs < 2:
            raise ValueError(f"num_pairs must be at least 2, got {self.num_pairs}; it is rotary_dim / 2")
        if not (0 < self.step <= 1 and math.isclose(self.resolution * self.step, 1, rel_tol=1e-9)):
            raise ValueError(f"step must be 1 / a whole number, got {self.step}; so that 1 is on the grid, try 0.01")
        if not (math.isfinite(self.scale) and (self.scale == 1 or self.scale_step > self.lower)):
            raise ValueError(
                f"scale must be 1, or more by a grid step ({self.step}), and finite, got {self.scale}; it is "
                "target length / original length"
            )
        if not (math.isfinite(self.upper_ratio) and self.upper_ratio >= 1):
            raise ValueError(f"upper_ratio must be finite and at least 1, got {self.upper_ratio}; the paper has 1.25")
        choices = self.start_token_choices
        if not choices or choices[0] < 0 or any(a >= b for a, b in pairwise(choices)):
            raise ValueError(f"start_token_choices must be rising tokens from 0 up, got {choices}; [0] turns them off")
        if self.critical_dimensions and not 0 <= self.critical_dimensions[0] <= self.critical_dimensions[1]:
            raise ValueError(
                f"critical_dimensions must be two pairs from 0 up, the lower first, got {self.critical_dimensions}; "
                "is the original length right?"
            )

    @property
    def resolution(self) -> int:
        """Grid steps per 1.0 of lambda."""
        return round(1 / self.step)

    @property
    def lower(self) -> int:
        """Smallest step: lambda = 1."""
        return self.resolution

    @property
    def upper(self) -> int:
        """Largest step: the last one at or below upper_ratio * scale."""
        return max(self.scale_step, math.floor(self.upper_ratio * self.scale * self.resolution + 1e-6))

    @property
    def scale_step(self) -> int:
        """The step nearest to s; it decodes to s itself, so PI is on the grid for every ratio of lengths."""
        return round(self.scale * self.resolution)

    @property
    def attention_upper(self) -> int:
        """Largest step of the attention factor."""
        return math.ceil((2 * yarn(self.scale) - 1) * ATTENTION_RESOLUTION)

    @property
    def attention_lower(self) -> int:
        """Smallest step of the attention factor, which is below 1: some models read long texts better with less."""
        return ATTENTION_RESOLUTION**2 // self.attention_upper

    def encode(
        self,
        lambdas: Sequence[float] | NDArray[np.float64],
        start_tokens: int = 0,
        attention_factor: float | None = None,
    ) -> Genome:
        """Return the nearest genome: rounded and clipped to the grid, rescale factors made non-decreasing.

        Args:
            lambdas: rescale factors, shape (P,).
            start_tokens: n_hat, in tokens.
            attention_factor: relative to the pre-trained one, given if and only if it is searched.

        Raises:
            ValueError: wrong shape, a value that is not finite, start tokens outside the choices, or an attention
                factor that is missing or too many.
        """
        values = np.asarray(lambdas, dtype=np.float64)
        if values.shape != (self.num_pairs,) or not np.all(np.isfinite(values)):
            raise ValueError(
                f"lambdas must be {self.num_pairs} finite numbers, got {values.tolist()} of shape {values.shape}; "
                "were they made for a model with another head size?"
            )
        if start_tokens not in self.start_token_choices:
            raise ValueError(
                f"start_tokens must be one of {self.start_token_choices}, got {start_tokens}; "
                "add it to start_token_choices"
            )
        if (attention_factor is not None) != self.search_attention:
            raise ValueError(
                f"attention_factor must be given if and only if search_attention is on, got {attention_factor} with "
                f"search_attention {self.search_attention}; leave it out or switch search_attention"
            )
        steps = np.clip(np.rint(values * self.resolution), self.lower, self.upper)
        attention = None if attention_factor is None else self._attention_step(attention_factor)
        return Genome(tuple(int(step) for step in np.maximum.accumulate(steps)), start_tokens, attention)

    def decode(self, genome: Genome) -> NDArray[np.float64]:
        """Return the rescale factors, shape (P,), as the floats nearest to their decimals: 115 steps are 1.15."""
        steps = np.array(genome.steps)
        return np.where(steps == self.scale_step, self.scale, steps / self.resolution)

    def decode_attention(self, genome: Genome) -> float | None:
        """Return the attention factor relative to the pre-trained one, None if a policy fixes it."""
        return None if genome.attention is None else genome.attention / ATTENTION_RESOLUTION

    def factors(
        self,
        genome: Genome,
        geometry: RopeGeometry,
        target_length: int,
        attention_factor: float = 1.0,
        provenance: dict[str, Any] | None = None,
    ) -> RescaleFactors:
        """Return the rescale factors of a genome for a model.

        Args:
            genome: of this space.
            geometry: of the model.
            target_length: length the factors are for, in tokens.
            attention_factor: relative to the pre-trained one, where it is not searched.
            provenance: where the numbers come from.
        """
        searched = self.decode_attention(genome)
        return RescaleFactors(
            lambdas=self.decode(genome),
            original_length=geometry.original_length,
            target_length=target_length,
            theta=geometry.theta,
            rotary_dim=geometry.rotary_dim,
            attention_factor=geometry.attention_factor * (attention_factor if searched is None else searched),
            start_tokens=genome.start_tokens,
            start_attention_factor=geometry.attention_factor,
            provenance=provenance or {},
        )

    def contains(self, genome: Genome) -> bool:
        """Whether a genome has P non-decreasing steps within the bounds and all else as the space allows."""
        ordered = all(a <= b for a, b in pairwise((self.lower, *genome.steps, self.upper)))
        known = genome.start_tokens in self.start_token_choices
        return ordered and len(genome.steps) == self.num_pairs and known and self._allows(genome.attention)

    def _allows(self, attention: int | None) -> bool:
        if attention is None or not self.search_attention:
            return attention is None and not self.search_attention
        return self.attention_lower <= attention <= self.attention_upper

    def _attention_step(self, attention_factor: float) -> int:
        if not math.isfinite(attention_factor):
            raise ValueError(f"attention_factor must be finite, got {attention_factor}; try 1.0")
        return min(max(round(attention_factor * ATTENTION_RESOLUTION), self.attention_lower), self.attention_upper)
