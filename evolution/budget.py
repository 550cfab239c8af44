"""When a search has to come to its end: scored tokens and wall time, read from the history, so that a resume agrees."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .history import HistoryRow
from .strategies import Request

Price = Callable[[int, bool], int]
"""Tokens that one candidate costs at most on a document, without or with derivatives: `Objective.price`."""


@dataclass(frozen=True)
class Budget:
    """Budget of a search; a generation is begun only if it and the search's last one fit.

    Raises:
        ValueError: a limit is not above 0.
    """

    max_scored_tokens: int | None = None
    """Tokens through a forward pass, in the whole run."""
    max_hours: float | None = None
    """Hours spent in the objective, in the whole run, those of resumed parts and of all workers together."""

    def __post_init__(self) -> None:
        for name, value in self.to_dict().items():
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be finite and above 0, got {value}; leave it out for no limit")

    def to_dict(self) -> dict[str, Any]:
        """Return its limits by name."""
        return asdict(self)

    def exceeds(self, other: "Budget") -> bool:
        """Whether a limit is above that of the other."""
        pairs = zip(self.to_dict().values(), other.to_dict().values(), strict=True)
        return any(theirs is not None and (ours is None or ours > theirs) for ours, theirs in pairs)

    def allows(
        self,
        rows: Sequence[HistoryRow],
        generation: int,
        requests: Sequence[Request],
        reserved: Sequence[int],
        price: Price,
    ) -> bool:
        """Whether a generation can be afforded.

        Args:
            rows: all scores of the run.
            generation: number of the generation.
            requests: what it asks for, and what else is asked for and not scored yet.
            reserved: documents that the final generation scores after it, one entry per score.
            price: tokens of a score.
        """
        if self.max_scored_tokens is None and self.max_hours is None:
            return True
        spent = sum(row.forwarded for row in rows)
        known = {row.key for row in rows}
        # Where the log of generations was cut, what follows has been scored already, maybe with the final generation.
        followed = [row for row in rows if row.generation > generation]
        later = sum(row.forwarded for row in followed)
        planned, last = cost_of(requests, price, known), sum(price(document, False) for document in reserved)
        unpaid = max(last - sum(row.forwarded for row in followed if row.document in reserved), 0)
        if self.max_scored_tokens is not None and spent + planned + unpaid > self.max_scored_tokens:
            return False
        # By the generations before it alone: a resumed run must decide alike.
        before = [row for row in rows if row.generation < generation]
        if self.max_hours is None or not before:
            return True
        seconds_per_token = sum(row.seconds for row in before) / sum(row.forwarded for row in before)
        return seconds_per_token * (spent - later + planned + last) <= 3600 * self.max_hours


def cost_of(requests: Sequence[Request], price: Price, known: "set[tuple[Any, int, bool]] | None" = None) -> int:
    """Return the tokens that requests cost at most, but for scores that are known."""
    asked = {(request.genome, document, request.gradient) for request in requests for document in request.documents}
    return sum(price(document, gradient) for _, document, gradient in asked - (known or set()))
