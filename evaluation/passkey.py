"""Pass key retrieval (LongRoPE A.1, arXiv 2402.13753, after landmark attention, arXiv 2305.16300).

A key of five digits is hidden at some depth of a haystack and asked for at the end. Lengths are real tokens of the
tokenizer, prompt and answer together; prompts are put together from tokens, so that no re-tokenization changes their
length, and the question is never cut. Each prompt depends on (seed, length, depth, trial) alone.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .batching import Batcher
from .generation import NOT_FINITE, Generate, greedy
from .prompts import FILLER, STYLES
from .statistics import accuracy
from .task import Advance, Cell, Failure, Measurement, check_failures
from .tokenized import TokenizedDocuments, check_vocabulary, leading_special_tokens, tokenizer_fingerprint

ANSWER_TOKENS = 8
"""New tokens: five digits of a token each, a space, and one more to see where the number ends."""
LINE_SEARCH = 256
"""Tokens within which a line break is looked for, so that a needle doesn't split a line of a document."""


@dataclass(frozen=True, eq=False)
class PasskeySample:
    """One prompt and its answer."""

    length: int
    """Tokens of the prompt and the answer together."""
    depth: float
    """Where the key is: 0 at the start of the haystack, 1 at its end."""
    trial: int
    ids: NDArray[np.int64]
    """Prompt, shape (length - ANSWER_TOKENS,)."""
    expected: str

    @property
    def prompt_hash(self) -> str:
        """Sha256 of the prompt's token ids."""
        return hashlib.sha256(self.ids.astype("<i8").tobytes()).hexdigest()


@dataclass(frozen=True)
class PasskeyRecord:
    """What a model answered to one sample."""

    length: int
    depth: float
    trial: int
    prompt_hash: str
    expected: str
    predicted: str
    """The text of the answer, as decoded."""
    correct: bool
    error: str | None
    """Why there is no answer; such a sample counts neither as right nor as wrong."""


