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
        spent: int,
        generation: int,
        requests: Sequence[Request],
        reserved: Sequence[int],
        price: Price,
    ) -> bool:
        """Whether a generation can be afforded; one that costs no tokens always fits into those there are.

        That goes for generations which are asked for again since their log was cut. Of others nobody knows whether the
        final generation will be one that is scored already, so it counts in full.

        Args:
            rows: all scores of the run.
            spent: tokens of the run so far.
            generation: number of the generation.
            requests: what it asks for, and what else is asked for and not scored yet.
            reserved: documents that the final generation scores after it, one entry per score.
            price: tokens of a score.
        """
        if self.max_scored_tokens is None and self.max_hours is None:
            return True
        planned, last = cost_of(requests, price, {row.key for row in rows}), cost_of_reserve(reserved, price)
        if self.max_scored_tokens is not None and planned and spent + planned + last > self.max_scored_tokens:
            return False
        # By the generations before it alone: a resumed run must decide alike.
        before = [row for row in rows if row.generation < generation]
        if self.max_hours is None or not before:
            return True
        # Where the log of generations was cut, what follows has been scored already.
        later = sum(row.forwarded for row in rows if row.generation > generation)
        seconds_per_token = sum(row.seconds for row in before) / sum(row.forwarded for row in before)
        return seconds_per_token * (spent - later + planned + last) <= 3600 * self.max_hours


def cost_of(requests: Sequence[Request], price: Price, known: "set[tuple[Any, int, bool]] | None" = None) -> int:
    """Return the tokens that requests cost at most, but for scores that are known."""
    asked = {(request.genome, document, request.gradient) for request in requests for document in request.documents}
    return sum(price(document, gradient) for _, document, gradient in asked - (known or set()))


def cost_of_reserve(documents: Sequence[int], price: Price) -> int:
    """Return the tokens that the final generation costs at most: whichever of its documents are scored how often.

    Args:
        documents: one entry per score.
        price: tokens of a score.
    """
    return len(documents) * max((price(document, False) for document in set(documents)), default=0)
