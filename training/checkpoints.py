"""Checkpoints that count only when they are whole."""

import re
import shutil
from pathlib import Path

COMPLETE = "complete"
"""Empty file that a checkpoint gets when everything else is in it."""


def mark_complete(folder: Path, step: int) -> None:
    """Say that the checkpoint of a step is whole."""
    (folder / f"checkpoint-{step}" / COMPLETE).touch()


def last_complete(folder: Path) -> str | None:
    """Return the last whole checkpoint of a folder, and remove those that a killed run left unfinished."""
    steps: dict[int, Path] = {}
    for path in folder.glob("checkpoint-*"):
        if re.fullmatch(r"checkpoint-\d+", path.name) and (path / COMPLETE).is_file():
            steps[int(path.name.partition("-")[2])] = path
        else:
            shutil.rmtree(path, ignore_errors=True)  # other processes do the same
    return str(steps[max(steps)]) if steps else None


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a stage that has ended."""
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path, ignore_errors=True)  # other processes do the same
