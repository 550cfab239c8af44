"""Files and folders that appear whole or not at all."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def write_atomically(path: Path, text: str) -> None:
    """Write a file beside its place, flush it to disk, then rename it over the old one.

    Raises:
        OSError: the disk is full or the folder can't be written; the old file is as it was.
    """
    try:
        _write_atomically(path, text)
    except OSError as error:
        raise cannot_save(path, error) from error


class CannotSave(OSError):
    """A file can't be written; `strerror` says which, why, and what helps."""


def cannot_save(path: Path, error: OSError) -> CannotSave:
    """Return an error that says which file can't be written, why, and what helps."""
    remedy = "free space or allow writing there, then run the command again (a search with --resume)"
    return CannotSave(error.errno, f"{path} must be writable, got {error.strerror or str(error)!r}; {remedy}")


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def lock_file(path: Path, taken: str | None = None) -> IO[str]:
    """Lock a file, which is made if it is missing, until it is closed or the process ends, however that happens.

    Args:
        path: of the file, which stays.
        taken: what to say if another process has it; None: wait until it has not.

    Raises:
        ValueError: another process has it; the message is `taken`.
        OSError: the file can't be written, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise cannot_save(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if taken is None else fcntl.LOCK_NB))
    except BlockingIOError as error:
        file.close()
        raise ValueError(taken) from error
    except OSError as error:
        file.close()
        message = (
            f"{path} must lie on a file system with locks, got {error.strerror!r}; choose a folder on another disk"
        )
        raise OSError(error.errno, message) from error
    return file


@contextmanager
def staging_folder(output: Path) -> Iterator[Path]:
    """Give an empty folder beside `output`, to be renamed when everything is in it; it is gone when the block ends.

    What a killed process left in its place is removed.

    Raises:
        ValueError: another process is writing the same output.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    staging = output.with_name(f".{output.name}.partial")
    staging.mkdir(exist_ok=True)
    lock = os.open(staging, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ValueError(
            f"output must be written by one process at a time, got {output}, which another one is writing; wait for it "
            "or choose another folder"
        ) from error
    try:
        for path in staging.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield staging
    finally:
        if staging.exists() and os.path.samestat(os.fstat(lock), staging.stat()):
            shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)
