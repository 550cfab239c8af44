"""Documents for search and evaluation: presets, hub datasets, local files, and the embedded `python-packages`.

One document is one long text (a book, a source file). Nothing here knows of models; tokens are made in
`tokenized.py`. Presets name corpora of long-context papers where they can be read without running code of theirs.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .document import Document
from .packages import PACKAGES, read_packages


@dataclass(frozen=True)
class Preset:
    """A corpus on the hub that is known by a short name."""

    hub: str
    """Id on the hub."""
    splits: dict[str, str | None]
    """Splits, the default one first; the file of each where the hub's own loader is a script, which is refused."""
    column: str
    """Column of the texts."""
    licence: str


PRESETS = {
    "pg19": Preset(
        "emozilla/pg19",
        {"test": None, "validation": None, "train": None},
        "text",
        "books of Project Gutenberg published before 1919, in the public domain in the US; collection: Apache-2.0",
    ),
    "proof-pile": Preset(
        "hoskinson-center/proof-pile",
        {"test": "test/proofpile_test.jsonl.gz", "validation": "dev/proofpile_dev.jsonl.gz"},
        "text",
        "collection: Apache-2.0; its arXiv papers keep their authors' licences",
    ),
    "govreport": Preset(
        "ccdv/govreport-summarization",
        {"test": None, "validation": None, "train": None},
        "report",
        "reports of US government agencies (GAO, CRS), in the public domain in the US; collection: none stated",
    ),
}
"""Evaluated by YaRN (Proof-pile, GovReport) and LongRoPE (Proof-pile, PG19), with default splits as there."""


def read_documents(
    dataset: str, split: str | None = None, feature: str = "text", subset: str | None = None
) -> Iterator[Document]:
    """Yield the documents of a dataset, in a fixed order.

    Args:
        dataset: `python-packages`; a name of `PRESETS`, e.g. `pg19`; a folder of `.txt`, `.py`, `.tex`, `.md`,
            `.jsonl` or `.parquet` files; one such file; or the id of a dataset on the Hugging Face hub, e.g.
            `emozilla/pg19`, read by streaming.
        split: for `python-packages` one of train, search, eval (None: all of it); for the hub the split's name
            (default `validation`, of a preset `test`); local files have no splits.
        feature: column that holds the text in `.jsonl`, `.parquet` and hub datasets; a preset has its own.
        subset: configuration name of a hub dataset.

    Raises:
        ValueError: the dataset does not exist, is empty of readable files, or the split is unknown.
    """
    if dataset == PACKAGES:
        return read_packages(split)
    if dataset in PRESETS:
        if subset is not None or feature not in ("text", PRESETS[dataset].column):
            raise ValueError(f"subset and feature must be omitted for {dataset}, got {subset!r} and {feature!r}")
        return _read_preset(dataset, split)
    path = Path(dataset)
    if path.exists():
        if split is not None:
            raise ValueError(f"split must be omitted for local files, got {split!r} for {dataset}; split the folder")
        return _read_local(path, feature)
    if dataset.count("/") > 1 or dataset.startswith((".", "/", "~")):
        raise ValueError(f"dataset must be a path that exists or a hub id, got {dataset!r}; no such path")
    return _read_hub(dataset, subset, split or "validation", feature)


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


def _read_preset(name: str, split: str | None) -> Iterator[Document]:
    preset = PRESETS[name]
    chosen = split or next(iter(preset.splits))
    if chosen not in preset.splits:
        raise ValueError(f"split of {name} must be one of {', '.join(preset.splits)}, got {chosen!r}")
    if (file := preset.splits[chosen]) is None:
        return _read_hub(preset.hub, None, chosen, preset.column)
    return _read_hub("json", None, "train", preset.column, f"hf://datasets/{preset.hub}/{file}")


def _read_hub(
    dataset: str, subset: str | None, split: str, feature: str, data_files: str | None = None
) -> Iterator[Document]:
    import datasets

    stem = dataset if data_files is None else data_files
    try:
        rows = datasets.load_dataset(dataset, subset, split=split, streaming=True, data_files=data_files)
    except (OSError, ValueError, ConnectionError) as error:
        raise ValueError(f"dataset must be a readable path or hub dataset, got {stem!r}: {error}") from error
    yield from _rows_to_documents(iter(rows), feature, stem)  # type: ignore[arg-type]


def _rows_to_documents(rows: Iterator[dict[str, object]], feature: str, stem: str) -> Iterator[Document]:
    for index, row in enumerate(rows):
        if feature not in row:
            raise ValueError(f"feature must name a column of {stem}, got {feature!r}; columns: {', '.join(row)}")
        if not isinstance(text := row[feature], str):
            raise ValueError(
                f"feature must hold text in every row, got {text!r} in row {index} of {stem}; drop that row"
            )
        yield Document(f"{stem}-{index}", text)
