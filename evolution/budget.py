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
    """Tokens sent through the model for one candidate on one window, as its rows will say in `forwarded`."""
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
        known = {row.key for row in rows}
        asked = {
            (request.genome, document, request.gradient): request.scores_per_document
            for request in requests
            for document in request.documents
        }
        num_known = sum(row.num_scores for row in rows)
        num_new = sum(num_scores for key, num_scores in asked.items() if key not in known)
        tokens = sum(row.forwarded for row in rows) + (num_new + num_final_scores) * self.tokens_per_score
        if self.max_scored_tokens is not None and tokens > self.max_scored_tokens:
            return False
        if self.max_hours is None or not rows:
            return True
        seconds_per_score = sum(row.seconds for row in rows) / sum(row.num_scores for row in rows)
        return seconds_per_score * (num_known + num_new + num_final_scores) <= 3600 * self.max_hours
