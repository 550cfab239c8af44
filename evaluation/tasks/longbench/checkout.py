"""A checkout of the official LongBench (THUDM/LongBench): its prompts, answer lengths and prompt lengths.

Nothing of it is part of this package, and none of its code is executed: three files of its `config` are read. Metrics
and the datasets without a chat template are those of `registry`; a test compares both with the checkout's code.
"""

import hashlib
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ....rope.parsing import read_json
from ...data.commit import checkout_commit
from .registry import Dataset

FOLDERS = ("LongBench", "")
"""Where v1 stands in the checkout: since v2 is there, and before."""
PROMPTS, ANSWERS, KEPT = "config/dataset2prompt.json", "config/dataset2maxlen.json", "config/model2maxlen.json"
FILES = (PROMPTS, ANSWERS, KEPT)


class Checkout:
    """A folder that holds the official repository.

    Raises:
        ValueError: it is another folder, or a file isn't as expected.
    """

    def __init__(self, path: str | Path) -> None:
        root = Path(path).expanduser().resolve()
        found = [root / name for name in FOLDERS if all((root / name / file).is_file() for file in FILES)]
        if not found:
            raise ValueError(
                f"longbench_checkout must be a checkout of the official LongBench, got {path} without "
                f"{', '.join(FILES)}; make one: git clone https://github.com/THUDM/LongBench"
            )
        self.path = found[0]

    def dataset(self, dataset: Dataset) -> Dataset:
        """Return a dataset with the checkout's prompt and answer length.

        Raises:
            ValueError: the checkout has none, or the prompt has other fields than `{context}` and `{input}`.
        """
        template = self._entry(PROMPTS, dataset.name, str)
        try:
            template.format(context="", input="")
        except (LookupError, ValueError) as error:
            raise ValueError(
                f"the prompt of {dataset.name} in {self.path / PROMPTS} must have no fields but context and input, "
                f"got {error!r}; restore the official file"
            ) from error
        return replace(dataset, template=template, max_new_tokens=self._entry(ANSWERS, dataset.name, int))

    def kept(self, length: int) -> int | None:
        """Return the tokens of a prompt that are kept in a context of `length` tokens, without a chat template's.

        The checkout tells it for models by name; `...-32k` says the context. None: it names no model of this context.
        """
        return self._kept.get(length)

    def describe(self) -> dict[str, Any]:
        """Return which checkout it is, JSON-able."""
        digest = hashlib.sha256(b"".join((self.path / file).read_bytes() for file in FILES)).hexdigest()
        commit = checkout_commit(self.path / PROMPTS) or "unknown"
        return {"definition": f"official LongBench, checkout commit {commit}", "config_sha256": digest}

    @cached_property
    def _kept(self) -> dict[int, int]:
        contexts = {name: re.search(r"-(\d+)k$", name) for name in read_object(self.path / KEPT)}
        return {1024 * int(found[1]): self._entry(KEPT, name, int) for name, found in contexts.items() if found}

    def _entry(self, file: str, name: str, kind: type[str] | type[int]) -> Any:
        value = read_object(self.path / file).get(name)
        if type(value) is not kind or not value:
            raise ValueError(
                f"{self.path / file} must have a {'text' if kind is str else 'number of tokens'} for {name}, got "
                f"{value!r}; restore the official file"
            )
        return value


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object of a checkout.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        content = read_json(file)
    except ValueError as error:
        raise ValueError(f"{file} must be JSON, got {error}; restore the official file") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must be a JSON object, got a {type(content).__name__}; restore the official file")
    return content
