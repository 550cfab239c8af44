"""What a search begins at, from its options."""

from ..evolution import SeedOptions
from ..rope import RopeGeometry
from .configs import SearchConfig
from .readjust import extension_of


def seed_options(config: SearchConfig, geometry: RopeGeometry) -> SeedOptions:
    """Return the options of the seeds.

    Raises:
        ValueError: the factors to readjust are for a shorter length than the target, or differ by layer.
    """
    return SeedOptions(
        config.target_length,
        config.init_factors,
        config.auto_rescale_init_factors,
        number_or_name(config.attention_factor),
        extension_of(config, geometry),
    )


def number_or_name(policy: str | float) -> str | float:
    """Return a policy's number if it is one; YAML and flags give text."""
    try:
        return float(policy)
    except ValueError:
        return policy
