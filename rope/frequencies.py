"""Inverse frequencies, wavelengths and critical dimensions of a model's pre-trained RoPE: pure formulas in float64.

Index arithmetic is in pairs i = 0 .. P-1, P = d/2, never in raw dimensions. Sources: RoFormer (arXiv 2104.09864);
critical dimension: Liu et al. (arXiv 2310.05209) and LongRoPE2 (arXiv 2502.20082, section 3).
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


def inverse_frequencies(rotary_dim: int, theta: float) -> NDArray[np.float64]:
    """Return `theta^(-2i/d)` for each pair, shape (P,), in radians per token."""
    return theta ** (-np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim)


@dataclass(frozen=True, eq=False)
class RopeGeometry:
    """The RoPE a model was pre-trained with: what every factor is relative to.

    A model that is already scaled (Llama 3.1, a YaRN or LongRoPE checkpoint) has an `inv_freq` that differs from
    `theta^(-2i/d)`, and methods are composed with it.

    Raises:
        ValueError: `rotary_dim` is not even or below 2, or `inv_freq` has another shape.
    """

    rotary_dim: int
    """d: rotary dimensions per head."""
    theta: float
    """RoPE base."""
    original_length: int
    """L0: context length of the pre-training, in tokens."""
    inv_freq: NDArray[np.float64] = field(default=None)  # type: ignore[assignment]
    """Pre-trained inverse frequencies, shape (P,), radians per token; None: `theta^(-2i/d)`."""
    attention_factor: float = 1.0
    """Attention factor of the pre-trained RoPE; methods multiply it."""

    def __post_init__(self) -> None:
        if self.rotary_dim < 2 or self.rotary_dim % 2:
            raise ValueError(f"rotary_dim must be an even number of at least 2, got {self.rotary_dim}")
        plain = inverse_frequencies(self.rotary_dim, self.theta)
        inv_freq = plain if self.inv_freq is None else np.array(self.inv_freq, dtype=np.float64)
        if inv_freq.shape != plain.shape:
            raise ValueError(f"inv_freq must have shape {plain.shape} (rotary dim / 2), got {inv_freq.shape}")
        inv_freq.setflags(write=False)
        object.__setattr__(self, "inv_freq", inv_freq)

    @property
    def pairs(self) -> int:
        """P: number of dimension pairs."""
        return self.rotary_dim // 2

    @property
    def wavelengths(self) -> NDArray[np.float64]:
        """Period of each pair, `2 pi / inv_freq`, shape (P,), in tokens."""
        return 2 * np.pi / self.inv_freq

    @property
    def rotations(self) -> NDArray[np.float64]:
        """Full turns of each pair within the original length, shape (P,)."""
        return self.original_length / self.wavelengths

    @property
    def critical_dimension(self) -> int:
        """d_tcd: the first pair that never completes a period in training (P if all do), LongRoPE2 section 3.1."""
        return int(np.sum(self.rotations >= 1))

    def pair_of_rotations(self, rotations: float) -> float:
        """Return the (fractional) pair that makes `rotations` full turns within the original length: YaRN's `D(r)`.

        In a model that is already scaled it is found between the pairs of the pre-trained frequencies, which are placed
        where a plain RoPE has them; beyond the first and the last pair it goes on one by one.
        """
        place = -self.pairs * np.log(self.inv_freq) / math.log(self.theta)  # 0 .. P-1 if nothing is scaled
        wanted = self.pairs * math.log(self.original_length / (rotations * 2 * math.pi)) / math.log(self.theta)
        beyond = min(0.0, wanted - place[0]) + max(0.0, wanted - place[-1])
        return float(np.interp(wanted, place, np.arange(self.pairs))) + beyond
