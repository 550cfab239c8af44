"""HOW rescale factors are searched: integer genomes, ask/tell strategies, a journal, and the loop that joins them.

Nothing here knows a model: the objective is handed in, so the engine needs neither torch nor a GPU.
"""

from .ask_tell import Candidate, Score, Search, Solution
from .budget import Budget, Price, cost_of
from .curve import CurvePoint, search_curve
from .history import HistoryRow, last_rows, read_history
from .journal import RunFolder
from .objective import (
    DifferentiableObjective,
    DocumentScore,
    GradientScore,
    Objective,
    Unit,
    UnitObjective,
    UnitScores,
    score_unit,
)
from .racing import Gain
from .record import SearchRecord
from .search import SearchProgress, SearchResult, run_search
from .seeds import SeedOptions, attention_policy, build_seeds
from .settings import (
    HybridSettings,
    LongRope2Settings,
    PaperSettings,
    ParetoSettings,
    Settings,
    SteadySettings,
)
from .settings_file import load_settings
from .space import START_TOKEN_CHOICES, Genome, Space
from .strategies import (
    GRADIENT_SCORES,
    STRATEGIES,
    Evaluation,
    FrontPoint,
    Gradient,
    ParetoStrategy,
    Proposal,
    Request,
    Strategy,
    build_strategy,
)

__all__ = [
    "GRADIENT_SCORES",
    "START_TOKEN_CHOICES",
    "STRATEGIES",
    "Budget",
    "Candidate",
    "CurvePoint",
    "DifferentiableObjective",
    "DocumentScore",
    "Evaluation",
    "FrontPoint",
    "Gain",
    "Genome",
    "Gradient",
    "GradientScore",
    "HistoryRow",
    "HybridSettings",
    "LongRope2Settings",
    "Objective",
    "PaperSettings",
    "ParetoSettings",
    "ParetoStrategy",
    "Price",
    "Proposal",
    "Request",
    "RunFolder",
    "Score",
    "Search",
    "SearchProgress",
    "SearchRecord",
    "SearchResult",
    "SeedOptions",
    "Settings",
    "Solution",
    "Space",
    "SteadySettings",
    "Strategy",
    "Unit",
    "UnitObjective",
    "UnitScores",
    "attention_policy",
    "build_seeds",
    "build_strategy",
    "cost_of",
    "load_settings",
    "last_rows",
    "read_history",
    "run_search",
    "score_unit",
    "search_curve",
]
