"""Several processes in one folder: each cell is run by one of them.

A process that runs a cell holds a lock on one byte of `.cells.lock`, at a place that follows from the cell's key. The
kernel gives it back when the process ends, however it ends, so a cell of a dead process is free again. Processes on
several machines share a folder if its file system has POSIX locks over the network (NFS 4, Lustre mounted with `flock`,
most others); one without any refuses the lock, which is an error.
"""

import fcntl
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ...rope.files import cannot_save
from .cells import CellEntry, read_journal

LOCK = ".cells.lock"


class SharedCells:
    """The cells that a process has to run, of which others may run some; use it in a `with` statement.

    Args:
        folder: where the journal is.
        keys: of the cells that have to be run, in their order.
        position: bytes of the journal that are known; what stands there is tried again.

    Raises:
        OSError: the folder can't be written, or its file system has no locks.
    """

    def __init__(self, folder: Path, keys: Iterable[str], position: int) -> None:
        self._folder, self._waiting, self._position = folder, dict.fromkeys(keys), position
        self._theirs: deque[CellEntry] = deque()
        self._file = _open(folder) if self._waiting else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def claim(self, wait: bool) -> tuple[str, CellEntry | None] | None:
        """Return the next cell: to be run here alone until it is released, or with what another process appended.

        Args:
            wait: for the cells of others where nothing else is left, of which one may fail to append.

        Returns:
            None where nothing is left, or without `wait` nothing that no other process is running.
        """
        while self._file is not None and (self._waiting or self._theirs):
            if self._theirs:
                entry = self._theirs.popleft()
                return entry.key, entry
            mine = next((key for key in self._waiting if _lock(self._file, key, fcntl.LOCK_EX | fcntl.LOCK_NB)), None)
            if mine is None:
                if not wait:
                    return None
                mine = next(iter(self._waiting))
                _lock(self._file, mine, fcntl.LOCK_EX)
            self._read()
            if mine in self._waiting:
                del self._waiting[mine]
                return mine, None
            _lock(self._file, mine, fcntl.LOCK_UN)
        return None

    def release(self, key: str) -> None:
        """Let others see that a cell was appended."""
        assert self._file is not None
        _lock(self._file, key, fcntl.LOCK_UN)

    def _read(self) -> None:
        """Take note of what other processes appended."""
        journal = read_journal(self._folder, self._position)
        self._position = journal.end
        for entry in journal.entries:
            if entry.key in self._waiting:
                del self._waiting[entry.key]
                self._theirs.append(entry)


def _open(folder: Path) -> IO[bytes]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return open(folder / LOCK, "ab")
    except OSError as error:
        raise cannot_save(folder / LOCK, error) from error


def _lock(file: IO[bytes], key: str, how: int) -> bool:
    """Lock or unlock a cell; return False if another process has it."""
    try:
        fcntl.lockf(file, how, 1, int(key[:15], 16))
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    except OSError as error:
        raise OSError(
            error.errno,
            f"{file.name} must lie on a file system with POSIX locks, got {error.strerror!r}; choose an output folder "
            "on another disk",
        ) from error
    return True
