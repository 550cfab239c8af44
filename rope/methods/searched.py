"""Methods whose rescale factors were found by a search: LongRoPE (arXiv 2402.13753), LongRoPE2 (arXiv 2502.20082)."""

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from .. import attention_factor
from ..factor_sets import FactorSets
from ..factors import RescaleFactors
from ..frequencies import RopeGeometry
from .base import FormulaMethod, Lambdas, Method, register
from .formulas import ntk_curve


@register
@dataclass(frozen=True)
class LongRoPE(FormulaMethod):
    """Given factors and start tokens (LongRoPE eq. 3), with an attention-factor policy."""

    name: ClassVar[str] = "longrope"
    rescale_factors: tuple[float, ...] | tuple[tuple[float, ...], ...] = ()
    """lambda_i: P numbers, or one row of P numbers per layer."""
    attention_factor: str | float | None = "su"
    start_tokens: int = 0
    """n_hat: positions below it keep the original RoPE, in tokens."""

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        if not self.rescale_factors:
            raise ValueError(
                "rescale_factors of longrope must be given, got none; they are found by longrope search, and a factor "
                "file is compared with --factors"
            )
        lambdas = np.array(self.rescale_factors, dtype=np.float64)
        if lambdas.ndim not in (1, 2) or lambdas.shape[-1] != geometry.pairs:
            raise ValueError(
                f"rescale_factors must have length {geometry.pairs} (rotary dim {geometry.rotary_dim} / 2), got "
                f"{lambdas.shape[-1]}; was the file made for a model with another head size or partial rotary?"
            )
        return lambdas

    def factors(self, geometry: RopeGeometry) -> RescaleFactors:
        return replace(super().factors(geometry), start_tokens=self.start_tokens)


@register
@dataclass(frozen=True)
class LongRoPE2(FormulaMethod):
    """NTK left of the critical pair d_rcd, `lambda_i = lambda_rcd^(i / d_rcd)`, searched right of it (section 3).

    Pairs from d_rcd on are under-trained: theory wants `lambda_i >= s` there (eq. 10, enforced), the paper's search
    stays below 2 s (above it: a warning).
    """

    name: ClassVar[str] = "longrope2"
    critical_pair: int | None = None
    """d_rcd, 1 .. P; None: the theoretical d_tcd, the first pair that never completes a period in training."""
    critical_factor: float | None = None
    """lambda_rcd of all pairs from d_rcd on; None: s."""
    right_factors: tuple[float, ...] = ()
    """lambda_i of the pairs from d_rcd on (P - d_rcd numbers), in place of one `critical_factor` for all."""
    attention_factor: str | float | None = "su"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.right_factors and self.critical_factor is not None:
            raise ValueError(
                f"critical_factor must not be given with right_factors, got {self.critical_factor}; it is the first "
                "of them"
            )
        right = np.array(self.right_factors or (self._critical_factor,))
        if not np.all(np.isfinite(right)) or right.min() < self.factor or np.any(np.diff(right) < 0):
            raise ValueError(
                f"factors right of the critical pair must be at least s = {self.factor} and non-decreasing, got "
                f"{right.tolist()}; LongRoPE2 eq. 10"
            )
        if right[-1] > 2 * self.factor:
            warnings.warn(
                f"factors right of the critical pair reach {right[-1]}, above 2 s = {2 * self.factor}, the end of "
                "LongRoPE2's search space",
                stacklevel=3,
            )

    @property
    def _critical_factor(self) -> float:
        if self.right_factors:
            return self.right_factors[0]
        return self.factor if self.critical_factor is None else self.critical_factor

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        critical = geometry.critical_dimension if self.critical_pair is None else self.critical_pair
        if not 1 <= critical <= geometry.pairs:
            raise ValueError(f"critical_pair must lie in 1 .. {geometry.pairs} (pairs), got {critical}; see `doctor`")
        if self.right_factors and len(self.right_factors) != geometry.pairs - critical:
            raise ValueError(
                f"right_factors must have length {geometry.pairs - critical} (pairs {geometry.pairs} - critical pair "
                f"{critical}), got {len(self.right_factors)}; give critical_pair as well"
            )
        lambdas = ntk_curve(geometry.pairs, critical, self._critical_factor)
        lambdas[critical:] = self.right_factors or self._critical_factor
        return lambdas


