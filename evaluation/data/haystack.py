"""Haystacks: long text of an exact number of tokens with needles hidden in it.

Prompts are put together from tokens, so that no re-tokenization changes their length, and the question is never cut.
Depth 0 is the start of the haystack, 1 its end. A needle moves on from its depth to where it splits no line (in
documents of prose: no sentence either), or back to the start of a filler sentence.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from .chat import Frame
from .prompts import FILLER, STYLES
from .tokenized import TokenizedDocuments

BREAK_SEARCH = 256
"""Tokens within which a line or sentence break is looked for."""


class Hidden(NamedTuple):
    """A statement and where it is hidden."""

    depth: float
    statement: str


class Haystack:
    """Builds the prompts of one tokenizer, in one style, from filler or from documents."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        style: str = "landmark",
        data: TokenizedDocuments | None = None,
        sentences: bool = False,
        frame: Frame | None = None,
    ) -> None:
        """Encode the pieces that all prompts share.

        Args:
            tokenizer: tokenizer of the model.
            style: `landmark` or `comment`.
            data: documents to hide needles in; None: the pass key's filler sentences.
            sentences: whether a needle may also stand between two sentences of a document's line.
            frame: what stands around a prompt; None: the tokenizer's leading special tokens.

        Raises:
            ValueError: the style is unknown.
        """
        if style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}, got {style!r}")
        self.tokenizer, self.style, self.sentences = tokenizer, STYLES[style], sentences
        self.frame = frame or Frame(tokenizer)
        self.filler = self._encode(self.style.separator + FILLER)
        self.opening = self.frame.opening + self._encode(self.style.header)
        special = tokenizer.all_special_ids
        self.documents = None if data is None else [d.ids[~np.isin(d.ids, special)] for d in data.documents]

    def prompt(
        self,
        needles: Sequence[Hidden],
        question: str,
        length: int,
        answer_tokens: int,
        rng: random.Random,
        stem: str = "",
    ) -> NDArray[np.int64]:
        """Return a prompt of exactly `length - answer_tokens` tokens: opening, haystack with needles, question, stem.

        Args:
            needles: what to hide, in any order.
            question: what is asked at the end.
            length: tokens of prompt and answer together.
            answer_tokens: tokens left free for the answer.
            rng: chooses the piece of the documents.
            stem: how the answer begins.

        Raises:
            ValueError: the length has no room for the question, or the documents are too short.
        """
        in_order = sorted(needles, key=lambda needle: needle.depth)
        hidden = [self._encode(self.style.separator + needle.statement + self.style.after) for needle in in_order]
        asked = self.frame.ending(self.style.separator + question, stem)
        room = length - answer_tokens - len(self.opening) - sum(map(len, hidden)) - len(asked)
        if room < 1:
            raise ValueError(
                f"lengths must be at least {length - room + 1} tokens for this needle and question, got {length}; "
                "leave the shorter lengths out"
            )
        haystack = self._cut(room, rng)
        ids, start = list(self.opening), 0
        for needle, tokens in zip(in_order, hidden, strict=True):
            stop = self._break(haystack, round(needle.depth * room))
            ids += haystack[start:stop] + tokens
            start = stop
        ids += haystack[start:] + asked
        assert len(ids) + answer_tokens == length
        return np.array(ids, dtype=np.int64)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def _cut(self, room: int, rng: random.Random) -> list[int]:
        """Return filler, a piece of one document, or where none is long enough several documents in a row."""
        if self.documents is None:
            return (self.filler * (room // len(self.filler) + 1))[:room]
        if long_enough := [ids for ids in self.documents if len(ids) >= room]:
            ids = rng.choice(long_enough)
            start = rng.randint(0, len(ids) - room)
            return ids[start : start + room].tolist()
        between = self._encode("\n\n")
        joined: list[int] = []
        for ids in rng.sample(self.documents, len(self.documents)):
            joined += ids.tolist() + between
            if len(joined) >= room:
                return joined[:room]
        raise ValueError(
            f"documents must have at least {room} tokens together to hide a needle in, got {len(joined)}; "
            "use more documents, shorter lengths or the filler"
        )

    def _break(self, haystack: Sequence[int], at: int) -> int:
        if self.documents is None:
            return at - at % len(self.filler)
        stop = min(at + BREAK_SEARCH, len(haystack))
        return next((index for index in range(at, stop) if self._splits_nothing(haystack, index)), at)

    def _splits_nothing(self, haystack: Sequence[int], at: int) -> bool:
        if str(self.tokenizer.decode([haystack[at]])).startswith("\n"):
            return True
        if not self.sentences or at == 0:
            return False
        before = str(self.tokenizer.decode([haystack[at - 1]]))
        both = str(self.tokenizer.decode([haystack[at - 1], haystack[at]]))  # alone, a token may lose its space
        return before.rstrip("\"'”’)").endswith((".", "!", "?")) and both[len(before) :][:1].isspace()
