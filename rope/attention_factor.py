"""Attention factors: what multiplies cos and sin, so that attention logits are multiplied by its square.

Sources: `su` from LongRoPE's code and Phi-3, `sqrt(1 + ln s / ln L0)`; `yarn` from YaRN (arXiv 2309.00071, eq. 22).
"""

import math

POLICIES = ("su", "yarn")


def su(factor: float, original_length: int) -> float:
    """Return sqrt(1 + ln(factor) / ln(original_length)), or 1 for a factor of at most 1."""
    if factor <= 1:
        return 1.0
    return math.sqrt(1 + math.log(factor) / math.log(original_length))


def yarn(factor: float, mscale: float = 1.0) -> float:
    """Return 0.1 * mscale * ln(factor) + 1, or 1 for a factor of at most 1."""
    if factor <= 1:
        return 1.0
    return 0.1 * mscale * math.log(factor) + 1


def resolve(policy: str | float, factor: float, original_length: int) -> float:
    """Return the value of a policy (`su`, `yarn`) or the constant itself.

    Raises:
        ValueError: the policy is unknown.
    """
    if isinstance(policy, str):
        if policy not in POLICIES:
            raise ValueError(f"attention factor must be a number or one of {', '.join(POLICIES)}, got {policy!r}")
        return su(factor, original_length) if policy == "su" else yarn(factor)
    return float(policy)
