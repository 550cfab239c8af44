"""Long and short windows under one numbering, for searches that trade one loss against the other."""

from collections.abc import Sequence

from ...rope import RescaleFactors
from .base import WindowObjective, WindowScore
from .mixed import MixedObjective
from .perplexity import PerplexityObjective


class ShortLongObjective:
    """Scores windows 0 to W - 1 with one objective, and as windows W to 2 W - 1 those of another."""

    def __init__(self, long: WindowObjective | MixedObjective, short: PerplexityObjective) -> None:
        """Remember the objectives.

        Args:
            long: of windows of the target length.
            short: of as many windows of the original length; its pool tells W.
        """
        self.long, self.short = long, short
        self.num_windows = len(short.windows)

    def price(self, document: int, gradient: bool) -> int:
        """Return the tokens that a score of one candidate costs; there are no derivatives."""
        if document < self.num_windows:
            return self.long.tokens(document)
        return self.short.tokens(document - self.num_windows)

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> list[WindowScore]:
        """Return one score per candidate, in order, on the window with this index."""
        if document < self.num_windows:
            return self.long.score(candidates, document)
        return self.short.score(candidates, document - self.num_windows)
