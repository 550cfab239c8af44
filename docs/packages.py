"""Link the packages under the names they are imported by, `build/types/longrope/*`, for the type checker and MkDocs.

python docs/packages.py; `mkdocs build` calls `on_startup` by itself.
"""

import os
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def link_packages() -> None:
    """Make the links, or make them anew; two calls at once do no harm."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, folder in project["tool"]["setuptools"]["package-dir"].items():
        link = ROOT / "build" / "types" / Path(*name.split("."))
        link.parent.mkdir(parents=True, exist_ok=True)
        new = link.with_name(f".{link.name}-{os.getpid()}")
        new.symlink_to(ROOT / folder, target_is_directory=True)
        new.replace(link)


def on_startup(**_: object) -> None:
    """Let MkDocs find the packages, whose pages it makes from their docstrings."""
    link_packages()


if __name__ == "__main__":
    link_packages()
