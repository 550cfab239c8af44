"""Search algorithms behind one ask/tell protocol, chosen by the `strategy` key of a hyper-parameter file."""

from collections.abc import Callable, Mapping
from typing import Any

from ..settings import Settings
from ..space import Genome, Space
from .base import GRADIENT_SCORES, Evaluation, Gradient, Proposal, Request, Strategy
from .hybrid import HybridStrategy
from .longrope2 import LongRope2Strategy
from .paper import PaperStrategy
from .pareto import FrontPoint, ParetoStrategy
from .steady import SteadyStrategy

__all__ = [
    "GRADIENT_SCORES",
    "STRATEGIES",
    "Evaluation",
    "FrontPoint",
    "Gradient",
    "HybridStrategy",
    "LongRope2Strategy",
    "PaperStrategy",
    "ParetoStrategy",
    "Proposal",
    "Request",
    "SteadyStrategy",
    "Strategy",
    "build_strategy",
]

STRATEGIES: dict[str, Callable[[Any, Space, Mapping[str, Genome], int, int], Strategy]] = {
    "paper": PaperStrategy,
    "hybrid": HybridStrategy,
    "steady": SteadyStrategy,
    "longrope2": LongRope2Strategy,
    "pareto": ParetoStrategy,
}


def build_strategy(
    settings: Settings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
) -> Strategy:
    """Return the strategy that the settings are for.

    Args:
        settings: of one strategy, for example from `load_settings`.
        space: where to search; `settings.space(num_pairs, scale)` makes it.
        seeds: genomes to start from by name, `{"yarn": space.encode(...)}`.
        num_documents: number of search documents; requests name them by index.
        seed: of the random generator; same seed, same proposals.
    """
    return STRATEGIES[settings.strategy](settings, space, seeds, num_documents, seed)
