"""The commit that a file was read from."""

import subprocess
from pathlib import Path


def checkout_commit(file: Path) -> str | None:
    """Return the commit of the checkout that a file belongs to (with `-dirty` if changed), None if it is in none.

    Nothing is written into the repository, so a process that dies here leaves no lock in it.
    """
    folder = file.resolve().parent

    def ask(*command: str) -> str:
        whole = ["git", "--no-optional-locks", *command]
        return subprocess.run(whole, cwd=folder, capture_output=True, check=True, text=True).stdout.strip()

    try:
        ask("ls-files", "--error-unmatch", file.name)
        changed = ask("status", "--porcelain", "--untracked-files=no")  # describe --dirty would write the index
        return ask("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
