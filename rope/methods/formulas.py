"""Methods that are a formula in the extension ratio s: no search, nothing to load."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import attention_factor
from ..frequencies import RopeGeometry
from .base import FormulaMethod, Lambdas, Method, register


def ntk_curve(pairs: int, end: float, end_factor: float) -> Lambdas:
    """Rescale factors of a larger base, `end_factor^(i / end)`: 1 at pair 0, `end_factor` at the (fractional) `end`."""
    return end_factor ** (np.arange(pairs) / end)


def blend(keep: Lambdas, factor: float) -> Lambdas:
    """Rescale factors of the frequency blend `theta' = keep * theta + (1 - keep) * theta / s`: harmonic in lambda."""
    return 1 / (keep + (1 - keep) / factor)


@register
@dataclass(frozen=True)
class NoScaling(Method):
    """The pre-trained RoPE, `lambda_i = 1`."""

    name: ClassVar[str] = "none"

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        return np.ones(geometry.pairs)


@register
@dataclass(frozen=True)
class Linear(FormulaMethod):
    """Positional interpolation (PI), `lambda_i = s` (arXiv 2306.15595)."""

    name: ClassVar[str] = "linear"

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        return np.full(geometry.pairs, float(self.factor))


@register
@dataclass(frozen=True)
class NTK(FormulaMethod):
    """NTK-aware, static: base `b (alpha s)^(d/(d-2))`, so the last pair has `lambda = alpha s` (YaRN eq. 19)."""

    name: ClassVar[str] = "ntk"
    alpha: float = 1.0
    """Multiplies s."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha must be a finite number above 0, got {self.alpha}; 1 is NTK-aware as published")

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        return ntk_curve(geometry.pairs, max(1, geometry.pairs - 1), max(1.0, self.alpha * self.factor))


@register
@dataclass(frozen=True)
class NTKCritical(FormulaMethod):
    """NTK with the base of a critical dimension, `b^(ln(s L0 / 2 pi) / ln(L0 / 2 pi))` (arXiv 2310.05209).

    The pair that makes just one turn in L0 gets `lambda = s`, those above it more. It is the NTK of LongRoPE2's tables.
    """

    name: ClassVar[str] = "ntk-critical"

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        critical = geometry.pair_of_rotations(1)
        if critical <= 0:
            raise ValueError(
                f"original_length must exceed one turn of pair 0 ({geometry.wavelengths[0]:.4g} tokens), got "
                f"{geometry.original_length}; ntk-critical needs a pair that completes a period"
            )
        return ntk_curve(geometry.pairs, critical, self.factor)


@register
@dataclass(frozen=True)
class DynamicNTK(FormulaMethod):
    """Dynamic NTK as in Transformers: NTK-aware with `s(l) = s l / L0 - (s - 1)`, the identity for l <= L0."""

    name: ClassVar[str] = "dynamic"
    depends_on_length: ClassVar[bool] = True

    def at_length(self, geometry: RopeGeometry, length: int) -> Method:
        ratio = max(1.0, length / geometry.original_length)
        factor = self.factor * ratio - (self.factor - 1)
        return NTK(factor, resonance=self.resonance, attention_factor=self.attention_factor)

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        target = round(self.factor * geometry.original_length)
        return self.at_length(geometry, target).lambdas(geometry)


@register
@dataclass(frozen=True)
class NTKByParts(FormulaMethod):
    """NTK-by-parts as printed: a ramp in the rotations r_i between alpha and beta (YaRN eq. 11-13)."""

    name: ClassVar[str] = "ntk-by-parts"
    alpha: float = 1.0
    """Rotations at and below which a pair is fully interpolated."""
    beta: float = 32.0
    """Rotations at and above which a pair is left alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta > self.alpha:
            raise ValueError(
                f"beta must be above alpha, got beta {self.beta} and alpha {self.alpha}; 32 and 1 are usual"
            )

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        keep = np.clip((geometry.rotations - self.alpha) / (self.beta - self.alpha), 0, 1)
        return blend(keep, self.factor)


@register
@dataclass(frozen=True)
class Llama3(FormulaMethod):
    """Llama 3.1's scaling: the ramp of NTK-by-parts between `low_freq_factor` and `high_freq_factor` rotations."""

    name: ClassVar[str] = "llama3"
    low_freq_factor: float = 1.0
    """Rotations at and below which a pair is fully interpolated."""
    high_freq_factor: float = 4.0
    """Rotations at and above which a pair is left alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.high_freq_factor > self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor must be above low_freq_factor, got {self.high_freq_factor} and "
                f"{self.low_freq_factor}; Llama 3.1 has 4 and 1"
            )

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        return NTKByParts(self.factor, alpha=self.low_freq_factor, beta=self.high_freq_factor).lambdas(geometry)


@register
@dataclass(frozen=True)
class YaRN(FormulaMethod):
    """YaRN as in its authors' code and Transformers: a ramp linear in the pair *index* (arXiv 2309.00071).

    Its attention factor is 0.1 ln s + 1, or the ratio that `mscale` and `mscale_all_dim` give.
    """

    name: ClassVar[str] = "yarn"
    beta_fast: float = 32.0
    """Rotations in L0 of the pair where the ramp begins."""
    beta_slow: float = 1.0
    """Rotations in L0 of the pair where the ramp ends."""
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    """Round the ends of the ramp outwards to whole pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta_fast > self.beta_slow > 0:
            raise ValueError(
                f"beta_fast must be above beta_slow and that above 0, got {self.beta_fast} and {self.beta_slow}; "
                "32 and 1 are usual"
            )
        if (self.mscale is None) != (self.mscale_all_dim is None):
            raise ValueError(
                f"mscale and mscale_all_dim must be given together, got {self.mscale} and {self.mscale_all_dim}; "
                "one alone has no effect"
            )
        if self.attention_factor is not None and self.mscale is not None:
            raise ValueError(
                f"attention_factor must not be given with mscale, got {self.attention_factor} and {self.mscale}; "
                "it would hide it"
            )

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        low, high = (geometry.pair_of_rotations(beta) for beta in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, geometry.rotary_dim - 1)
        if low == high:
            high += 0.001  # as Transformers does: a ramp of no width would divide by zero
        interpolate = (np.arange(geometry.pairs, dtype=np.float64) - low) / (high - low)
        return blend(1 - np.clip(interpolate, 0, 1), self.factor)

    def published_attention(self) -> float:
        if self.mscale and self.mscale_all_dim:
            yarn = attention_factor.yarn
            return yarn(self.factor, self.mscale) / yarn(self.factor, self.mscale_all_dim)
        return attention_factor.yarn(self.factor)
