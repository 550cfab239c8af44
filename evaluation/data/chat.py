"""What stands around a prompt: the tokenizer's leading special tokens, or its chat template.

With a chat template the prompt is the user's message, and the stem of the answer follows the generation prompt, so that
the model goes on with the stem, as in the official RULER. Templates that print the date get one date for all prompts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from .tokenized import leading_special_tokens

PLACEHOLDER = "LONGROPE-PROMPT"
DATE = "26 Jul 2024"
"""What templates that print the date show, whatever the day: Llama 3.1's own default."""
PARTS = {"%d": "26", "%b": "Jul", "%B": "July", "%m": "07", "%Y": "2024", "%y": "24", "%A": "Friday", "%a": "Fri"}
FIXED_DATE = (
    "{% macro strftime_now(form) %}{{ form"
    + "".join(f" | replace('{part}', '{value}')" for part, value in PARTS.items())
    + " }}{% endmacro %}{{ '' }}"
)
"""Stands before a template, so that the same prompts come out tomorrow."""


@dataclass(frozen=True)
class Frame:
    """What stands around every prompt of a task."""

    tokenizer: PreTrainedTokenizerBase
    before: str = ""
    """Text of the chat template before the message; empty without one."""
    after: str = ""
    """Its text between the message and the answer."""
    strips: bool = False
    """Whether the template takes white space off the ends of a message."""

    @property
    def is_chat(self) -> bool:
        """Whether there is a chat template."""
        return bool(self.before or self.after)

    @cached_property
    def opening(self) -> list[int]:
        """Tokens before a message."""
        return self.tokens(self.before) if self.is_chat else leading_special_tokens(self.tokenizer)

    @cached_property
    def closing(self) -> list[int]:
        """Tokens between a message and the answer."""
        return self.tokens(self.after)

    def shown(self, message: str) -> str:
        """Return a message as the template shows it."""
        return message.strip() if self.strips else message

    def encode(self, message: str, stem: str = "") -> list[int]:
        """Return the tokens of a whole prompt, tokenized as one text.

        Args:
            message: what the user says.
            stem: what the answer begins with.
        """
        whole = self.tokens(self.before + self.shown(message) + self.after + stem)
        return whole if self.is_chat else self.opening + whole

    def ending(self, message: str, stem: str = "") -> list[int]:
        """Return the tokens of the last part of a message, and of what follows up to where the model goes on."""
        if not self.is_chat:
            return self.tokens(message + stem)
        return self.tokens(message) + self.tokens(self.after + stem)

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text without special ones that it doesn't show."""
        return self.tokenizer.encode(text, add_special_tokens=False, verbose=False) if text else []

    def describe(self) -> str | Mapping[str, Any]:
        """Return what of it decides prompts, JSON-able; `none` without a chat template."""
        return {"before": self.before, "after": self.after, "strips": self.strips} if self.is_chat else "none"


def frame(tokenizer: PreTrainedTokenizerBase, chat: bool, system: str = "", question: str = "") -> Frame:
    """Return what stands around the prompts of a tokenizer.

    Args:
        tokenizer: tokenizer of the model.
        chat: whether prompts are messages in its chat template.
        system: system prompt before them in the chat template; empty: the template's own, if it has one.
        question: second message of the user after each in the chat template; empty: none.

    Raises:
        ValueError: there is no chat template, it fails, or it doesn't show the message as it is.
    """
    if not chat:
        return Frame(tokenizer)
    if not tokenizer.chat_template:
        raise ValueError(
            "chat template must be off for a tokenizer that has none, got on; leave --chat-template out, or give a "
            "model whose tokenizer has a chat_template"
        )
    spaced = f" {PLACEHOLDER} "
    try:
        strips = spaced not in _rendered(tokenizer, spaced, system, question)
        before, found, after = _rendered(tokenizer, PLACEHOLDER, system, question).partition(PLACEHOLDER)
    except TemplateError as error:
        parts = f"{'a system prompt and ' if system else ''}{'two messages' if question else 'a message'} of the user"
        raise ValueError(f"chat template must take {parts}, got {error}; leave --chat-template out") from error
    if not found or PLACEHOLDER in after or not (before or after):
        raise ValueError(
            "chat template must show the user's message once and as it is, got one that doesn't; leave "
            "--chat-template out"
        )
    return Frame(tokenizer, before, after, strips)


def _rendered(tokenizer: PreTrainedTokenizerBase, message: str, system: str, question: str) -> str:
    """Return a conversation up to where the answer begins."""
    conversation = [{"role": "system", "content": system}] if system else []
    conversation += [{"role": "user", "content": said} for said in (message, question) if said]
    return str(
        tokenizer.apply_chat_template(
            conversation,
            chat_template=FIXED_DATE + str(tokenizer.get_chat_template()),
            tokenize=False,
            add_generation_prompt=True,
            date_string=DATE,
        )
    )
