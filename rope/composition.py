"""Factors of two stages multiply (LongRoPE, arXiv 2402.13753, section 3.3)."""

from dataclasses import replace

from .factors import RescaleFactors


def compose(first: RescaleFactors, second: RescaleFactors) -> RescaleFactors:
    """Return the factors of both stages together, relative to the RoPE that the first are relative to.

    Args:
        first: the extension of a model.
        second: found on the extended model, whose original length is the target of the first.

    Raises:
        ValueError: the second are for another model, or have start tokens, which would keep the RoPE of the first
            stage and not the pre-trained one.
    """
    if (first.rotary_dim, first.theta) != (second.rotary_dim, second.theta):
        raise ValueError(
            f"second must be for the model of the first (rotary dim {first.rotary_dim}, theta {first.theta:g}), got "
            f"{second.rotary_dim} and {second.theta:g}"
        )
    if second.original_length != first.target_length:
        raise ValueError(
            f"second must be found on the model that the first extend to {first.target_length} tokens, got an original "
            f"length of {second.original_length}"
        )
    if first.start_tokens or second.start_tokens:
        raise ValueError(
            f"start_tokens must be 0 in both stages, got {first.start_tokens} and {second.start_tokens}; search with "
            "start_token_choices [0]"
        )
    return replace(
        second,
        lambdas=first.lambdas * second.lambdas,
        original_length=first.original_length,
        start_attention_factor=first.start_attention_factor,
        allow_decreasing=first.allow_decreasing or second.allow_decreasing,
        provenance=second.provenance | {"stage_before": first.provenance},
    )
