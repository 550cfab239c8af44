"""Perplexity of whole windows as an objective."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ...rope import Installation
from ..data.tokenized import TokenDocument, check_vocabulary
from ..data.windows import window_pool
from .base import WindowObjective


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

    def tokens(self, index: int) -> int:
        """Return T, which is the same for all windows."""
        return self.windows.shape[1]
