"""Perplexity of truncated documents: one forward per document, every length read off its token losses.

Attention is causal, so with static factors the losses of a prefix are the prefix of the losses: documents are cut to
the longest length, and a shorter length sums its first tokens. Averages: `token_weighted` divides the sum of nats by
the number of scored tokens, once; `document_weighted` averages the documents' losses; neither averages perplexities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel

from .batching import Batcher
from .loss import DocumentScore, document_score, token_nats
from .objective import window_tensor
from .statistics import document_weighted_perplexity, token_weighted_perplexity
from .task import Advance, Cell, Failure, Measurement, check_failures
from .tokenized import TokenizedDocuments, check_vocabulary


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
            "window": "whole: one forward per document, tokens 1 .. T-1 scored",
            "truncation": "first T tokens of each document",
            "bos_policy": self.data.info.bos_policy,
            "documents": [document.name for document in self.data.documents],
            "data_fingerprint": self.data.fingerprint(),
            "interval": "95 % percentile bootstrap over documents",
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
        names = [document.name for document in self.data.documents]
        scores = prefix_scores(model, self.data, lengths, self.batch_size, advance)
        cell = Cell()
        for length in lengths:
            at_length = [(name, row[length]) for name, row in zip(names, scores, strict=True)]
            failures = [Failure(length, name, score.error) for name, score in at_length if score.error is not None]
            check_failures(failures, len(at_length))
            cell.failures += failures
            scored = [(score.nats, score.tokens) for _, score in at_length if score.nats is not None]
            nats, tokens = zip(*scored, strict=True)
            assert set(tokens) == {length - 1}
            for metric, average in AVERAGES.items():
                cell.measurements.append(Measurement(metric, length, average(nats, tokens, self.seed)))
            cell.records += [
                {"length": length, "document": name, "nats": score.nats, "tokens": score.tokens, "error": score.error}
                for name, score in at_length
            ]
        return cell


AVERAGES = {"token_weighted": token_weighted_perplexity, "document_weighted": document_weighted_perplexity}


def prefix_scores(
    model: PreTrainedModel,
    data: TokenizedDocuments,
    lengths: Sequence[int],
    batch_size: int,
    advance: Advance = lambda tokens: None,
) -> list[dict[int, DocumentScore]]:
    """Return for each document its score at each length, from one forward at the longest."""
    windows = window_tensor(data.documents, max(lengths))

    def forward(batch: Sequence[torch.Tensor]) -> list[dict[int, DocumentScore]]:
        nats = token_nats(model, torch.stack(list(batch)).to(model.device))
        advance(len(batch) * max(lengths))
        return [{length: document_score(row[: length - 1]) for length in lengths} for row in nats]

    return Batcher(batch_size).map(forward, list(windows))
