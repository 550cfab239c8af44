"""A checkout of the official NoLiMa (adobe-research/NoLiMa): its needles, books, templates and settings.

Nothing of it is part of this package; its licence allows non-commercial research only. Needle set and books are the
files that its `data/download_NoLiMa_data.sh` gets, and its `data/book_haystack.py`, which is thereby executed, puts a
needle into a book.
"""

import ast
import hashlib
import re
import runpy
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ...rope.parsing import read_json
from ..data.commit import checkout_commit

RUNNER, CONNECTOR = "evaluation/run_tests.py", "evaluation/async_api_connector.py"
MODEL = "evaluation/model_configs/llama_3.3_70b.json"
"""Settings of the models that the authors served themselves."""
SETTINGS = "evaluation/run_config"
PLACING, NEEDLES, BOOKS = "data/book_haystack.py", "data/needlesets/needle_set.json", "data/haystack/rand_shuffle"
FILES = (RUNNER, CONNECTOR, MODEL, PLACING)
BASE_SEED = 42


class NeedleQuestion(NamedTuple):
    """A needle and its question."""

    name: str
    template: str
    """With `{haystack}` and `{question}`."""
    needle: str
    question: str
    characters: tuple[str, ...]
    """Names that `{CHAR}` in the needle stands for; one of them is the answer."""
    answers: tuple[str, ...]
    """Right answers of a needle without `{CHAR}`."""
    seed: int


class Checkout:
    """A folder that holds the official repository and its data.

    Raises:
        ValueError: it is another folder, or the data isn't there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        if missing := [name for name in FILES if not (self.path / name).is_file()]:
            raise ValueError(
                f"nolima_checkout must be a checkout of the official NoLiMa, got {path} without {', '.join(missing)}; "
                "make one: git clone https://github.com/adobe-research/NoLiMa"
            )
        self.books = sorted((self.path / BOOKS).glob("*.txt"))
        if not self.books or not (self.path / NEEDLES).is_file():
            raise ValueError(
                f"nolima_checkout must hold {NEEDLES} and the books of {BOOKS}, got {path} without them; run `bash "
                "download_NoLiMa_data.sh` in its folder data"
            )

    @cached_property
    def tests(self) -> list[NeedleQuestion]:
        """All needles with all their questions, in the official order."""
        try:
            return [test for entry in read_json(self.path / NEEDLES) for test in self._tests_of(entry)]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{self.path / NEEDLES} must be in the official format, got {error!r}; download it again"
            ) from error

    @cached_property
    def contexts(self) -> tuple[int, ...]:
        """Official lengths of the book snippets, in tokens."""
        return tuple(sorted({settings["context_length"] for settings in self._settings}))

    @cached_property
    def depths(self) -> int:
        """Official number of depths."""
        return self._settings[0]["document_depth_percent_intervals"]

    @cached_property
    def max_new_tokens(self) -> int:
        """Tokens that an answer may have."""
        return read_json(self.path / MODEL)["max_tokens"]

    @cached_property
    def system_prompt(self) -> str:
        """What stands before the user's message for models that the authors served themselves."""
        text = (self.path / CONNECTOR).read_text(encoding="utf-8")
        found = re.search(r'== "vllm":.*?SYSTEM_PROMPT = "([^"]*)"', text, re.DOTALL)
        if found is None:
            raise ValueError(f"{self.path / CONNECTOR} must have a system prompt for vllm; take an earlier commit")
        return found[1]

    def haystack(self, book: Path) -> Any:
        """Return the official haystack of a book."""
        return runpy.run_path(str(self.path / PLACING))["BookHaystack"](str(book))

    def describe(self) -> dict[str, Any]:
        """Return which checkout and data it is, JSON-able."""
        files = [*(self.path / name for name in (*FILES, NEEDLES)), *self.books]
        digest = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
        commit = checkout_commit(self.path / RUNNER) or "unknown"
        return {"definition": f"official NoLiMa, checkout commit {commit}", "files_sha256": digest}

    def _tests_of(self, entry: Mapping[str, Any]) -> Iterator[NeedleQuestion]:
        """Yield the tests of one needle; a question takes the last of the arguments that it has a place for."""
        for kind, question in entry["questions"].items():
            for name, test in entry["tests"].items():
                asked, needle = question, entry["needle"]
                for place, argument in enumerate(test["input_args"], start=1):
                    field = f"{{{place}}}"
                    asked = question.replace(field, argument) if field in question else asked
                    needle = needle.replace(field, argument)
                yield NeedleQuestion(
                    f"{entry['id']}_{name}_{kind}",
                    entry.get("task_template", self._default_template),
                    needle,
                    asked,
                    tuple(entry.get("character_set", ())),
                    tuple(test.get("gold_answers", ())),
                    BASE_SEED + int(entry["id"][:4]),
                )

    @cached_property
    def _default_template(self) -> str:
        tree = ast.parse((self.path / RUNNER).read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DEFAULT_TASK_TEMPLATE":
                return ast.literal_eval(node.value)
        raise ValueError(f"no DEFAULT_TASK_TEMPLATE in {self.path / RUNNER}")

    @cached_property
    def _settings(self) -> list[dict[str, Any]]:
        files = sorted((self.path / SETTINGS).glob("*.yaml"))
        if not files:
            raise ValueError(f"nolima_checkout must hold settings in {SETTINGS}, got none; restore the official folder")
        return [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
