"""Perplexity with sliding windows: every token of a document is scored exactly once, with up to a window before it.

A length is the size of the window here, so that all lengths score the same tokens. Each forward reads `window` tokens
and scores those that no window before it has; the first window of a document scores all of its own but the first:

    tokens     0 1 2 3 4 5 6 7 8 9        window 6, stride 3, 10 tokens
    forward 1  . s s s s s                s: scored
    forward 2        . . . s s s          context: at least window - stride, at most window - 1 tokens
    forward 3          . . . . . s        the last window ends where the document does

With stride = window - 1 only the token before is carried over: that is the rolling log-likelihood of lm-eval at
`max_length = window - 1`, token for token. Published: stride 256 (YaRN, LongRoPE).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, NamedTuple

import torch
from transformers import PreTrainedModel

from ..data.tokenized import TokenizedDocuments, check_vocabulary
from ..data.windows import window_tensor
from ..scoring.batching import Batcher
from ..scoring.estimates import token_weighted_perplexity
from ..scoring.loss import DocumentScore, document_score, token_nats
from ..scoring.model import input_device
from .base import Advance, Cell, Measurement
from .perplexity import describe_documents, measure


class Window(NamedTuple):
    """Tokens [start, stop) go through the model, of which [scored, stop) are scored."""

    start: int
    stop: int
    scored: int

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens of the forward, and how many of them are context only."""
        return self.stop - self.start, self.scored - self.start


def sliding_windows(num_tokens: int, window: int, stride: int) -> Iterator[Window]:
    """Yield the windows that score tokens 1 .. num_tokens - 1 once each, in order.

    Args:
        num_tokens: tokens of the document.
        window: tokens per forward.
        stride: tokens that a window after the first scores, from 1 to window - 1.

    Raises:
        ValueError: the stride leaves a token without context, or scores nothing.
    """
    if not 1 <= stride < window:
        raise ValueError(f"stride must be from 1 to the window - 1 = {window - 1} tokens, got {stride}; lower it")
    scored = 1
    stop = min(window, num_tokens)
    while scored < num_tokens:
        yield Window(max(0, stop - window), stop, scored)
        scored, stop = stop, min(stop + stride, num_tokens)


@dataclass(frozen=True)
class SlidingPerplexity:
    """Perplexity of whole documents under windows of each length.

    Averages as in `perplexity`, and `window_weighted`: the mean over windows of their mean loss, as the scripts of YaRN
    and LongRoPE print, in which the tokens of the first and last window count otherwise than the rest.
    """

    name: ClassVar[str] = "perplexity_sliding"
    one_forward: ClassVar[bool] = False

    data: TokenizedDocuments
    stride: int = 256
    """Tokens that each window after the first scores; at most the window - 1."""
    document_tokens: int | None = None
    """Tokens of each document that are scored, the same for all lengths; None: all of them."""
    batch_size: int = 1
    """Windows per forward."""
    seed: int = 0
    """Seed of the bootstrap."""

    def protocol(self) -> dict[str, Any]:
        return {
            "protocol": "sliding",
            "window": "T tokens; each token scored once, with T - stride to T - 1 tokens before it where there are any",
            "stride": self.stride,
            "truncation": "none" if self.document_tokens is None else f"first {self.document_tokens} tokens",
            **describe_documents(self.data),
            "window_weighted": "mean over windows of their mean loss",
            "seed": self.seed,
        }

    def check(self, model: PreTrainedModel, lengths: Sequence[int]) -> None:
        for length in lengths:
            next(sliding_windows(length, length, self.stride))
        window_tensor(self.data.documents, max(*lengths, self.document_tokens or 0))
        check_vocabulary(self.data.documents, model)

    def tokens(self, lengths: Sequence[int]) -> int:
        return sum(window.stop - window.start for length in lengths for _, window in self._windows(length))

    def run(self, model: PreTrainedModel, lengths: Sequence[int], advance: Advance) -> Cell:
        cell = Cell()
        for length in lengths:
            parts = self._scores(model, length, advance)
            scores = [_joined(windows) for windows in parts]
            named = [(document.name, score) for document, score in zip(self.data.documents, scores, strict=True)]
            measure(cell, length, named, self.seed)
            whole = [windows for windows, score in zip(parts, scores, strict=True) if score.error is None]
            estimate = token_weighted_perplexity([_sum_of_means(w) for w in whole], [len(w) for w in whole], self.seed)
            cell.measurements.append(Measurement("window_weighted", length, estimate))
            for (name, score), windows in zip(named, parts, strict=True):
                record = {"nats": score.nats, "tokens": score.tokens, "windows": len(windows), "error": score.error}
                cell.records.append({"length": length, "document": name, **record})
        return cell

    def _windows(self, length: int) -> list[tuple[int, Window]]:
        """Return the windows of all documents, with the number of the document."""
        sizes = [len(document.ids[: self.document_tokens]) for document in self.data.documents]
        return [(n, window) for n, size in enumerate(sizes) for window in sliding_windows(size, length, self.stride)]

    def _scores(self, model: PreTrainedModel, length: int, advance: Advance) -> list[list[DocumentScore]]:
        """Return one score per window, by document; windows of one shape share forwards."""
        documents = self.data.documents

        def forward(batch: Sequence[tuple[int, Window]]) -> list[DocumentScore]:
            size, context = batch[0][1].shape
            rows = [torch.from_numpy(documents[n].ids[window.start : window.stop]) for n, window in batch]
            ids = torch.stack(rows).to(input_device(model))
            nats = token_nats(model, ids, scored=torch.arange(context, size))
            advance(ids.numel())
            return [document_score(row) for row in nats]

        ordered = sorted(self._windows(length), key=lambda item: item[1].shape)
        batcher, scores = Batcher(self.batch_size), [[] for _ in documents]
        for _, group in groupby(ordered, key=lambda item: item[1].shape):
            alike = list(group)
            for (n, _), score in zip(alike, batcher.map(forward, alike), strict=True):
                scores[n].append(score)
        return scores


def _joined(windows: Sequence[DocumentScore]) -> DocumentScore:
    tokens = sum(window.tokens for window in windows)
    error = next((window.error for window in windows if window.error is not None), None)
    nats = None if error else math.fsum(window.nats for window in windows if window.nats is not None)
    return DocumentScore(nats, tokens, error)


def _sum_of_means(windows: Sequence[DocumentScore]) -> float:
    return math.fsum(window.nats / window.tokens for window in windows if window.nats is not None)
