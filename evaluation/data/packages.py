"""The embedded corpus `python-packages`: source files of the packages that `requirements.lock` pins.

Which files, of which version, in which split, is written in `packages.csv` with the sha256 of each file, so that the
documents are the same on every machine and under every Python; nothing of the packages is copied. The manifest is
made, and its splits are checked against each other, by `examples/tiny/manifest.py`.
"""

import csv
import hashlib
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.resources import files

from .document import Document

PACKAGES = "python-packages"
SPLITS = ("train", "search", "eval")
MANIFEST = "packages.csv"


@dataclass(frozen=True)
class SourceFile:
    """One row of the manifest."""

    split: str
    """train, search or eval."""
    package: str
    """Name of the distribution."""
    version: str
    """Its version in `requirements.lock`."""
    path: str
    """Path from `site-packages`."""
    sha256: str
    """Of the file's bytes."""


def read_manifest() -> list[SourceFile]:
    """Return all rows of the manifest, in the order in which documents are read."""
    text = (files(__package__ or "") / MANIFEST).read_text(encoding="utf-8")
    return [SourceFile(**row) for row in csv.DictReader(io.StringIO(text))]


def read_packages(split: str | None = None) -> Iterator[Document]:
    """Yield the documents of a split (None: of all), named by their path.

    Files that are not as the manifest says are left out, with one note per package on stderr.

    Raises:
        ValueError: the split is unknown, or nothing of it is installed as the manifest says.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"split of {PACKAGES} must be one of {', '.join(SPLITS)}, got {split!r}")
    return _read([row for row in read_manifest() if split in (None, row.split)])


def _read(rows: list[SourceFile]) -> Iterator[Document]:
    left_out: Counter[str] = Counter()
    installed = {name: _find(name) for name in dict.fromkeys(row.package for row in rows)}
    for row in rows:
        text, reason = _text(row, installed[row.package])
        if text is None:
            left_out[f"{row.package} must be {row.version}, {reason}"] += 1
        else:
            yield Document(row.path.removesuffix(".py"), text)
    for reason, count in left_out.items():
        print(f"note: {count} documents of {PACKAGES} are left out: {reason}", file=sys.stderr)
    if left_out.total() == len(rows):
        raise ValueError(
            f"{PACKAGES} must find the packages of requirements.lock, got none as the manifest says: "
            f"{next(iter(left_out))}; install them: pip install -r requirements.lock"
        )


def _find(package: str) -> Distribution | None:
    try:
        return distribution(package)
    except PackageNotFoundError:
        return None


def _text(row: SourceFile, installed: Distribution | None) -> tuple[str | None, str]:
    """Return the text of a file, or None and the reason."""
    if installed is None:
        return None, "which is not installed"
    if installed.version.partition("+")[0] != row.version:
        return None, f"got {installed.version}"
    try:
        with open(str(installed.locate_file(row.path)), "rb") as file:
            data = file.read()
    except OSError as error:
        return None, f"got a file that cannot be read ({error.strerror})"
    if hashlib.sha256(data).hexdigest() != row.sha256:
        return None, "got other contents in the same version"
    return decode_source(data), ""


def decode_source(data: bytes) -> str:
    """Return the text of a Python source file, by its own declaration of the encoding (PEP 263).

    Raises:
        SyntaxError: the declaration or the bytes are no text.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    try:
        return io.TextIOWrapper(io.BytesIO(data), encoding).read()
    except UnicodeDecodeError as error:
        raise SyntaxError(f"no {encoding} text: {error}") from error
