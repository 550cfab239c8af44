"""What a search minimises: the loss of many candidates on one window, a batch of candidates per forward.

Objectives differ in their windows and in which tokens of a window they score. The window w of document d has the index
`w * len(documents) + d`, so the first windows come first. Letters: N windows, T tokens, K scored tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from ..rope import Installation, RescaleFactors
from .batching import Batcher
from .key_tokens import KeyTokenRule, find_key_tokens, model_losses
from .loss import DocumentScore, document_score, token_nats
from .tokenized import TokenDocument, check_vocabulary


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
        ids = ids.to(self.model.device)

        def forward(batch: Sequence[RescaleFactors]) -> list[WindowScore]:
            self.installation.set(batch)
            nats = token_nats(self.model, ids.expand(len(batch), -1), scored=scored)
            scores = [document_score(row) for row in nats]
            return [WindowScore(score.nats, score.tokens, score.error, forwarded=cost) for score in scores]

        return self.batcher.map(forward, candidates)


class PerplexityObjective(WindowObjective):
    """The loss of every token but the first of whole windows."""

    def __init__(
        self,
        model: PreTrainedModel,
        installation: Installation,
        documents: Sequence[TokenDocument],
        length: int,
        batch_size: int,
        windows_per_document: int = 1,
        opening: int = 0,
    ) -> None:
        """Cut the windows.

        Args:
            model: a model.
            installation: what `install(model)` gave; its candidates are replaced by each call.
            documents: documents of at least `length` tokens.
            length: tokens per window.
            batch_size: candidates per forward; halved for good whenever memory runs out.
            windows_per_document: windows per document, spread evenly; they overlap where a document is short.
            opening: special tokens in front of each document, repeated in front of each window.
        """
        super().__init__(model, installation, batch_size)
        check_vocabulary(documents, model)
        self.documents = documents
        self.windows = window_pool(documents, length, windows_per_document, opening)

    def window(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a window and the places of all tokens that something precedes."""
        return self.windows[index], torch.arange(1, self.windows.shape[1])


class KeyTokenObjective(WindowObjective):
    """The loss of key tokens only: those that an evaluator predicts from the long context alone (LongPPL).

    The evaluator is the model itself without any factors, so that no candidate is favoured; the rule has to keep it
    inside its own window. A window's key tokens are found when it is first asked for; that scores no candidate, and its
    forwards count for none. Where a window has none, the next window of the same document that has some stands in for
    it.
    """

    def __init__(self, whole: PerplexityObjective, rule: KeyTokenRule) -> None:
        """Make sure that each document has key tokens.

        Args:
            whole: the windows, and where candidates are scored.
            rule: what a key token is, e.g. of `own_window_rule`.

        Raises:
            ValueError: a document has no key tokens in any of its windows.
        """
        super().__init__(whole.model, whole.installation, whole.batcher.batch_size)
        self.windows, self.documents = whole.windows, whole.documents
        self.rule = rule
        self._places: dict[int, torch.Tensor] = {}
        for number in range(len(self.documents)):
            self.window(number)

    def window(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a window with key tokens, and their places."""
        others = range(index, index + len(self.windows), len(self.documents))
        for number in (other % len(self.windows) for other in others):
            if len(places := self._key_tokens(number)):
                return self.windows[number], places
        raise ValueError(
            f"documents must have key tokens in a window of {self.windows.shape[1]} tokens, got none in "
            f"{self.documents[index % len(self.documents)].name}; take other or longer documents, lower alpha, or "
            "shorten trunc_len"
        )

    def tokens(self, index: int) -> int:
        """Return T, without looking for key tokens."""
        return self.windows.shape[1]

    def _key_tokens(self, number: int) -> torch.Tensor:
        if number not in self._places:
            self.installation.reset()
            self._places[number] = find_key_tokens(model_losses(self.model), self.windows[number], self.rule)
        return self._places[number]


def window_tensor(documents: Sequence[TokenDocument], length: int) -> torch.Tensor:
    """Return the first `length` tokens of each document, shape (documents, length).

    Raises:
        ValueError: there are no documents, or one is shorter than `length`.
    """
    return window_pool(documents, length, 1, 0)


def window_pool(documents: Sequence[TokenDocument], length: int, count: int, opening: int) -> torch.Tensor:
    """Return `count` windows of each document with its first `opening` tokens in front, shape (N, length).

    Raises:
        ValueError: there are no documents, or one is shorter than `length`.
    """
    if not documents:
        raise ValueError("documents must hold at least one document, got none")
    for document in documents:
        if len(document.ids) < length:
            raise ValueError(
                f"documents must have at least {length} tokens, got {document.name} with {len(document.ids)}; "
                "raise the minimum length of the documents or evaluate a shorter length"
            )
    starts = [window_starts(document, length, count) for document in documents]
    rows = [
        np.concatenate([document.ids[:opening], document.ids[own[number] + opening : own[number] + length]])
        for number in range(count)
        for document, own in zip(documents, starts, strict=True)
    ]
    return torch.from_numpy(np.stack(rows))


def window_starts(document: TokenDocument, length: int, count: int) -> list[int]:
    """Return where `count` windows of `length` tokens begin, spread evenly over a document, the first at its start."""
    return [number * (len(document.ids) - length) // max(count - 1, 1) for number in range(count)]
