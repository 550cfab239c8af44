"""What a search minimises: the loss of many candidates on one document, a batch of candidates per forward."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ..rope import Installation, RescaleFactors
from .batching import Batcher
from .loss import DocumentScore, document_score, token_nats
from .tokenized import TokenDocument, check_vocabulary


class PerplexityObjective:
    """Scores rescale factors by the loss of the first `length` tokens of a document (truncated whole window)."""

    def __init__(
        self,
        model: PreTrainedModel,
        installation: Installation,
        documents: Sequence[TokenDocument],
        length: int,
        batch_size: int,
    ) -> None:
        """Keep the windows on the model's device.

        Args:
            model: a model.
            installation: what `install(model)` gave; its candidates are replaced by each call.
            documents: documents of at least `length` tokens.
            length: tokens per document.
            batch_size: candidates per forward; halved for good whenever memory runs out.
        """
        check_vocabulary(documents, model)
        self.model, self.installation = model, installation
        self.windows = window_tensor(documents, length).to(model.device)
        self.batcher = Batcher(batch_size)

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> list[DocumentScore]:
        """Return one score per candidate, in order, on the document with this index."""

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
