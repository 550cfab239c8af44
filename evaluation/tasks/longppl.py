"""LongPPL (arXiv 2410.23771): perplexity of key tokens, those that an evaluator predicts from long context alone.

Key tokens are found once, by one evaluator for all methods, and kept on disk. Departures from the published code:
documents are evaluated with the special tokens they were tokenized with, as for perplexity, and the default evaluator
is not the paper's, which has 72 B parameters, but the unmodified model inside its own window. An evaluator that has an
extension itself favours the methods that are like it: its key tokens are those that it predicts well.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...rope import write_atomically
from ..data.tokenized import TokenDocument, TokenizedDocuments, check_vocabulary
from ..data.windows import window_tensor
from ..scoring.batching import Batcher
from ..scoring.estimates import mean_score, token_weighted_perplexity
from ..scoring.key_tokens import KeyTokenRule, Span, TokenLosses, find_key_tokens, key_spans, places_in_spans
from ..scoring.loss import DocumentScore, document_score, token_nats
from ..scoring.model import input_device
from .base import Advance, Cell, Failure, Measurement, check_failures

FORMAT = "longrope-key-tokens"
VERSION = 1


@dataclass(frozen=True)
class Evaluator:
    """Who finds key tokens."""

    losses: TokenLosses
    tokenizer: PreTrainedTokenizerBase | None = None
    """Its tokenizer; None: that of the documents."""


OpenEvaluator = Callable[[], AbstractContextManager[Evaluator]]
"""Makes the evaluator ready; only called if its key tokens are not on disk."""


@dataclass(frozen=True)
class KeyTokens:
    """The key tokens of documents up to some length."""

    length: int
    """Tokens of each document that were looked at."""
    identity: dict[str, Any]
    """Everything that decides them, JSON-able: evaluator, rule, documents."""
    places: Mapping[str, tuple[int, ...]]
    """Rising places of the key tokens, by the digest of the document."""

    def of(self, document: TokenDocument, length: int) -> list[int]:
        """Return the places in the first `length` tokens of a document."""
        return [place for place in self.places[document.digest] if place < length]


def load_key_tokens(
    data: TokenizedDocuments,
    length: int,
    rule: KeyTokenRule,
    evaluator: OpenEvaluator,
    identity: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
) -> KeyTokens:
    """Read the key tokens of documents from a folder; find them and write them there if they are new.

    Args:
        data: documents of at least `length` tokens.
        length: tokens of each document to look at.
        rule: what a key token is.
        evaluator: opens who finds them.
        identity: JSON-able facts that tell this evaluator from others: model and fingerprint, and `name`, who it is in
            words.
        tokenizer: that of the documents.
        folder: where `key_tokens-*.json` files are kept.

    Raises:
        ValueError: a document is too short, its text doesn't give its tokens again, or the file is damaged.
        RuntimeError: a loss of the evaluator is not finite.
    """
    window_tensor(data.documents, length)
    identity = {
        "evaluator": identity, "rule": asdict(rule), "length": length, "data_fingerprint": data.fingerprint(length)
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    path = Path(folder) / f"key_tokens-{key[:16]}.json"
    if path.exists():
        return _read(path, length, identity)
    with evaluator() as ready:
        found = {d.digest: _find(ready, d, length, rule, tokenizer) for d in data.documents}
    payload = {"format": FORMAT, "version": VERSION, "identity": identity, "places": found}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(payload) + "\n")
    return KeyTokens(length, identity, {digest: tuple(places) for digest, places in found.items()})


def _find(
    evaluator: Evaluator,
    document: TokenDocument,
    length: int,
    rule: KeyTokenRule,
    tokenizer: PreTrainedTokenizerBase,
) -> list[int]:
    """Return the places of the key tokens, in tokens of the document."""
    if evaluator.tokenizer is None:
        return find_key_tokens(evaluator.losses, torch.from_numpy(document.ids[:length].copy()), rule).tolist()
    text, offsets = _text_and_offsets(document, tokenizer)
    text = text[: offsets[length - 1][1]]
    encoded = evaluator.tokenizer(text, return_offsets_mapping=True, verbose=False)
    places = find_key_tokens(evaluator.losses, torch.tensor(encoded["input_ids"]), rule)
    return places_in_spans(offsets[:length], key_spans(encoded["offset_mapping"], places.tolist()))


def _text_and_offsets(document: TokenDocument, tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[Span]]:
    """Return the text of a document and the characters of each token."""
    text = str(tokenizer.decode(document.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
    if encoded["input_ids"] != document.ids.tolist():
        raise ValueError(
            f"documents must be what their tokenizer makes of their text, got other tokens for {document.name}; use an "
            "evaluator with the tokenizer of the documents"
        )
    return text, encoded["offset_mapping"]


def _read(path: Path, length: int, identity: dict[str, Any]) -> KeyTokens:
    try:
        payload = json.loads(path.read_text(encoding="utf-8"))
        if (payload["format"], payload["version"], payload["identity"]) != (FORMAT, VERSION, identity):
            raise ValueError("another format or identity")
        return KeyTokens(length, identity, {digest: tuple(own) for digest, own in payload["places"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"key tokens must be a file as longrope wrote it, got {path}: {error}; delete it, it is made again"
        ) from error


@dataclass(frozen=True)
class LongPPL:
    """Perplexity of the key tokens in the first tokens of each document.

    Documents without key tokens are left out of it, but not of the share of key tokens.
    """

    name: ClassVar[str] = "longppl"
    one_forward: ClassVar[bool] = True

    data: TokenizedDocuments
    key_tokens: KeyTokens
    batch_size: int = 1
    """Documents per forward."""
    seed: int = 0
    """Seed of the bootstrap."""

    def protocol(self) -> dict[str, Any]:
        return {
            "window": "whole: one forward per document, key tokens scored",
            "truncation": "first T tokens of each document",
            "bos_policy": self.data.info.bos_policy,
            "documents": [document.name for document in self.data.documents],
            "key_tokens": self.key_tokens.identity,
            "note": f"Key tokens were chosen by {self.key_tokens.identity['evaluator']['name']}.",
            "average": "key-token-weighted over the documents that have key tokens",
            "interval": "95 % percentile bootstrap over documents",
            "seed": self.seed,
        }

    def check(self, model: PreTrainedModel, lengths: Sequence[int]) -> None:
        if max(lengths) > self.key_tokens.length:
            raise ValueError(
                f"lengths must be at most the {self.key_tokens.length} tokens whose key tokens are known, got "
                f"{max(lengths)}; find them up to the longest length"
            )
        if not any(self.key_tokens.of(document, min(lengths)) for document in self.data.documents):
            raise ValueError(
                f"lengths must hold key tokens, got none in the first {min(lengths)} tokens of "
                f"{len(self.data.documents)} documents; the first {self.key_tokens.identity['rule']['trunc_len']} "
                "tokens of a document are never key"
            )
        window_tensor(self.data.documents, max(lengths))
        check_vocabulary(self.data.documents, model)

    def tokens(self, lengths: Sequence[int]) -> int:
        return len(self.data.documents) * max(lengths)

    def run(self, model: PreTrainedModel, lengths: Sequence[int], advance: Advance) -> Cell:
        documents = self.data.documents
        scores = self._scores(model, lengths, advance)
        cell = Cell()
        for length in lengths:
            at_length = [(document.name, row[length]) for document, row in zip(documents, scores, strict=True)]
            with_key_tokens = [(name, score) for name, score in at_length if score.tokens]
            failures = [
                Failure(length, name, score.error) for name, score in with_key_tokens if score.error is not None
            ]
            check_failures(failures, len(with_key_tokens))
            cell.failures += failures
            scored = [(score.nats, score.tokens) for _, score in with_key_tokens if score.nats is not None]
            nats, tokens = zip(*scored, strict=True)
            shares = [score.tokens / (length - 1) for _, score in at_length]
            cell.measurements += [
                Measurement("longppl", length, token_weighted_perplexity(nats, tokens, self.seed)),
                Measurement("key_token_share", length, mean_score(shares, self.seed)),
            ]
            cell.records += [
                {"length": length, "document": name, "nats": score.nats, "tokens": score.tokens, "error": score.error}
                for name, score in at_length
            ]
        return cell

    def _scores(
        self, model: PreTrainedModel, lengths: Sequence[int], advance: Advance
    ) -> list[dict[int, DocumentScore]]:
        """Return for each document the score of its key tokens at each length, from one forward at the longest."""
        windows = window_tensor(self.data.documents, max(lengths))

        def forward(batch: Sequence[int]) -> list[dict[int, DocumentScore]]:
            nats = token_nats(model, windows[list(batch)].to(input_device(model)))
            advance(len(batch) * max(lengths))
            return [self._prefixes(number, row, lengths) for number, row in zip(batch, nats, strict=True)]

        return Batcher(self.batch_size).map(forward, range(len(windows)))

    def _prefixes(self, number: int, nats: torch.Tensor, lengths: Sequence[int]) -> dict[int, DocumentScore]:
        document = self.data.documents[number]
        places = {length: torch.tensor(self.key_tokens.of(document, length), dtype=torch.long) for length in lengths}
        return {length: document_score(nats[own.to(nats.device) - 1]) for length, own in places.items()}
