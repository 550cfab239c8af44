"""When a search has to come to its end: scored tokens and wall time, read from the history, so that a resume agrees."""

from collections.abc import Sequence
from dataclasses import dataclass

from .journal import HistoryRow
from .strategies import Request


@dataclass(frozen=True)
class Budget:
    """Limits of a search; a generation is begun only if it and the search's last one fit.

    Raises:
        ValueError: a limit is not above 0.
    """

    tokens_per_score: int
    """Tokens of one forward over one window."""
    max_scored_tokens: int | None = None
    """Tokens through a forward pass, in the whole run."""
    max_hours: float | None = None
    """Hours spent in the objective, in the whole run, resumed parts together."""

    def __post_init__(self) -> None:
        for name in ("max_scored_tokens", "max_hours"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be finite and above 0, got {value}; leave it out for no limit")

    @property
    def max_scores(self) -> int | None:
        """Scores (one candidate on one window) that the tokens pay for."""
        return None if self.max_scored_tokens is None else self.max_scored_tokens // self.tokens_per_score

    def allows(self, rows: Sequence[HistoryRow], requests: Sequence[Request], num_final_scores: int) -> bool:
        """Whether a generation can be afforded.

        Args:
            rows: scores of all generations before it, and none of its own: a resumed run must decide alike.
            requests: what it asks for.
            num_final_scores: scores that the last generation needs after it.
        """
        known = {(row.genome, row.document) for row in rows}
        asked = {(request.genome, document) for request in requests for document in request.documents}
        num_scores = len(rows) + len(asked - known) + num_final_scores
        if self.max_scores is not None and num_scores > self.max_scores:
            return False
        if self.max_hours is None or not rows:
            return True
        return sum(row.seconds for row in rows) / len(rows) * num_scores <= 3600 * self.max_hours
