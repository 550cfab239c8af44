"""Locks of files: one process at a time, and a sentence where there are none."""

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from longrope.rope.files import lock_file


def test_a_lock_is_refused_while_another_has_it_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "folder" / ".lock"
    with lock_file(path), pytest.raises(ValueError, match="somebody has it"):
        lock_file(path, "somebody has it")
    lock_file(path, "somebody has it").close()


def test_without_a_message_it_is_waited_for(tmp_path: Path) -> None:
    path, order = tmp_path / ".lock", list[str]()

    def wait() -> None:
        with lock_file(path):
            order.append("second")

    held = lock_file(path)
    thread = threading.Thread(target=wait)
    thread.start()
    order.append("first")
    held.close()
    thread.join(timeout=60)
    assert order == ["first", "second"]


def test_a_file_system_without_locks_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("longrope.rope.files.fcntl.flock", refuse)
    with pytest.raises(OSError, match="must lie on a file system with locks, got 'No locks available'"):
        lock_file(tmp_path / ".lock", "taken")


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="must be writable"):
        lock_file(tmp_path / "file" / ".lock")
