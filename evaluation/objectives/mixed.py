"""A weighted mean of objectives: several lengths, so that short context isn't paid for long, or several kinds."""

from collections.abc import Sequence

from ...rope import RescaleFactors
from .base import WindowObjective, WindowScore


class MixedObjective:
    """Scores rescale factors by the weighted mean of the losses of other objectives, each in nats per scored token.

    A part weighs what its weight says, however many tokens it scores. All parts must number their windows alike.
    """

    def __init__(self, parts: Sequence[tuple[WindowObjective, float]]) -> None:
        """Remember the parts.

        Args:
            parts: objectives and their weights; the weights need not sum to 1.

        Raises:
            ValueError: there are no parts, or a weight is not above 0.
        """
        if not parts or not all(0 < weight < float("inf") for _, weight in parts):
            raise ValueError(
                f"weights must be finite and above 0, at least one of them, got {[weight for _, weight in parts]}; "
                "leave out what shall not count"
            )
        self.parts = parts

    def tokens(self, index: int) -> int:
        """Return the tokens that a score of one candidate sends through the model, all parts together."""
        return sum(part.tokens(index) for part, _ in self.parts)

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> list[WindowScore]:
        """Return one score per candidate, in order; `nats / tokens` is the weighted mean loss."""
        weights = [weight for _, weight in self.parts]
        columns = zip(*(part.score(candidates, document) for part, _ in self.parts), strict=True)
        return [_mean(scores, weights) for scores in columns]


def _mean(scores: Sequence[WindowScore], weights: Sequence[float]) -> WindowScore:
    tokens, forwarded = (sum(getattr(score, name) for score in scores) for name in ("tokens", "forwarded"))
    losses = [score.nats / score.tokens for score in scores if score.nats is not None]
    if len(losses) < len(scores):
        error = next(score.error for score in scores if score.nats is None)
        return WindowScore(None, tokens, error, forwarded=forwarded)
    mean = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)
    return WindowScore(mean * tokens, tokens, forwarded=forwarded)
