"""The commit that a file was read from."""

import subprocess
from pathlib import Path


def checkout_commit(file: Path) -> str | None:
    """Return the commit of the checkout that a file belongs to (with `-dirty` if changed), None if it is in none."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    tracked = ["git", "ls-files", "--error-unmatch", file.name]
    folder = file.resolve().parent
    try:
        subprocess.run(tracked, cwd=folder, capture_output=True, check=True)
        return subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
