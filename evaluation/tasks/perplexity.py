"""Perplexity of truncated documents: one forward per document, every length read off its token losses.

Attention is causal, so with static factors the losses of a prefix are the prefix of the losses: documents are cut to
the longest length, and a shorter length sums its first tokens. Averages: `token_weighted` divides the sum of nats by
the number of scored tokens, once; `document_weighted` averages the documents' losses, which here is also the average
over windows, since each document is one; none averages perplexities.

Beside one record per length and document there is one per document for the curve of loss against position, at the
longest length of the forward: `{"kind": "positions", "length", "document", "edges", "nats", "tokens"}`. A token's
position is the number of tokens before it; bin k sums the `tokens[k]` positions from `edges[k]` to `edges[k + 1] - 1`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import PreTrainedModel

from ..data.tokenized import TokenizedDocuments, check_vocabulary
from ..data.windows import window_tensor
from ..scoring.batching import Batcher
from ..scoring.estimates import document_weighted_perplexity, token_weighted_perplexity
from ..scoring.loss import DocumentScore, document_score, token_nats
from ..scoring.model import input_device
from .base import Advance, Cell, Failure, Measurement, check_failures

POSITION_BINS = 32
"""Bins of the curve of loss against position, spaced logarithmically; fewer where they would hold no position."""
AVERAGES = {"token_weighted": token_weighted_perplexity, "document_weighted": document_weighted_perplexity}


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of the first tokens of each document."""

    name: ClassVar[str] = "perplexity"
    one_forward: ClassVar[bool] = True

    data: TokenizedDocuments
    batch_size: int = 1
    """Documents per forward."""
    seed: int = 0
    """Seed of the bootstrap."""

    def protocol(self) -> dict[str, Any]:
        return {
            "protocol": "truncated",
            "window": "whole: one forward per document, tokens 1 .. T-1 scored",
            "truncation": "first T tokens of each document",
            **describe_documents(self.data),
            "seed": self.seed,
        }

    def check(self, model: PreTrainedModel, lengths: Sequence[int]) -> None:
        if min(lengths) < 2:
            raise ValueError(f"lengths must be at least 2 tokens, got {min(lengths)}; the first token has no loss")
        window_tensor(self.data.documents, max(lengths))
        check_vocabulary(self.data.documents, model)

    def tokens(self, lengths: Sequence[int]) -> int:
        return len(self.data.documents) * max(lengths)

    def run(self, model: PreTrainedModel, lengths: Sequence[int], advance: Advance) -> Cell:
        longest = max(lengths)
        names = [document.name for document in self.data.documents]
        losses = token_losses(model, self.data, longest, self.batch_size, advance)
        cell = Cell()
        for length in lengths:
            scores = [(name, document_score(row[: length - 1])) for name, row in zip(names, losses, strict=True)]
            measure(cell, length, scores, self.seed)
            for name, score in scores:
                record = {"nats": score.nats, "tokens": score.tokens, "error": score.error}
                cell.records.append({"length": length, "document": name, **record})
        for name, row in zip(names, losses, strict=True):
            if row.isfinite().all():
                cell.records.append({"kind": "positions", "length": longest, "document": name, **by_position(row)})
        return cell


def token_losses(
    model: PreTrainedModel, data: TokenizedDocuments, length: int, batch_size: int, advance: Advance
) -> list[torch.Tensor]:
    """Return for each document the nats of its tokens 1 .. length-1, on the CPU, shape (length - 1,)."""
    windows = window_tensor(data.documents, length)

    def forward(batch: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        nats = token_nats(model, torch.stack(list(batch)).to(input_device(model)))
        advance(len(batch) * length)
        return list(nats.cpu())

    return Batcher(batch_size).map(forward, list(windows))


def measure(cell: Cell, length: int, scores: Sequence[tuple[str, DocumentScore]], seed: int) -> None:
    """Add the averages over documents to a cell, and the documents that have no score.

    Raises:
        RuntimeError: too many documents have no score.
    """
    failures = [Failure(length, name, score.error) for name, score in scores if score.error is not None]
    check_failures(failures, len(scores))
    cell.failures += failures
    scored = [(score.nats, score.tokens) for _, score in scores if score.nats is not None]
    nats, tokens = zip(*scored, strict=True)
    for metric, average in AVERAGES.items():
        cell.measurements.append(Measurement(metric, length, average(nats, tokens, seed)))


def describe_documents(data: TokenizedDocuments) -> dict[str, Any]:
    """Return what a protocol says of the documents, JSON-able."""
    return {
        "bos_policy": data.info.bos_policy,
        "documents": [document.name for document in data.documents],
        "data_fingerprint": data.fingerprint(),
        "averages": "token_weighted: sum of nats / scored tokens; document_weighted: mean over documents",
        "interval": "95 % percentile bootstrap over documents",
    }


def position_edges(length: int) -> list[int]:
    """Return the first position of each bin of a window of `length` tokens, and `length`."""
    return np.unique(np.geomspace(1, length, POSITION_BINS + 1).round().astype(int)).tolist()


def by_position(nats: torch.Tensor) -> dict[str, list[Any]]:
    """Sum the losses of one document over bins of positions.

    Args:
        nats: losses of the tokens at positions 1 .. T-1, shape (T - 1,).
    """
    edges = np.array(position_edges(len(nats) + 1))
    sums = np.add.reduceat(nats.double().numpy(), edges[:-1] - 1)
    return {"edges": edges.tolist(), "nats": sums.tolist(), "tokens": np.diff(edges).tolist()}
