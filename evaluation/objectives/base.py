"""What a search minimises: the loss of many candidates on one window, a batch of candidates per forward.

Objectives differ in their windows, numbered as in `data/windows.py`, and in which tokens of a window they score.
Letters: T tokens, K scored tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from ...rope import Installation, RescaleFactors
from ..scoring.batching import Batcher
from ..scoring.loss import DocumentScore, document_scores, positions_at_once, token_nats
from ..scoring.model import input_device


@dataclass(frozen=True, kw_only=True)
class WindowScore(DocumentScore):
    """The loss of one candidate on one window, and what it cost."""

    forwarded: int
    """Tokens sent through the model, whether the score failed or not."""


class WindowObjective(ABC):
    """Scores rescale factors by the loss of some tokens of a window."""

    def __init__(self, model: PreTrainedModel, installation: Installation, batch_size: int) -> None:
        """Remember where candidates are scored.

        Args:
            model: a model.
            installation: what `install(model)` gave; its candidates are replaced by each call.
            batch_size: candidates per forward; halved for good whenever memory runs out.
        """
        self.model, self.installation = model, installation
        self.batcher = Batcher(batch_size)
        self.chunk = positions_at_once(model.config.get_text_config().vocab_size)

    @abstractmethod
    def window(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the token ids of a window, shape (T,), and the places of its scored tokens, shape (K,), from 1."""

    def tokens(self, index: int) -> int:
        """Return T of a window: the tokens that a score of one candidate sends through the model."""
        return len(self.window(index)[0])

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> list[WindowScore]:
        """Return one score per candidate, in order, on the window with this index."""
        cost = self.tokens(document)
        ids, scored = self.window(document)
        ids = ids.to(input_device(self.model))

        def forward(batch: Sequence[RescaleFactors]) -> list[WindowScore]:
            self.installation.set(batch)
            nats = token_nats(self.model, ids.expand(len(batch), -1), chunk=self.chunk, scored=scored)
            scores = document_scores(nats)
            return [WindowScore(score.nats, score.tokens, score.error, forwarded=cost) for score in scores]

        return self.batcher.map(forward, candidates)
