"""The search space of LongRoPE (arXiv 2402.13753, table 4), on an integer grid.

Genomes count whole grid steps, so they compare, hash and travel through JSON exactly, and a trace is the same on every
machine; they become floats only at the edge, in `Space.decode`. Shapes: P = rotary_dim / 2 pairs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

START_TOKEN_CHOICES = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256)


@dataclass(frozen=True)
class Genome:
    """One point of the space: rescale factors and start tokens."""

    steps: tuple[int, ...]
    """Rescale factors in grid steps, length P: `lambda_i = steps_i * step`."""
    start_tokens: int = 0
    """n_hat: positions below it keep the original RoPE (LongRoPE eq. 3), in tokens."""


@dataclass(frozen=True)
class Space:
    """Non-decreasing rescale factors in [1, upper_ratio * scale] and start tokens from a list.

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

    def encode(self, lambdas: Sequence[float] | NDArray[np.float64], start_tokens: int = 0) -> Genome:
        """Return the grid genome nearest to rescale factors of shape (P,): rounded, clipped, made non-decreasing.

        Raises:
            ValueError: wrong shape, a value that is not finite, or start tokens outside the choices.
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
        steps = np.clip(np.rint(values * self.resolution), self.lower, self.upper)
        return Genome(tuple(int(step) for step in np.maximum.accumulate(steps)), start_tokens)

    def decode(self, genome: Genome) -> NDArray[np.float64]:
        """Return the rescale factors, shape (P,), as the floats nearest to their decimals: 115 steps are 1.15."""
        steps = np.array(genome.steps)
        return np.where(steps == self.scale_step, self.scale, steps / self.resolution)

    def contains(self, genome: Genome) -> bool:
        """Whether a genome has P non-decreasing steps within the bounds and allowed start tokens."""
        ordered = all(a <= b for a, b in pairwise((self.lower, *genome.steps, self.upper)))
        return ordered and len(genome.steps) == self.num_pairs and genome.start_tokens in self.start_token_choices