class PasskeyPrompts:
    """Builds the prompts of one tokenizer, in one style, from filler or from documents."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, style: str = "landmark", data: TokenizedDocuments | None = None
    ) -> None:
        """Encode the pieces that all prompts share.

        Args:
            tokenizer: tokenizer of the model.
            style: `landmark` or `comment`.
            data: documents to hide the key in; None: the paper's filler sentences.

        Raises:
            ValueError: the style is unknown.
        """
        if style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}, got {style!r}")
        self.tokenizer, self.style = tokenizer, STYLES[style]
        self.filler = self._encode(self.style.separator + FILLER)
        self.opening = leading_special_tokens(tokenizer) + self._encode(self.style.header)
        special = tokenizer.all_special_ids
        self.documents = None if data is None else [d.ids[~np.isin(d.ids, special)] for d in data.documents]

    def sample(self, seed: int, length: int, depth: float, trial: int) -> PasskeySample:
        """Return one prompt of exactly `length - ANSWER_TOKENS` tokens.

        Raises:
            ValueError: the length has no room for the question, or no document is long enough.
        """
        digest = hashlib.sha256(repr((seed, length, depth, trial)).encode()).digest()
        rng = random.Random(int.from_bytes(digest[:8], "big"))
        key = str(rng.randrange(10_000, 100_000))
        needle = self.style.passkey(key)
        separator = self.style.separator
        hidden = self._encode(separator + needle.statement + self.style.after)
        question = self._encode(separator + needle.question)
        room = length - ANSWER_TOKENS - len(self.opening) - len(hidden) - len(question)
        if room < 1:
            raise ValueError(f"lengths must be at least {length - room + 1} tokens for a pass key, got {length}")
        haystack = self._haystack(room, rng)
        at = self._boundary(haystack, round(depth * room))
        ids = np.array(self.opening + haystack[:at] + hidden + haystack[at:] + question, dtype=np.int64)
        assert len(ids) + ANSWER_TOKENS == length
        return PasskeySample(length, depth, trial, ids, key)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def _haystack(self, room: int, rng: random.Random) -> list[int]:
        if self.documents is None:
            return (self.filler * (room // len(self.filler) + 1))[:room]
        long_enough = [ids for ids in self.documents if len(ids) >= room]
        if not long_enough:
            longest = max(map(len, self.documents))
            raise ValueError(
                f"documents must have at least {room} tokens to hide a pass key in, got at most {longest}; "
                "use longer documents or the filler"
            )
        ids = rng.choice(long_enough)
        start = rng.randint(0, len(ids) - room)
        return ids[start : start + room].tolist()

    def _boundary(self, haystack: list[int], at: int) -> int:
        """Return the place nearest before (filler) or after (documents) `at` that splits no sentence or line."""
        if self.documents is None:
            return at - at % len(self.filler)
        stop = min(at + LINE_SEARCH, len(haystack))
        return next((i for i in range(at, stop) if str(self.tokenizer.decode([haystack[i]])).startswith("\n")), at)


def is_correct(predicted: str, expected: str) -> bool:
    """Tell whether the first integer of the answer is exactly the key."""
    found = re.search(r"\d+", predicted)
    return found is not None and found.group() == expected


def ask(
    generate: Generate,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[PasskeySample],
    batch_size: int,
    advance: Advance = lambda tokens: None,
) -> list[PasskeyRecord]:
    """Put samples of one length to a model and read its answers."""

    def answer(batch: Sequence[PasskeySample]) -> list[PasskeyRecord]:
        tokens = generate(torch.from_numpy(np.stack([sample.ids for sample in batch])), ANSWER_TOKENS)
        advance(sum(sample.length for sample in batch))
        return [_record(tokenizer, sample, row.tolist()) for sample, row in zip(batch, tokens, strict=True)]

    return Batcher(batch_size).map(answer, samples)


def _record(tokenizer: PreTrainedTokenizerBase, sample: PasskeySample, tokens: list[int]) -> PasskeyRecord:
    error = "logits are not finite" if NOT_FINITE in tokens else None
    predicted = "" if error else str(tokenizer.decode(tokens, skip_special_tokens=True))
    return PasskeyRecord(
        length=sample.length,
        depth=sample.depth,
        trial=sample.trial,
        prompt_hash=sample.prompt_hash,
        expected=sample.expected,
        predicted=predicted,
        correct=is_correct(predicted, sample.expected),
        error=error,
    )


@dataclass(frozen=True)
class Passkey:
    """Pass key accuracy over a grid of depths."""

    name: ClassVar[str] = "passkey"
    one_forward: ClassVar[bool] = False

    tokenizer: PreTrainedTokenizerBase
    data: TokenizedDocuments | None = None
    """Haystack documents; None: the paper's filler."""
    style: Literal["landmark", "comment"] = "landmark"
    depths: int = 10
    """Depths on an even grid from 0 to 1."""
    trials: int = 1
    """Prompts per depth, each with a key and a haystack of its own."""
    batch_size: int = 1
    """Prompts per forward."""
    seed: int = 0

    def protocol(self) -> dict[str, Any]:
        return {
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "style": self.style,
            "haystack": "filler" if self.data is None else self.data.fingerprint(),
            "depths": self.depths,
            "trials": self.trials,
            "length": f"prompt and {ANSWER_TOKENS} answer tokens together",
            "decoding": "greedy",
            "scoring": "first integer of the answer equals the key",
            "template": "none",
            "interval": "95 % Wilson",
            "seed": self.seed,
        }

    def check(self, model: PreTrainedModel, lengths: Sequence[int]) -> None:
        if self.data is not None:
            check_vocabulary(self.data.documents, model)
        prompts = PasskeyPrompts(self.tokenizer, self.style, self.data)
        for length in (min(lengths), max(lengths)):
            prompts.sample(self.seed, length, 0.0, 0)

    def tokens(self, lengths: Sequence[int]) -> int:
        return self.depths * self.trials * sum(lengths)

    def samples(self, length: int) -> list[PasskeySample]:
        """Return the prompts of one length."""
        prompts = PasskeyPrompts(self.tokenizer, self.style, self.data)
        grid = [round(float(depth), 6) for depth in np.linspace(0, 1, self.depths)]
        return [prompts.sample(self.seed, length, depth, trial) for depth in grid for trial in range(self.trials)]

    def run(self, model: PreTrainedModel, lengths: Sequence[int], advance: Advance) -> Cell:
        cell = Cell()
        for length in lengths:
            samples = self.samples(length)
            records = ask(lambda ids, n: greedy(model, ids, n), self.tokenizer, samples, self.batch_size, advance)
            failures = [
                Failure(length, f"depth {r.depth} trial {r.trial}", r.error) for r in records if r.error is not None
            ]
            check_failures(failures, len(records))
            cell.failures += failures
            estimate = accuracy([record.correct for record in records if record.error is None])
            cell.measurements.append(Measurement("accuracy", length, estimate))
            cell.records += [asdict(record) for record in records]
        return cell
