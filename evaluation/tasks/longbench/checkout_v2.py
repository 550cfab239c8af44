"""LongBench v2 in a checkout of the official LongBench (THUDM/LongBench): its prompts and how much of them is kept.

Nothing of it is part of this package, and none of its code is executed: three files of `prompts` and two of `config`
are read. Answer lengths and how the letter is read are those of `v2`; a test compares both with the checkout's code.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

from ...data.commit import checkout_commit
from .checkout import read_object
from .data import LETTERS, Question
from .registry import Prompt

ZERO_SHOT, REASONING, ANSWER = "prompts/0shot.txt", "prompts/0shot_cot.txt", "prompts/0shot_cot_ans.txt"
"""Without chain of thought; with it, first and second prompt."""
KEPT, SERVED = "config/model2maxlen.json", "config/model2path.json"
"""Tokens that are kept of a prompt by model; the models that the authors served themselves."""
FILES = (ZERO_SHOT, REASONING, ANSWER, KEPT, SERVED)
DOCUMENT, THOUGHT = "$DOC$", "$COT$"
FIELDS = ("$Q$", *(f"$C_{letter}$" for letter in LETTERS))


class CheckoutV2:
    """A folder that holds the official repository, since v2 is in it.

    Raises:
        ValueError: it is another folder, or a file isn't as expected.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        if missing := [name for name in FILES if not (self.path / name).is_file()]:
            raise ValueError(
                f"longbench_checkout must be a checkout of the official LongBench with v2, got {path} without "
                f"{', '.join(missing)}; make one: git clone https://github.com/THUDM/LongBench"
            )
        for file, own in ((ZERO_SHOT, DOCUMENT), (REASONING, DOCUMENT), (ANSWER, THOUGHT)):
            if absent := [field for field in (own, *FIELDS) if self.text(file).count(field) != 1]:
                raise ValueError(
                    f"{self.path / file} must have each of {own}, {', '.join(FIELDS)} once, got another number of "
                    f"{', '.join(absent)}; restore the official file"
                )

    def prompt(self, file: str, row: Question, reasoning: str = "") -> Prompt:
        """Put a question into one of the templates; without text in that of `ANSWER`, whose text is the reasoning."""
        own, text = (THOUGHT, reasoning) if file == ANSWER else (DOCUMENT, row.context)
        before, _, after = self.text(file).partition(own)
        return Prompt(_filled(before, row), text if own == THOUGHT else _filled(text, row), _filled(after, row))

    @cached_property
    def kept(self) -> int:
        """Tokens that are kept of a prompt for models of 128k tokens, as all are that the authors served themselves."""
        limits = {read_object(self.path / KEPT).get(name) for name in read_object(self.path / SERVED)}
        if len(limits) != 1 or not isinstance(limit := limits.pop(), int) or limit < 1:
            raise ValueError(
                f"{self.path / KEPT} must have one number of tokens for all models of {SERVED}, got others; restore "
                "the official file"
            )
        return limit

    def text(self, file: str) -> str:
        """Return a template."""
        return (self.path / file).read_text(encoding="utf-8")

    def describe(self) -> dict[str, Any]:
        """Return which checkout it is, JSON-able."""
        digest = hashlib.sha256(b"".join((self.path / file).read_bytes() for file in FILES)).hexdigest()
        commit = checkout_commit(self.path / ZERO_SHOT) or "unknown"
        return {"definition": f"official LongBench v2, checkout commit {commit}", "files_sha256": digest}


def _filled(text: str, row: Question) -> str:
    """Put question and choices into a text; as officially into the document, too, should it have the fields."""
    for field, value in zip(FIELDS, (row.question, *row.choices), strict=True):
        text = text.replace(field, value)
    return text
