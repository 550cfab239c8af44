"""HOW rescale factors are searched: integer genomes, ask/tell strategies, a journal, and the loop that joins them.

Nothing here knows a model: the objective is handed in, so the engine needs neither torch nor a GPU.
"""

from .budget import Budget
from .curve import CurvePoint, search_curve
from .journal import HistoryRow, RunFolder, read_history
from .search import DocumentScore, Objective, SearchProgress, SearchResult, run_search
from .settings import CmaSettings, HybridSettings, LongRope2Settings, PaperSettings, Settings, load_settings
from .space import START_TOKEN_CHOICES, Genome, Space
from .strategies import STRATEGIES, Evaluation, Request, Strategy, build_strategy

__all__ = [
    "START_TOKEN_CHOICES",
    "STRATEGIES",
    "Budget",
    "CmaSettings",
    "CurvePoint",
    "DocumentScore",
    "Evaluation",
    "Genome",
    "HistoryRow",
    "HybridSettings",
    "LongRope2Settings",
    "Objective",
    "PaperSettings",
    "Request",
    "RunFolder",
    "SearchProgress",
    "SearchResult",
    "Settings",
    "Space",
    "Strategy",
    "build_strategy",
    "load_settings",
    "read_history",
    "run_search",
    "search_curve",
]
