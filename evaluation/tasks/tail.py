"""Perplexity of the same tokens, the tails of documents, under contexts of every length: what does more context bring?

    document  bos .. .. .. .. .. .. .. .. t t t      cut to the longest length
    window                    bos .. .. .. t t t      the leading tokens, and the last T tokens but for those

Truncated perplexity scores other tokens at each length; here only the context differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import PreTrainedModel

from ..data.tokenized import TokenizedDocuments, check_vocabulary
from ..scoring.batching import Batcher
from ..scoring.loss import document_score, token_nats
from ..scoring.model import input_device
from .base import Advance, Cell
from .perplexity import describe_documents, measure


@dataclass(frozen=True)
class TailPerplexity:
    """Perplexity of the last tokens of documents cut to `end` tokens."""

    name: ClassVar[str] = "perplexity_tail"
    one_forward: ClassVar[bool] = False

    data: TokenizedDocuments
    end: int
    """Where documents are cut, in tokens: the longest context."""
    tail_tokens: int = 128
    """Tokens that are scored in each document."""
    leading_tokens: int = 0
    """Special tokens in front of a document, which every window begins with."""
    batch_size: int = 1
    """Documents per forward."""
    seed: int = 0
    """Seed of the bootstrap."""

    def protocol(self) -> dict[str, Any]:
        return {
            "protocol": "tail",
            "window": f"the last T of the first {self.end} tokens, {self.tail_tokens} at their end scored",
            **describe_documents(self.data),
            "seed": self.seed,
        }

    def check(self, model: PreTrainedModel, lengths: Sequence[int]) -> None:
        least = self.tail_tokens + self.leading_tokens + 1
        if min(lengths) < least:
            raise ValueError(f"lengths must be at least {least} tokens for a tail of {self.tail_tokens}, got {lengths}")
        shortest = min(len(document.ids) for document in self.data.documents)
        if max(lengths) > self.end or shortest < self.end:
            raise ValueError(
                f"documents and lengths must reach and not pass the end of {self.end} tokens, got documents of "
                f"{shortest} or more, and length {max(lengths)}"
            )
        check_vocabulary(self.data.documents, model)

    def tokens(self, lengths: Sequence[int]) -> int:
        return len(self.data.documents) * sum(lengths)

    def run(self, model: PreTrainedModel, lengths: Sequence[int], advance: Advance) -> Cell:
        cell = Cell()
        for length in lengths:
            places = torch.arange(length - self.tail_tokens, length)

            def forward(batch: Sequence[torch.Tensor], places: torch.Tensor = places) -> list[torch.Tensor]:
                ids = torch.stack(list(batch))
                nats = token_nats(model, ids.to(input_device(model)), scored=places)
                advance(ids.numel())
                return list(nats.cpu())

            losses = Batcher(self.batch_size).map(forward, [self._window(d.ids, length) for d in self.data.documents])
            names = [document.name for document in self.data.documents]
            scores = [(name, document_score(row)) for name, row in zip(names, losses, strict=True)]
            measure(cell, length, scores, self.seed)
            for name, score in scores:
                record = {"nats": score.nats, "tokens": score.tokens, "error": score.error}
                cell.records.append({"length": length, "document": name, **record})
        return cell

    def _window(self, ids: np.ndarray, length: int) -> torch.Tensor:
        leading = self.leading_tokens
        text = ids[self.end - length + leading : self.end]
        return torch.from_numpy(np.concatenate((ids[:leading], text)))
