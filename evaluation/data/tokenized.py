"""Tokenized documents on disk: a `datasets` folder with columns `name` and `input_ids`, and a `tokens.json`.

Documents are tokenized with the tokenizer's own default special tokens (usually a BOS token in front); what those are
is recorded, because perplexities under different policies don't compare.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as arrow
from datasets.exceptions import DatasetGenerationError
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...rope import staging_folder, write_atomically
from ...rope.parsing import check_types, read_json
from .corpus import Document

TOKENS_JSON = "tokens.json"


@dataclass(frozen=True)
class TokenDocument:
    """One tokenized document."""

    name: str
    ids: NDArray[np.int64]
    """Token ids with the tokenizer's default special tokens, shape (T,)."""

    @property
    def digest(self) -> str:
        """Sha256 of the token ids, shortened: the same text under any name, in any folder."""
        return hashlib.sha256(self.ids.tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class TokensInfo:
    """What a tokenized folder holds and how it was made: its `tokens.json`."""

    source: dict[str, Any]
    """Where the texts come from: dataset, split, ..."""
    tokenizer: str
    """`tokenizer_fingerprint` of the tokenizer."""
    vocab_size: int
    bos_policy: str
    """Special tokens around each document, in words."""
    documents: int
    tokens: int
    fingerprint: str
    """`fingerprint` of all documents."""


@dataclass(frozen=True)
class TokenizedDocuments:
    """A selection of documents, and what is known of their folder."""

    documents: list[TokenDocument]
    info: TokensInfo

    def fingerprint(self, window: int | None = None) -> str:
        """Return the sha256 of the first `window` tokens of each document (None: of all of them)."""
        return fingerprint(TokenDocument(d.name, d.ids[:window]) for d in self.documents)


def fingerprint(documents: Iterable[TokenDocument]) -> str:
    """Return the sha256 over names, lengths and token ids."""
    digest = hashlib.sha256()
    for document in documents:
        _digest_document(digest, document)
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the sha256 of the vocabulary."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()


def leading_special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the special tokens that the tokenizer puts in front of a text by default, e.g. `[bos]`."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a")
    return whole[: next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)]


def save_tokenized(
    path: str | Path,
    documents: Iterable[Document | TokenDocument],
    tokenizer: PreTrainedTokenizerBase,
    source: dict[str, Any],
    num_documents: int | None = None,
    min_tokens: int = 0,
) -> TokensInfo:
    """Tokenize documents one by one and store them; the folder appears whole or not at all.

    Args:
        path: folder to make. If it already holds exactly these tokens it is left as it is.
        documents: texts, e.g. from `read_documents`, or token ids, which are stored as they are.
        tokenizer: tokenizer of the model that will read them.
        source: JSON-able description of where the texts come from, stored as it is.
        num_documents: number of stored documents to stop after (None: all).
        min_tokens: documents of fewer tokens are not stored.

    Raises:
        ValueError: there are no documents that long, or `path` holds something else.
    """
    path = Path(path)
    if path.exists() and not (path / TOKENS_JSON).is_file():
        raise ValueError(f"output must be a new folder, got {path}, which exists and holds no {TOKENS_JSON}")
    with staging_folder(path) as staging:
        info = _write(staging / "tokens", documents, tokenizer, source, num_documents, min_tokens)
        if not path.exists():
            (staging / "tokens").rename(path)
        elif read_info(path) != info:
            raise ValueError(f"output must be a new folder, got {path}, which holds other tokens; choose another name")
        return info


def read_info(path: Path) -> TokensInfo:
    """Read the `tokens.json` of a tokenized folder.

    Raises:
        ValueError: the folder or the file is missing or unreadable.
    """
    if not (path / TOKENS_JSON).is_file():
        raise ValueError(f"tokenized data must be a folder with {TOKENS_JSON}, got {path}; make it: longrope tokenize")
    try:
        content = read_json(path / TOKENS_JSON)
        check_types(TokensInfo, content)
        return TokensInfo(**content)
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path / TOKENS_JSON} must be as longrope tokenize wrote it, got: {error}") from error


def open_table(path: Path) -> datasets.Dataset:
    """Return the documents of a tokenized folder, not yet in memory.

    Raises:
        ValueError: the folder holds something else.
    """
    try:
        table = datasets.Dataset.load_from_disk(str(path))
        if table.column_names != ["name", "input_ids"] or not str(table.data.column("input_ids").type).startswith(
            "list"
        ):
            raise ValueError(f"columns must be name and lists of input_ids, got {table.features}")
    except Exception as error:  # what a damaged folder raises depends on the file that is damaged
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} must be as longrope tokenize wrote it, got: {reason}; tokenize again") from error
    return table


