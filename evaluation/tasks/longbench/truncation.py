"""Prompts in tokens, and the middle truncation of LongBench: the first and the last half of the tokens are kept.

Unlike the official scripts, which decode the halves and tokenize them again, nothing is re-tokenized, and the tokens of
a chat template count: a prompt that is cut has exactly the room there is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ...data.tokenized import leading_special_tokens
from .registry import Prompt

PLACEHOLDER = "LONGBENCH-PROMPT"


@dataclass(frozen=True)
class Frame:
    """Tokens around every prompt: those of a chat template, or the tokenizer's leading special tokens."""

    opening: list[int]
    closing: list[int]


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


def frame(tokenizer: PreTrainedTokenizerBase, chat: bool) -> Frame:
    """Return the tokens around a prompt.

    Raises:
        ValueError: a chat template is asked for and there is none, or it doesn't show the prompt as it is.
    """
    if not chat:
        return Frame(leading_special_tokens(tokenizer), [])
    if not tokenizer.chat_template:
        raise ValueError("chat must be False for a tokenizer without a chat template, got True; leave it out")
    message = [{"role": "user", "content": PLACEHOLDER}]
    text = str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
    before, shown, after = text.partition(PLACEHOLDER)
    if not shown:
        raise ValueError("chat must be False where the chat template doesn't show its message, got True; leave it out")
    return Frame(_encode(tokenizer, before), _encode(tokenizer, after))


def encode(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, frame: Frame) -> EncodedPrompt:
    """Tokenize a prompt as one text, so that no seam shows in its tokens."""
    ids = frame.opening + _encode(tokenizer, "".join(prompt)) + frame.closing
    head = len(frame.opening) + len(_encode(tokenizer, prompt.before))
    tail = len(_encode(tokenizer, prompt.after)) + len(frame.closing)
    return EncodedPrompt(np.array(ids, dtype=np.int64), head, tail)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False, verbose=False) if text else []
