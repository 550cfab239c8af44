"""What every method has in common, and the registry.

Symbols: d rotary dimensions, P = d/2 pairs, L0 original length, s factor (extension ratio), r_i rotations in L0.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import attention_factor
from ..factors import RescaleFactors
from ..frequencies import RopeGeometry

Lambdas = NDArray[np.float64]


@dataclass(frozen=True)
class Method(ABC):
    """Base of all methods."""

    name: ClassVar[str]
    depends_on_length: ClassVar[bool] = False
    """Whether the factors change with the current sequence length (dynamic methods)."""

    factor: float = 1.0
    """s: extension ratio, target length / original length."""
    resonance: bool = False
    """Round each wavelength to a whole number of tokens (Resonance RoPE, arXiv 2403.00071)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor >= 1):
            raise ValueError(
                f"factor must be a finite number of at least 1, got {self.factor}; it is target / original"
            )

    @abstractmethod
    def lambdas(self, geometry: RopeGeometry) -> Lambdas:
        """Return the rescale factors, shape (P,), or (layers, P) if they differ by layer."""

    def attention(self, geometry: RopeGeometry) -> float:
        """Return the attention factor, relative to the pre-trained one."""
        return 1.0

    def at_length(self, geometry: RopeGeometry, length: int) -> "Method":
        """Return the static method that holds for a sequence of `length` tokens."""
        return self

    def _rounded(self, geometry: RopeGeometry) -> Lambdas:
        """Return the rescale factors after the resonance rounding, if that is asked for."""
        lambdas = self.lambdas(geometry)
        return np.round(geometry.wavelengths * lambdas) / geometry.wavelengths if self.resonance else lambdas

    def factors(self, geometry: RopeGeometry) -> RescaleFactors:
        """Return the rescale factors of this method for a model, at the target length `s * L0`."""
        return RescaleFactors(
            lambdas=self._rounded(geometry),
            original_length=geometry.original_length,
            target_length=round(self.factor * geometry.original_length),
            theta=geometry.theta,
            rotary_dim=geometry.rotary_dim,
            attention_factor=geometry.attention_factor * self.attention(geometry),
            start_attention_factor=geometry.attention_factor,
            allow_decreasing=True,
            provenance={"method": repr(self)},
        )


@dataclass(frozen=True)
class FormulaMethod(Method):
    """A method with an attention factor of its own choice; most have none as published."""

    attention_factor: str | float | None = None
    """`su`, `yarn` or a constant (None: as published, which is 1 for all but YaRN, LongRoPE and LongRoPE2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        attention_factor.resolve(self._policy(1.0), 1.0, 2)  # refuses an unknown policy

    def published_attention(self) -> float:
        """Return the attention factor of the published method."""
        return 1.0

    def attention(self, geometry: RopeGeometry) -> float:
        return attention_factor.resolve(self._policy(self.published_attention()), self.factor, geometry.original_length)

    def _policy(self, published: float) -> str | float:
        return published if self.attention_factor is None else self.attention_factor


AnyMethod = TypeVar("AnyMethod", bound=Method)
METHODS: dict[str, type[Method]] = {}
"""All methods by name; add one with `register`."""


def register(method: type[AnyMethod]) -> type[AnyMethod]:
    """Class decorator: make a method available by its `name` everywhere (comparison, seeds, command line)."""
    METHODS[method.name] = method
    return method
