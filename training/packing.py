"""Packs of exactly T tokens from documents of any length.

    documents  [bos a a a a a a]  [bos b b]        each closed by the EOS token, where the tokenizer has one
    packs      [bos a a a a] [bos a a eos bos] ..  T = 5; each pack, and each piece in it, opens with the leading tokens

A piece that goes on with a document opens with the leading tokens, too, as the windows of the evaluation do: models
lean on them. Every document token stands in one pack, but for the last pack of a pass, which is filled by the next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..evaluation.scoring.loss import IGNORED
from .documents import Documents

SPREAD = 64
"""Of how many packs one is drawn: a bound on the time and memory that planning a small part of a large corpus takes."""


class Piece(NamedTuple):
    """Part of a document in a pack."""

    document: int
    start: int
    """First token of the document in the pack, leading tokens not counted."""
    stop: int
    """One after the last token; the length of the document + 1 where the EOS token closes it."""


@dataclass(frozen=True)
class Pack:
    """Arrays of shape (T,)."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    """Where a position is not one more than that before it, tokens attend to nothing before it."""
    targets: NDArray[np.int64]
    """The token each one has to predict, `IGNORED` where it predicts none."""


@dataclass(frozen=True)
class Packer:
    """Cuts documents into packs.

    Args:
        documents: the documents, with the leading tokens in front of each.
        length: T, tokens of a pack.
        leading: tokens that a text opens with, such as BOS.
        closing: tokens that end a document, such as EOS; none or one.
        mask_documents: see `recipe.Window`.
        min_tokens: documents of fewer tokens are left out.
    """

    documents: Documents
    length: int
    leading: Sequence[int] = ()
    closing: Sequence[int] = ()
    mask_documents: bool = False
    min_tokens: int = 0

    def plan(self, num_packs: int, seed: int) -> list[tuple[Piece, ...]]:
        """Return which parts of which documents stand in each pack, in a random order.

        Packs that follow each other in a document would make batches of one document each. So `num_packs` are drawn
        from `SPREAD` times as many, or from one pass over the documents if that is fewer. Where one pass has not enough
        of them, the first `num_packs` of as many passes as it takes are shuffled.

        Raises:
            ValueError: no document is long enough.
        """
        packs: list[tuple[Piece, ...]] = []
        left = sum(self._end(document) - len(self.leading) for document in self._chosen())  # tokens of a pass
        for pieces in self.cut(seed):
            packs.append(pieces)
            left -= sum(piece.stop - piece.start for piece in pieces)
            if len(packs) >= num_packs and (left <= 0 or len(packs) >= SPREAD * num_packs):
                break
        order = np.random.default_rng((seed, len(packs))).permutation(len(packs))
        return [packs[index] for index in order[:num_packs]]

    def cut(self, seed: int) -> Iterator[tuple[Piece, ...]]:
        """Yield packs without end, as they follow each other; documents come in a new order with each pass.

        Raises:
            ValueError: no document is long enough.
        """
        rng = np.random.default_rng(seed)
        chosen = self._chosen()
        current: list[Piece] = []
        left = self.length
        while True:
            for document in rng.permutation(chosen).tolist():
                start, end = len(self.leading), self._end(document)
                while start < end:
                    # where there is no place for a token of text, the pack is filled with leading tokens
                    stop = max(start, min(end, start + left - len(self.leading)))
                    current.append(Piece(document, start, stop))
                    left -= len(self.leading) + stop - start
                    start = stop
                    if left <= 0:
                        yield tuple(current)
                        current, left = [], self.length

    def _chosen(self) -> NDArray[np.intp]:
        """Return which documents are long enough."""
        chosen = np.flatnonzero(self.documents.lengths > max(len(self.leading), self.min_tokens - 1))
        if not len(chosen):
            raise ValueError(
                f"training documents must have at least min_tokens = {self.min_tokens} tokens, got at most "
                f"{self.documents.lengths.max(initial=0)}; tokenize longer texts, or lower min_tokens"
            )
        if self.length <= len(self.leading) + 1:
            raise ValueError(f"length of a pack must be above its {len(self.leading)} leading tokens + 1")
        return chosen

    def _end(self, document: int) -> int:
        return int(self.documents.lengths[document]) + len(self.closing)

    def pack(self, pieces: Sequence[Piece]) -> Pack:
        """Return the tokens of a pack, read now."""
        ids = np.concatenate([self._tokens(piece) for piece in pieces])[: self.length]
        sizes = [len(self.leading) + piece.stop - piece.start for piece in pieces]
        positions, targets = np.arange(self.length), np.append(ids[1:], IGNORED)
        if self.mask_documents:
            positions = np.concatenate([np.arange(size) for size in sizes])[: self.length]
            ends = np.cumsum(sizes)[:-1]
            targets[ends - 1] = IGNORED  # the first token of a document can't be told from the one before
        return Pack(ids, positions, targets)

    def _tokens(self, piece: Piece) -> NDArray[np.int64]:
        length = int(self.documents.lengths[piece.document])
        text = self.documents.tokens(piece.document, piece.start, min(piece.stop, length))
        closing = self.closing if piece.stop > length else ()
        return np.concatenate((np.array(self.leading, dtype=np.int64), text, np.array(closing, dtype=np.int64)))
