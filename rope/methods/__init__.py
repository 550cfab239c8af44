"""Every RoPE scaling method as a frozen dataclass that yields rescale factors and an attention factor.

A method is a rule for `lambda_i` in `theta'_i = theta_i / lambda_i`; `factors` applies it to the geometry of a model.
All are relative to the *pre-trained* inverse frequencies, so they compose with a model that is already scaled.
"""

from .base import METHODS, Lambdas, Method, register
from .formulas import NTK, DynamicNTK, Linear, Llama3, NoScaling, NTKByParts, NTKCritical, YaRN
from .searched import GivenFactors, LongRoPE, LongRoPE2, LongRoPEDynamic, ShortLong
from .spec import build_method

__all__ = [
    "METHODS",
    "NTK",
    "DynamicNTK",
    "GivenFactors",
    "Lambdas",
    "Linear",
    "Llama3",
    "LongRoPE",
    "LongRoPE2",
    "LongRoPEDynamic",
    "Method",
    "NTKByParts",
    "NTKCritical",
    "NoScaling",
    "ShortLong",
    "YaRN",
    "build_method",
    "register",
]
