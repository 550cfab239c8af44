"""What a search may spend, from its options and its hyper-parameters."""

from dataclasses import replace

from ..evolution import Budget, HybridSettings, Settings
from .configs import SearchConfig


def with_budget(settings: Settings, config: SearchConfig, price: int) -> tuple[Settings, Budget]:
    """Return the settings with the budget of the options in place of their own, and the budget that holds.

    Args:
        settings: hyper-parameters.
        config: options.
        price: tokens of one score at most.
    """
    tokens = config.max_scored_tokens
    if isinstance(settings, HybridSettings):
        if tokens is None:
            tokens = settings.num_scores * price
        else:
            settings = replace(settings, num_scores=tokens // price)
    return settings, Budget(tokens, config.max_hours)
