"""Prompts in tokens, and the middle truncation of LongBench: the first and the last half of the tokens are kept.

Unlike the official scripts, which decode the halves and tokenize them again, nothing is re-tokenized, and the tokens of
a chat template count: a prompt that is cut has exactly the room there is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.chat import Frame
from .registry import Prompt


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """A whole prompt and what of it must stay."""

    ids: NDArray[np.int64]
    """Shape (T,)."""
    head: int
    """Tokens at the start that are no document: frame and instruction."""
    tail: int
    """Tokens at the end that are no document: question, stem of the answer, frame."""

    @property
    def halves(self) -> int:
        """Fewest tokens whose first half holds the head and whose last half the tail."""
        return max(2 * self.head - 1, 2 * self.tail)

    def fit(self, room: int) -> NDArray[np.int64]:
        """Return at most `room` tokens: all of them, or the first and the last half of the room.

        Raises:
            ValueError: the instruction or the question would be cut.
        """
        if len(self.ids) <= room:
            return self.ids
        if room < self.halves:
            raise ValueError(
                f"lengths must leave at least {min(len(self.ids), self.halves)} tokens for a prompt whose question is "
                f"never cut, got {room}; ask for longer lengths"
            )
        last = room // 2
        return np.concatenate([self.ids[: room - last], self.ids[len(self.ids) - last :]])


def encode(prompt: Prompt, frame: Frame) -> EncodedPrompt:
    """Tokenize a prompt as one text, so that its tokens do not depend on how it was put together."""
    ids = frame.opening + frame.tokens(frame.shown("".join(prompt))) + frame.closing
    head = len(frame.opening) + len(frame.tokens(prompt.before))
    tail = len(frame.tokens(prompt.after)) + len(frame.closing)
    return EncodedPrompt(np.array(ids, dtype=np.int64), head, tail)