@dataclass(frozen=True, kw_only=True)
class GivenFactors(Method):
    """Rescale factors as they stand, with their own lengths, start tokens and attention factor."""

    name: ClassVar[str] = "given"
    factor: float = field(init=False, default=1.0)
    """s, taken from `long`."""
    long: RescaleFactors
    """Factors made for the target length."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", self.long.scale)
        super().__post_init__()

    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        ours, theirs = self.long, geometry
        if (ours.rotary_dim, ours.original_length) != (theirs.rotary_dim, theirs.original_length):
            raise ValueError(
                f"factors must have the model's rotary dim {theirs.rotary_dim} and original length "
                f"{theirs.original_length}, got {ours.rotary_dim} and {ours.original_length}; were they made for "
                "another model, or is the original length to be given?"
            )
        return self.long.lambdas

    def attention(self, geometry: RopeGeometry) -> float:
        return self.long.attention_factor / geometry.attention_factor

    def factors(self, geometry: RopeGeometry) -> RescaleFactors:
        lambdas = self._rounded(geometry)
        return replace(self.long, lambdas=lambdas, allow_decreasing=True) if self.resonance else self.long


@register
@dataclass(frozen=True, kw_only=True)
class ShortLong(GivenFactors):
    """Two sets of factors, as Phi-3 has: `long` if and only if the sequence is longer than the original length."""

    name: ClassVar[str] = "short-long"
    depends_on_length: ClassVar[bool] = True
    short: RescaleFactors
    """Factors for sequences of at most the original length."""

    def __post_init__(self) -> None:
        super().__post_init__()
        pair = self.short, self.long
        if len({(side.rotary_dim, side.theta, side.original_length) for side in pair}) > 1:
            raise ValueError(
                "short and long must agree in rotary dim, theta and original length, got "
                + " and ".join(f"{side.rotary_dim}, {side.theta}, {side.original_length}" for side in pair)
                + "; were they made for one model?"
            )

    def at_length(self, geometry: RopeGeometry, length: int) -> Method:
        side = self.long if length > geometry.original_length else self.short
        return GivenFactors(long=side, resonance=self.resonance)


@dataclass(frozen=True, kw_only=True)
class ByLength(GivenFactors):
    """Sets of factors by length: the shortest set that reaches a sequence (LongRoPE, section 3.3)."""

    name: ClassVar[str] = "by-length"
    depends_on_length: ClassVar[bool] = True
    others: tuple[RescaleFactors, ...]
    """The sets for shorter lengths."""

    @property
    def sets(self) -> FactorSets:
        """All sets."""
        return FactorSets((*self.others, self.long))

    def at_length(self, geometry: RopeGeometry, length: int) -> Method:
        return GivenFactors(long=self.sets.at(length), resonance=self.resonance)


def by_length(sets: FactorSets) -> ByLength:
    """Return the method that sets of factors are."""
    return ByLength(long=sets.longest, others=sets.sets[:-1])


@register
@dataclass(frozen=True, kw_only=True)
class LongRoPEDynamic(GivenFactors):
    """Factors that grow with the length: `lambda_i(l) = 1 + (lambda_i - 1) (l / L0 - 1) / (s - 1)`.

    1. The pre-trained RoPE up to L0, the given factors at their target length s L0.
    2. Beyond it they go on along the same line, so a pair with lambda = s keeps its largest angle whatever the length.
    3. The attention factor grows as its policy does and meets the given value at the target length.
    """

    name: ClassVar[str] = "longrope-dynamic"
    depends_on_length: ClassVar[bool] = True
    attention_policy: str = "su"
    """How the attention factor grows with l: `su` (its square is linear in ln l) or `yarn` (linear in ln l)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor <= 1:
            raise ValueError(
                f"long must be made for more than the original length, got a target of {self.long.target_length} for "
                f"{self.long.original_length} tokens; factors can't grow towards a length that is reached"
            )
        if self.attention_policy not in attention_factor.POLICIES:
            raise ValueError(
                f"attention_policy must be one of {', '.join(attention_factor.POLICIES)}, got "
                f"{self.attention_policy!r}; a constant is given by the factors themselves"
            )

    def at_length(self, geometry: RopeGeometry, length: int) -> Method:
        ratio = max(1.0, length / geometry.original_length)
        progress = (ratio - 1) / (self.factor - 1)
        grown = replace(
            self.long,
            lambdas=1 + (self.lambdas(geometry) - 1) * progress,
            target_length=max(length, geometry.original_length),
            attention_factor=geometry.attention_factor * self._attention_at(ratio, self.attention(geometry)),
        )
        return GivenFactors(long=grown, resonance=self.resonance)

    def _attention_at(self, ratio: float, at_target: float) -> float:
        progress = math.log(ratio) / math.log(self.factor)
        if self.attention_policy == "su":  # sqrt(1 + ln(l/L0) / ln L0) where the given value is that of `su`
            return math.sqrt(1 + (at_target**2 - 1) * progress)
        return 1 + (at_target - 1) * progress
