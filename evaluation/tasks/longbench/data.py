"""Rows of LongBench v1 and v2, from local files in the official format or from the hub; nothing is ever made up.

The official v1 repository keeps its files in `data.zip` behind a loading script, which `datasets` no longer runs, so
the archive is read directly; copies of it have one configuration per dataset. v2 is one JSON array.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

HUB = "THUDM/LongBench"
HUB_V2 = "THUDM/LongBench-v2"
ZIPPED = (HUB, "zai-org/LongBench")
"""Hub ids of the official v1 repository."""
LETTERS = "ABCD"


@dataclass(frozen=True)
class Row:
    """One row of LongBench v1."""

    id: str
    context: str
    input: str
    """The question, or empty."""
    answers: tuple[str, ...]
    words: int
    """Length of the document as the dataset states it: words, or characters of Chinese."""
    language: str
    classes: tuple[str, ...]
    """All class names of a classification, else empty."""


@dataclass(frozen=True)
class Question:
    """One multiple-choice question of LongBench v2."""

    id: str
    domain: str
    sub_domain: str
    difficulty: str
    """`easy` or `hard`."""
    document_length: str
    """`short`, `medium` or `long`."""
    context: str
    question: str
    choices: tuple[str, ...]
    """The four options, A to D."""
    answer: str
    """The letter of the right one."""


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


AnyRow = TypeVar("AnyRow", bound=_Identified)


def load_rows(name: str, source: Path | str, classification: bool) -> tuple[Row, ...]:
    """Read one dataset of LongBench v1.

    Args:
        name: dataset, e.g. `qasper`, or `qasper_e` of LongBench-E.
        source: a JSONL file, a folder that holds `<name>.jsonl`, or a hub id.
        classification: whether the rows must list their class names, all the same ones.

    Raises:
        ValueError: no such data, a row that isn't in the official format, or a blank context or answer.
    """
    path = _local(source, f"{name}.jsonl")
    raw = _read_hub(str(source), name) if path is None else _read_json(path)
    rows = _parse(raw, lambda fields: _row(fields, name), source)
    if classification and (not rows[0].classes or any(row.classes != rows[0].classes for row in rows)):
        raise ValueError(
            f"all_classes must be the same class names in every row of {source}; restore the official data"
        )
    return rows


def load_questions(source: Path | str) -> tuple[Question, ...]:
    """Read LongBench v2 from a JSON array or JSONL file, a folder that holds `data.json`, or a hub id.

    Raises:
        ValueError: no such data, a row that isn't in the official format, or a blank text.
    """
    path = _local(source, "data.json")
    return _parse(_read_hub(str(source), None) if path is None else _read_json(path), _question, source)


def fingerprint(rows: Sequence[Row] | Sequence[Question]) -> str:
    """Return the sha256 over all fields of the rows."""
    return hashlib.sha256(json.dumps([asdict(row) for row in rows], ensure_ascii=False).encode()).hexdigest()


def _local(source: Path | str, file: str) -> Path | None:
    """Return the local file of a source; None: it is a hub id."""
    path = Path(source)
    if path.is_dir():
        path = path / file
    if path.is_file():
        return path
    if (
        isinstance(source, Path)
        or Path(source).is_dir()
        or source.count("/") != 1
        or source.startswith((".", "~", "/"))
    ):
        raise ValueError(f"source must be a file or folder that exists or a hub id, got {source!s}: no file {path}")
    return None


def _read_json(file: Path) -> list[Any]:
    """Read a JSON array, or one JSON value per line."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"source must be UTF-8 text, got {file}: {error}; convert it") from error
    if text.lstrip().startswith("["):
        return _decode(text, f"{file}")
    lines = enumerate(text.split("\n"), start=1)
    return [_decode(line, f"line {number} of {file}") for number, line in lines if line.strip()]


def _decode(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"source must hold JSON in the official format, got {place}: {error}; restore it") from error


def _read_hub(repository: str, name: str | None) -> Iterable[Any]:
    import datasets

    try:
        if name is None:
            return list(datasets.load_dataset(repository, split="train", streaming=True))
        if repository not in ZIPPED:
            return list(datasets.load_dataset(repository, name, split="test", streaming=True))
        archive = f"zip://data/{name}.jsonl::hf://datasets/{repository}/data.zip"
        return list(datasets.load_dataset("json", data_files=archive, split="train", streaming=True))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"source must be a file or folder that exists or a readable hub id, got {repository!r}: {reason}; "
            "download the data and give its folder"
        ) from error


def _parse(raw: Iterable[Any], parse: Callable[[Mapping[str, Any]], AnyRow], source: Path | str) -> tuple[AnyRow, ...]:
    rows: list[AnyRow] = []
    for number, fields in enumerate(raw):
        try:
            rows.append(parse(fields))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"source must hold rows in the official format, got row {number} of {source}: {reason}; restore it"
            ) from error
    if not rows:
        raise ValueError(f"source must hold at least one row, got none in {source}; download the official data")
    return tuple(rows)


def _row(fields: Mapping[str, Any], name: str) -> Row:
    if fields["dataset"] not in (name, name.removesuffix("_e")):
        raise ValueError(f"dataset is {fields['dataset']!r}, not {name}")
    answers = tuple(_text(answer, "answers", blank=True) for answer in fields["answers"])
    if not any(map(str.strip, answers)):
        raise ValueError("answers are blank")
    return Row(
        id=str(fields["_id"]),
        context=_text(fields["context"], "context"),
        input=_text(fields["input"], "input", blank=True),
        answers=answers,
        words=int(fields["length"]),
        language=_text(fields["language"], "language"),
        classes=tuple(_text(label, "all_classes") for label in fields["all_classes"] or ()),
    )


def _question(fields: Mapping[str, Any]) -> Question:
    answer = _text(fields["answer"], "answer")
    if answer not in LETTERS:
        raise ValueError(f"answer is {answer!r}, not one of A, B, C, D")
    return Question(
        id=str(fields["_id"]),
        domain=_text(fields["domain"], "domain"),
        sub_domain=_text(fields["sub_domain"], "sub_domain"),
        difficulty=_text(fields["difficulty"], "difficulty"),
        document_length=_text(fields["length"], "length"),
        context=_text(fields["context"], "context").strip(),
        question=_text(fields["question"], "question").strip(),
        choices=tuple(_text(fields[f"choice_{letter}"], f"choice_{letter}").strip() for letter in LETTERS),
        answer=answer,
    )


def _text(value: Any, field: str, blank: bool = False) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field} is {value!r}, not text")
    if not blank and not value.strip():
        raise ValueError(f"{field} is blank")
    return value
