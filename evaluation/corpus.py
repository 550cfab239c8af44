"""Documents for search and evaluation: hub datasets, local files, and the embedded `pystdlib` corpus.

One document is one long text (a book, a source file). Nothing here knows of models; tokens are made in
`tokenized.py`.
"""

import hashlib
import json
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PYSTDLIB = "pystdlib"
PYSTDLIB_SPLITS = {"train": range(70), "search": range(70, 85), "eval": range(85, 100)}
"""Percentiles of the module-name hash that belong to each split of `pystdlib`."""


@dataclass(frozen=True)
class Document:
    """One text and the name it is reported under."""

    name: str
    text: str


def read_documents(
    dataset: str, split: str | None = None, feature: str = "text", subset: str | None = None
) -> Iterator[Document]:
    """Yield the documents of a dataset, in a fixed order.

    Args:
        dataset: `pystdlib`; a folder of `.txt`, `.py`, `.tex`, `.md`, `.jsonl` or `.parquet` files; one such file;
            or the id of a dataset on the Hugging Face hub (read by streaming, e.g. `emozilla/pg19`).
        split: for `pystdlib` one of train, search, eval (None: all of it); for the hub the split's name
            (default `validation`); local files have no splits.
        feature: column that holds the text in `.jsonl`, `.parquet` and hub datasets.
        subset: configuration name of a hub dataset.

    Raises:
        ValueError: the dataset does not exist, is empty of readable files, or the split is unknown.
    """
    if dataset == PYSTDLIB:
        if split is not None and split not in PYSTDLIB_SPLITS:
            raise ValueError(f"split of pystdlib must be one of {', '.join(PYSTDLIB_SPLITS)}, got {split!r}")
        return _read_pystdlib(split)
    path = Path(dataset)
    if path.exists():
        if split is not None:
            raise ValueError(f"split must be omitted for local files, got {split!r} for {dataset}; split the folder")
        return _read_local(path, feature)
    if dataset.count("/") > 1 or dataset.startswith((".", "/", "~")):
        raise ValueError(f"dataset must be a path that exists or a hub id, got {dataset!r}; no such path")
    return _read_hub(dataset, subset, split or "validation", feature)


def pystdlib_split_of(module: str) -> str:
    """Return the split (train, search, eval) of a standard-library module, from a hash of its dotted name."""
    percentile = int.from_bytes(hashlib.sha256(module.encode()).digest()[:8], "big") % 100
    return next(split for split, percentiles in PYSTDLIB_SPLITS.items() if percentile in percentiles)


def _read_pystdlib(split: str | None) -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if {"site-packages", "dist-packages", "__pycache__"} & set(relative.parts):
            continue
        module = ".".join(relative.with_suffix("").parts)
        if split in (None, pystdlib_split_of(module)):
            try:
                with tokenize.open(path) as file:
                    yield Document(module, file.read())
            except (SyntaxError, UnicodeDecodeError):  # test data with deliberately broken encodings
                continue


def _read_local(path: Path, feature: str) -> Iterator[Document]:
    suffixes = {".txt", ".py", ".tex", ".md", ".jsonl", ".parquet"}
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in suffixes)
    if not files:
        raise ValueError(f"dataset folder must hold {', '.join(sorted(suffixes))} files, found none in {path}")
    for file in files:
        name = file.stem if path.is_file() else file.relative_to(path).with_suffix("").as_posix()
        if file.suffix in (".jsonl", ".parquet"):
            read_rows = _read_jsonl if file.suffix == ".jsonl" else _read_parquet
            yield from _rows_to_documents(read_rows(file), feature, name)
        else:
            try:
                yield Document(name, file.read_text(encoding="utf-8"))
            except UnicodeDecodeError as error:
                raise ValueError(f"dataset files must be UTF-8 text, got {file}: {error}; convert it") from error


def _read_jsonl(file: Path) -> Iterator[dict[str, object]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{file} must hold one JSON object per line, line {number}: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{file} must hold one JSON object per line, got {type(row).__name__}, line {number}")
            yield row


def _read_parquet(file: Path) -> Iterator[dict[str, object]]:
    import pyarrow
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=64):
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"dataset files must be readable parquet, got {file}: {error}; restore it") from error


def _read_hub(dataset: str, subset: str | None, split: str, feature: str) -> Iterator[Document]:
    import datasets

    try:
        rows = datasets.load_dataset(dataset, subset, split=split, streaming=True)
    except (OSError, ValueError, ConnectionError) as error:
        raise ValueError(f"dataset must be a readable path or hub dataset, got {dataset!r}: {error}") from error
    yield from _rows_to_documents(iter(rows), feature, dataset)  # type: ignore[arg-type]


def _rows_to_documents(rows: Iterator[dict[str, object]], feature: str, stem: str) -> Iterator[Document]:
    for index, row in enumerate(rows):
        if feature not in row:
            raise ValueError(f"feature must name a column of {stem}, got {feature!r}; columns: {', '.join(row)}")
        if not isinstance(text := row[feature], str):
            raise ValueError(
                f"feature must hold text in every row, got {text!r} in row {index} of {stem}; drop that row"
            )
        yield Document(f"{stem}-{index}", text)
