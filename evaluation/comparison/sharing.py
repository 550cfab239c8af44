"""Several processes in one folder: each cell is run by one of them.

A process that runs a cell holds a lock on one byte of `.cells.lock`, at a place that follows from the cell's key. The
kernel gives it back when the process ends, however it ends, so a cell of a dead process is free again. Processes on
several machines share a folder if its file system has POSIX locks over the network (NFS 4, Lustre mounted with `flock`,
most others); one without any refuses the lock, which is an error.
"""

import fcntl
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import IO

from ...rope.files import cannot_save
from .cells import CellEntry, read_journal

LOCK = ".cells.lock"


def share(folder: Path, keys: Iterable[str], position: int) -> Generator[tuple[str, CellEntry | None], None, None]:
    """Yield each key once: alone to be run and appended before the next, or with what another process appended for it.

    Args:
        folder: where the journal is.
        keys: of the cells that have to be run, in their order.
        position: bytes of the journal that are known; what stands there is tried again.

    Raises:
        OSError: the folder can't be written, or its file system has no locks.
    """
    waiting = dict.fromkeys(keys)
    if not waiting:
        return
    with _open(folder) as file:
        while waiting:
            mine = next((key for key in waiting if _lock(file, key, fcntl.LOCK_EX | fcntl.LOCK_NB)), None)
            if mine is None:  # all that is left is being run by others, of which one may fail to
                mine = next(iter(waiting))
                _lock(file, mine, fcntl.LOCK_EX)
            journal = read_journal(folder, position)
            position = journal.end
            for entry in journal.entries:
                if entry.key in waiting:
                    del waiting[entry.key]
                    yield entry.key, entry
            if mine in waiting:
                del waiting[mine]
                yield mine, None
            _lock(file, mine, fcntl.LOCK_UN)


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
