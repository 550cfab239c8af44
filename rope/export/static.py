"""What every export shares: which factors a config or file can express, and the frequencies they stand for."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from .. import attention_factor
from ..embedding import rescaled_inv_freq
from ..factors import RescaleFactors
from ..frequencies import RopeGeometry


def check_static(factors: RescaleFactors) -> None:
    """Refuse what no config, serving engine or GGUF can express.

    Raises:
        ValueError: there are start tokens or per-layer factors, or the target is not longer than the original.
    """
    check_expressible(factors)
    if factors.target_length <= factors.original_length:
        raise ValueError(
            f"target_length must be above original_length ({factors.original_length}) in an export, got "
            f"{factors.target_length}; the original model needs no factors"
        )


def check_expressible(factors: RescaleFactors) -> None:
    """Refuse factors that are more than one row of numbers.

    Raises:
        ValueError: there are start tokens or per-layer factors.
    """
    if factors.start_tokens > 0:
        raise ValueError(
            f"start_tokens must be 0 in an export, got {factors.start_tokens}; no config can express them: export "
            "factors.without_start_tokens() and score that again, or use apply_factors in Python"
        )
    if factors.per_layer:
        raise ValueError(
            f"lambdas must be one row in an export, got {len(factors.lambdas)} rows (layers); no config can express "
            "them: search one row for all layers, or use apply_factors in Python"
        )


def final_inv_freq(geometry: RopeGeometry, factors: RescaleFactors) -> NDArray[np.float32]:
    """Return the inverse frequencies that `apply_factors` installs, shape (P,).

    Raises:
        ValueError: the factors were made for another rotary dimension or theta.
    """
    if factors.rotary_dim != geometry.rotary_dim:
        raise ValueError(
            f"factors must have length {geometry.pairs} (rotary dim {geometry.rotary_dim} / 2), got {factors.pairs}; "
            "were they searched for another model?"
        )
    if not math.isclose(factors.theta, geometry.theta, rel_tol=1e-6):
        raise ValueError(
            f"factors must be made for theta {geometry.theta}, got {factors.theta}; use those of this model"
        )
    return rescaled_inv_freq(geometry, torch.tensor(factors.lambdas)).numpy()


def su_attention_factor(factors: RescaleFactors) -> float:
    """Return the attention factor that vLLM, SGLang and Transformers 4 compute by themselves from the two lengths."""
    return attention_factor.su(factors.scale, factors.original_length)


def has_su(factors: RescaleFactors) -> bool:
    """Whether that is the attention factor of the factors."""
    return math.isclose(factors.attention_factor, su_attention_factor(factors), rel_tol=1e-9)
