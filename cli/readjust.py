"""Searching lengths that an extended model has already: factors for short contexts (LongRoPE, section 3.3).

They are relative to the RoPE of the pre-training, as those of the extension are, so that sets for many lengths stand in
one file; they lie between no scaling and the largest factors that a search for the extension may have.
"""

from dataclasses import replace
from pathlib import Path

from torch import nn

from ..rope import (
    FactorSets,
    RescaleFactors,
    RopeGeometry,
    holds_factor_sets,
    load_factor_sets,
    load_factors,
    rope_geometry,
)
from ..rope.plain import is_scaled, make_plain
from .configs import SearchConfig


def prepare_readjustment(config: SearchConfig, model: nn.Module) -> SearchConfig:
    """Return the configuration, with the model's own extension as the one to readjust if the target is within it.

    The model then has the RoPE of its pre-training.
    """
    geometry = rope_geometry(model, config.original_length)
    if config.readjust is not None or config.target_length > geometry.original_length or not is_scaled(geometry):
        return config
    own = load_factors(config.model)
    make_plain(model, own.original_length)
    return replace(config, readjust=config.model, original_length=own.original_length)


def extension_of(config: SearchConfig, geometry: RopeGeometry) -> RescaleFactors | None:
    """Return the factors that are to be readjusted, if that is what the search is for.

    Raises:
        ValueError: they are for a shorter length than the target, or differ by layer.
    """
    if config.readjust is None:
        return None
    extension = extended_sets(config.readjust, geometry).longest
    if extension.per_layer:
        raise ValueError(f"readjust must be one row of factors for all layers, got rows per layer in {config.readjust}")
    if extension.target_length < config.target_length:
        raise ValueError(
            f"target_length must be at most that of the factors to readjust ({extension.target_length} tokens), got "
            f"{config.target_length}; leave --readjust out to extend further"
        )
    return extension


def extended_sets(source: str, geometry: RopeGeometry) -> FactorSets:
    """Return the factors of an extension, with those of shorter lengths where the source has some already."""
    return load_factor_sets(source) if holds_factor_sets(source) else FactorSets((load_factors(source, geometry),))


def save_readjusted(config: SearchConfig, geometry: RopeGeometry, readjusted: RescaleFactors) -> None:
    """Write the sets of the extension with the readjusted one, in place of one for its length, into the run folder."""
    sets = extended_sets(str(config.readjust), geometry).sets
    kept = (one for one in sets if one.target_length != readjusted.target_length)
    path = Path(config.output_dir) / "factor_sets.json"
    FactorSets((*kept, readjusted)).save(path)
    print(f"{'by length:':<18} {path}")
