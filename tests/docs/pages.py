"""The documentation as its tests see it: pages and their fenced blocks."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = "```"


class Fence(NamedTuple):
    """A fenced block of a page; one with a title needs something that is not here."""

    language: str
    title: str
    text: str


def fences(page: Path) -> Iterator[Fence]:
    """Yield the fenced blocks of a page in their order."""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(FENCE):
            language, _, title = line.removeprefix(FENCE).partition(" ")
            body = iter(lines.__next__, FENCE)
            yield Fence(language, title, "".join(f"{one}\n" for one in body))


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block, comments left out."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words
