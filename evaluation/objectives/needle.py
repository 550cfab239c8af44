"""Needle-driven perplexity: only the answers to questions about hidden needles count (LongRoPE2, arXiv 2502.20082).

A window, put together from tokens so that it has exactly the length asked for:

    opening | a document with needles hidden between its lines | question answer | question answer | ...

Only the digits of the answers are scored. What is hidden where depends on (seed, document, window) alone. The paper
asks one question about one needle; several in one window make its loss less noisy at the same cost.
"""

import random
import string
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...rope import Installation
from ..data.haystack import Haystack, Hidden
from ..data.prompts import STYLES, Needle, key_names
from ..data.seeding import seeded
from ..data.tokenized import TokenDocument, TokenizedDocuments, check_vocabulary
from ..data.windows import window_starts, window_tensor
from .base import WindowObjective

KINDS = ("passkey", "named_passkey", "key_value")
"""Kinds of needles: the pass key, one of several pass keys told apart by names, the special magic number of a name."""
MAX_NEEDLES = 16
"""Needles in a window, as many as `key_names` can tell apart."""


@dataclass(frozen=True)
class NeedleOptions:
    """What is hidden in a window and asked for.

    Raises:
        ValueError: a style or kind is unknown, or the counts don't fit.
    """

    style: str = "landmark"
    """`landmark` or `comment`."""
    kinds: tuple[str, ...] = KINDS
    """Kinds taken in turn, but the pass key without a name only once: a second one would contradict it."""
    questions: int = 4
    """Needles asked for, at least 1."""
    distractors: int = 0
    """Further needles that nobody asks for."""
    seed: int = 0
    """Seed of names, numbers, depths and order."""

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"needle style must be one of {', '.join(STYLES)}, got {self.style!r}")
        if not self.kinds or set(self.kinds) - set(KINDS) or len(set(self.kinds)) < len(self.kinds):
            raise ValueError(
                f"needle kinds must be among {', '.join(KINDS)}, each once, got {', '.join(self.kinds) or 'none'}"
            )
        count = self.questions + self.distractors
        if self.questions < 1 or self.distractors < 0 or count > MAX_NEEDLES:
            raise ValueError(
                f"needle questions must be at least 1, distractors at least 0 and both at most {MAX_NEEDLES} together, "
                f"got {self.questions} and {self.distractors}"
            )
        if count > 1 and self.kinds == ("passkey",):
            raise ValueError(
                f"needle kinds must hold one with names for several needles, got passkey alone for {count}; "
                "add named_passkey or key_value"
            )

    def needles(self, rng: random.Random) -> list[Needle]:
        """Return the needles of a window, those that are asked for first."""
        count = self.questions + self.distractors
        named = tuple(kind for kind in self.kinds if kind != "passkey")
        kinds = (*self.kinds, *named * count)[:count]
        return [self._needle(kind, name, rng) for kind, name in zip(kinds, key_names(rng, count), strict=True)]

    def _needle(self, kind: str, name: str, rng: random.Random) -> Needle:
        style = STYLES[self.style]
        if kind == "passkey":
            return style.passkey(str(rng.randrange(10_000, 100_000)))
        if kind == "named_passkey":
            return style.named_passkey(name, str(rng.randrange(10_000, 100_000)))
        return style.key_value(name, str(rng.randrange(1_000_000, 10_000_000)))


def needle_window(
    tokenizer: PreTrainedTokenizerBase, piece: TokenizedDocuments, length: int, options: NeedleOptions, number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide needles in a document and ask for some of them.

    Args:
        tokenizer: of the document.
        piece: one document of at least `length` tokens.
        length: T, tokens of the window.
        options: what is hidden and asked for.
        number: of the window, for the seed.

    Returns:
        Token ids, shape (T,), and the places of the answers' digits, shape (K,).

    Raises:
        ValueError: the window has no room for the needles and the questions.
    """
    document = piece.documents[0]
    rng = random.Random(seeded("needle objective", options.seed, document.digest, number))
    needles = options.needles(rng)
    asked = rng.sample(needles[: options.questions], options.questions)
    depths = [(place + rng.random()) / len(needles) for place in range(len(needles))]  # one in each n-th of the window
    hidden = [
        Hidden(depth, needle.statement) for depth, needle in zip(depths, rng.sample(needles, len(needles)), strict=True)
    ]
    haystack = Haystack(tokenizer, options.style, piece, sentences=options.style == "landmark")
    separator = haystack.style.separator
    questions = separator.join(f"{needle.question}{needle.stem} {needle.answer}" for needle in asked)
    ids = haystack.prompt(hidden, questions, length, 0, rng)
    tail = tokenizer.encode(separator + questions, add_special_tokens=False)
    digits = [any(c in string.digits for c in str(tokenizer.decode([token]))) for token in tail]  # none in a question
    return torch.from_numpy(ids), torch.tensor(digits).nonzero()[:, 0] + length - len(tail)


class NeedleObjective(WindowObjective):
    """The loss of the answers to questions about needles that are hidden in the documents."""

    def __init__(
        self,
        model: PreTrainedModel,
        installation: Installation,
        tokenizer: PreTrainedTokenizerBase,
        data: TokenizedDocuments,
        length: int,
        batch_size: int,
        windows_per_document: int = 1,
        options: NeedleOptions | None = None,
    ) -> None:
        """Build the windows.

        Args:
            model: a model.
            installation: what `install(model)` gave; its candidates are replaced by each call.
            tokenizer: of the model and the documents.
            data: documents of at least `length` tokens.
            length: tokens per window; needles, questions and answers included.
            batch_size: candidates per forward; halved for good whenever memory runs out.
            windows_per_document: windows per document, spread evenly.
            options: what is hidden and asked for; None: the defaults.

        Raises:
            ValueError: a document is too short, or a window has no room for the questions.
        """
        super().__init__(model, installation, batch_size)
        check_vocabulary(data.documents, model)
        window_tensor(data.documents, length)
        self.windows = [
            needle_window(tokenizer, _piece(data, document, start, length), length, options or NeedleOptions(), number)
            for number in range(windows_per_document)
            for document in data.documents
            for start in [window_starts(document, length, windows_per_document)[number]]
        ]

    def window(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a window and the places of the digits of its answers."""
        return self.windows[index]


def _piece(data: TokenizedDocuments, document: TokenDocument, start: int, length: int) -> TokenizedDocuments:
    """Return a window of a document as a document of its own."""
    return replace(data, documents=[TokenDocument(document.name, document.ids[start : start + length])])