def load_tokenized(
    path: str | Path,
    min_tokens: int,
    samples: int,
    seed: int | None = None,
    exclude: Collection[str] = (),
    at_least: int | None = None,
) -> TokenizedDocuments:
    """Read `samples` documents of at least `min_tokens` tokens, in the order in which they are stored.

    Args:
        path: folder written by `save_tokenized`.
        min_tokens: shortest document to take, in tokens.
        samples: number of documents to take.
        seed: None takes the first ones, a number a random selection.
        exclude: digests of documents to leave out, such as those that factors were searched on.
        at_least: number of documents to be content with where there are no more (None: `samples`).

    Raises:
        ValueError: no such folder, or too few long documents.
    """
    path = Path(path)
    info = read_info(path)
    table = open_table(path)
    lengths = _lengths(table)
    order = np.flatnonzero(lengths >= min_tokens)
    if samples < 1:
        raise ValueError(f"samples must be at least 1 document, got {samples}")
    if seed is not None:
        order = np.random.default_rng(seed).permutation(order)
    rows = table.with_format("numpy")
    kept: dict[int, TokenDocument] = {}
    for index in order.tolist():
        document = TokenDocument(str(rows[index]["name"]), rows[index]["input_ids"].astype(np.int64))
        if document.digest not in exclude:
            kept[index] = document
        if len(kept) == samples:
            break
    needed = samples if at_least is None else at_least
    if len(kept) >= needed:
        return TokenizedDocuments([kept[index] for index in sorted(kept)], info)
    left_out = f" and not among the {len(exclude)} left out" if exclude else ""
    fewer = "fewer samples, " if len(kept) else ""
    raise ValueError(
        f"samples must be at most the {len(kept)} documents of {min_tokens} or more tokens{left_out} in {path} (its "
        f"longest has {lengths.max()}), got {needed}; take {fewer}shorter lengths, or more data"
    )


def count_documents(path: str | Path, min_tokens: int) -> int:
    """Return how many documents of at least `min_tokens` tokens a folder of `save_tokenized` has.

    Raises:
        ValueError: no such folder.
    """
    read_info(Path(path))
    return int((_lengths(open_table(Path(path))) >= min_tokens).sum())


def _lengths(table: datasets.Dataset) -> NDArray[np.int64]:
    return arrow.list_value_length(table.data.column("input_ids")).to_numpy()  # type: ignore[attr-defined]


def check_tokenizer(data: TokenizedDocuments, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError if documents were made with another tokenizer than the model's."""
    if (found := tokenizer_fingerprint(tokenizer)) != data.info.tokenizer:
        raise ValueError(
            f"tokenized data must be made with the model's tokenizer ({found[:16]}), got {data.info.tokenizer[:16]}; "
            "run longrope tokenize with this model"
        )


def check_vocabulary(documents: Iterable[TokenDocument], model: PreTrainedModel) -> None:
    """Raise ValueError if a document holds token ids that the model doesn't know."""
    embeddings: Any = model.get_input_embeddings()
    vocab_size = embeddings.weight.shape[0]
    for document in documents:
        if (largest := int(document.ids.max(initial=0))) >= vocab_size:
            raise ValueError(
                f"token ids must be below the model's vocabulary size {vocab_size}, got {largest} in {document.name}; "
                "the data was made with another tokenizer: run longrope tokenize with this model"
            )


def _write(
    folder: Path,
    documents: Iterable[Document | TokenDocument],
    tokenizer: PreTrainedTokenizerBase,
    source: dict[str, Any],
    num_documents: int | None,
    min_tokens: int,
) -> TokensInfo:
    digest, counts = hashlib.sha256(), {"documents": 0, "tokens": 0}

    def rows() -> Iterator[dict[str, Any]]:
        with tqdm(desc="tokenizing", unit="doc", total=num_documents, disable=None) as bar:
            for seen, document in enumerate(documents, start=1):
                ids = document.ids if isinstance(document, TokenDocument) else _encode(tokenizer, document.text)
                if min_tokens:
                    bar.set_postfix_str(f"of {seen} read", refresh=False)
                if len(ids) < min_tokens:
                    continue
                _digest_document(digest, TokenDocument(document.name, ids))
                counts["documents"] += 1
                counts["tokens"] += len(ids)
                bar.update()
                yield {"name": document.name, "input_ids": ids.astype(np.int32)}
                if counts["documents"] == num_documents:
                    return
        if not counts["documents"]:
            long = f" of {min_tokens} or more tokens" if min_tokens else ""
            raise ValueError(f"dataset must hold at least one document{long}, got none from {source}")

    columns = datasets.Features({"name": datasets.Value("string"), "input_ids": datasets.List(datasets.Value("int32"))})
    with _quiet_datasets():
        table = datasets.Dataset.from_generator(
            rows, features=columns, cache_dir=str(folder.parent / "cache"), fingerprint="longrope"
        )
        table.save_to_disk(str(folder))  # type: ignore[union-attr]
    info = TokensInfo(
        source=source,
        tokenizer=tokenizer_fingerprint(tokenizer),
        vocab_size=len(tokenizer),
        bos_policy=_bos_policy(tokenizer),
        documents=counts["documents"],
        tokens=counts["tokens"],
        fingerprint=digest.hexdigest(),
    )
    write_atomically(folder / TOKENS_JSON, json.dumps(asdict(info), indent=1) + "\n")
    return info


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> NDArray[np.int64]:
    return np.array(tokenizer.encode(text, verbose=False), dtype=np.int64)


def _digest_document(digest: Any, document: TokenDocument) -> None:
    digest.update(json.dumps([document.name, len(document.ids)]).encode())
    digest.update(document.ids.astype("<i8").tobytes())


def _bos_policy(tokenizer: PreTrainedTokenizerBase) -> str:
    leading = tokenizer.convert_ids_to_tokens(leading_special_tokens(tokenizer))
    return f"tokenizer's default special tokens, {' '.join(leading) or 'none'} in front"


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Silence the bars of `datasets`, since ours tells how far it is, and let errors of the reader through."""
    enabled = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    except DatasetGenerationError as error:
        raise (error.__cause__ or error) from None
    finally:
        if enabled:
            datasets.enable_progress_bars()
