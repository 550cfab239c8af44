"""WHAT is searched and installed: rescale factors, every RoPE scaling method, installation in a model, and export.

What needs torch is imported when it is first asked for, so that a search engine can read factors without it.
"""

from typing import TYPE_CHECKING, Any

from .composition import compose
from .factor_sets import FactorSets, holds_factor_sets, load_factor_sets
from .factors import RescaleFactors
from .files import staging_folder, write_atomically
from .frequencies import RopeGeometry
from .methods import METHODS, Method, build_method, register
from .reading import load_factors

if TYPE_CHECKING:
    from .installation import Installation, apply_factors, install, rope_geometry

__all__ = [
    "METHODS",
    "FactorSets",
    "Installation",
    "Method",
    "RescaleFactors",
    "RopeGeometry",
    "apply_factors",
    "build_method",
    "compose",
    "holds_factor_sets",
    "install",
    "load_factor_sets",
    "load_factors",
    "register",
    "rope_geometry",
    "staging_folder",
    "write_atomically",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import installation

        return getattr(installation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
