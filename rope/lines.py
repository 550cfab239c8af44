"""Append-only files of one JSON object per line, each line with a checksum, on the disk before the next one begins."""

import errno
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import cannot_save

CRC32 = "crc32"
"""Last key of a line: CRC-32 of the rest, as JSON."""


def checksum(content: Any) -> int:
    """Return the CRC-32 of JSON-able content, the same before it was written and after it was read."""
    return zlib.crc32(json.dumps(content).encode())


def to_line(content: Mapping[str, Any]) -> str:
    """Return an object as a line with its checksum.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps({**content, CRC32: checksum(content)}, allow_nan=False) + "\n"


def from_line(line: bytes) -> tuple[dict[str, Any], bool]:
    """Return the object of a line, and whether it has a checksum: lines of earlier versions have none.

    Raises:
        ValueError: the line is incomplete, is no JSON object, or is not what was written.
    """
    try:
        content = json.loads(line)
    except RecursionError as error:
        raise ValueError("a line must be JSON nested a few levels deep") from error
    if not line.endswith(b"\n") or not isinstance(content, dict):
        raise ValueError("a line must be a JSON object and end")
    if CRC32 not in content:
        return content, False
    stored = content.pop(CRC32)
    if stored != checksum(content):
        raise ValueError(f"a line must have the checksum {checksum(content)}, got {stored}")
    return content, True


def append(path: Path, end: int, text: str) -> int:
    """Add lines after the first `end` bytes of a file, whole or not at all; return the new end.

    Raises:
        OSError: the disk is full or the file can't be written; it is as it was.
    """
    data = text.encode()
    try:
        with open(path, "ab", buffering=0) as file:
            file.truncate(end)  # of what a killed run left unfinished
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(end)
                raise
    except OSError as error:
        raise cannot_save(path, error) from error
    return end + len(data)
