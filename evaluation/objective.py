"""What a search minimises: the loss of many candidates on one document, a batch of candidates per forward."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from ..rope import Installation, RescaleFactors
from .batching import Batcher
from .loss import DocumentScore, document_score, token_nats
from .tokenized import TokenDocument, check_vocabulary


class PerplexityObjective:
    """Scores rescale factors by the loss of whole windows of `length` tokens, the first of which opens its document.

    Window w of document d has the index `w * len(documents) + d`, so the first windows come first.
    """

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
        """Keep the windows on the model's device.

        Args:
            model: a model.
            installation: what `install(model)` gave; its candidates are replaced by each call.
            documents: documents of at least `length` tokens.
            length: tokens per window.
            batch_size: candidates per forward; halved for good whenever memory runs out.
            windows_per_document: windows per document, spread evenly; they overlap where a document is short.
            opening: special tokens in front of each document, repeated in front of each window.
        """
        check_vocabulary(documents, model)
        self.model, self.installation = model, installation
        self.windows = window_pool(documents, length, windows_per_document, opening).to(model.device)
        self.batcher = Batcher(batch_size)

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> list[DocumentScore]:
        """Return one score per candidate, in order, on the window with this index."""

        def forward(batch: Sequence[RescaleFactors]) -> list[DocumentScore]:
            self.installation.set(batch)
            nats = token_nats(self.model, self.windows[document].expand(len(batch), -1))
            return [document_score(row) for row in nats]

        return self.batcher.map(forward, candidates)


def window_tensor(documents: Sequence[TokenDocument], length: int) -> torch.Tensor:
    """Return the first `length` tokens of each document, shape (documents, length).

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
    return torch.stack([torch.from_numpy(document.ids[:length].copy()) for document in documents])


def window_pool(documents: Sequence[TokenDocument], length: int, count: int, opening: int) -> torch.Tensor:
    """Return `count` windows of each document with its first `opening` tokens in front, shape (windows, length).

    Raises:
        ValueError: as `window_tensor`.
    """
    pool = [window_tensor(documents, length)]
    for number in range(1, count):
        starts = [number * (len(document.ids) - length) // (count - 1) for document in documents]
        rows = [
            np.concatenate([document.ids[:opening], document.ids[start + opening : start + length]])
            for document, start in zip(documents, starts, strict=True)
        ]
        pool.append(torch.from_numpy(np.stack(rows)))
    return torch.cat(pool)
