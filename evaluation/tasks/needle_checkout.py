"""A checkout of the official needle test (gkamradt/LLMTest_NeedleInAHaystack): its needle, essays, prompts and grid.

Nothing of it is part of this package. Its class that makes contexts and its function that makes messages are executed;
needle, question and number of depths are the defaults of its command line.
"""

import ast
import glob
import hashlib
import os
import runpy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..data.commit import checkout_commit

PACKAGE = "needlehaystack"
TESTER, RUN = f"{PACKAGE}/llm_needle_haystack_tester.py", f"{PACKAGE}/run.py"
MESSAGES, TEXT = f"{PACKAGE}/providers/openai.py", f"{PACKAGE}/providers/Anthropic_prompt.txt"
JUDGE = f"{PACKAGE}/evaluators/openai.py"
FILES = (TESTER, RUN, MESSAGES, TEXT, JUDGE)


class Checkout:
    """A folder that holds the official repository.

    Raises:
        ValueError: it is another folder, or a file has other definitions.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        if missing := [name for name in FILES if not (self.path / name).is_file()]:
            raise ValueError(
                f"niah_checkout must be a checkout of the official needle test, got {path} without "
                f"{', '.join(missing)}; make one: git clone https://github.com/gkamradt/LLMTest_NeedleInAHaystack"
            )
        if not self.essays:
            raise ValueError(f"niah_checkout must hold the essays of {self._haystack}, got none; restore the folder")

    @cached_property
    def essays(self) -> list[Path]:
        """Files of the haystack, by name."""
        return sorted(self._haystack.glob("*.txt"))

    @property
    def needle(self) -> str:
        """The sentence to find, with the line breaks around it."""
        return self._settings["needle"]

    @property
    def question(self) -> str:
        """What is asked about it."""
        return self._settings["retrieval_question"]

    @property
    def depths(self) -> int:
        """Official number of depths."""
        return self._settings["document_depth_percent_intervals"]

    @property
    def reserved(self) -> int:
        """Tokens of a length that the context leaves to the rest of the prompt and the answer."""
        return self._settings["final_context_length_buffer"]

    def contexts(self, length: int, depths: int, tokenizer: PreTrainedTokenizerBase) -> list[tuple[float, str]]:
        """Return the essays with the needle in them for each depth, in per cent, of an official length in tokens."""
        tester = self._tester(
            model_to_test=_Tokens(tokenizer),
            evaluator=True,
            needle=self.needle,
            haystack_dir=str(self._haystack),
            retrieval_question=self.question,
            context_lengths=[length],
            document_depth_percent_intervals=depths,
            final_context_length_buffer=self.reserved,
        )
        context = tester.encode_and_trim(tester.read_context_files(), length)
        return [
            (float(depth), tester.insert_needle(context, depth, length)) for depth in tester.document_depth_percents
        ]

    def text(self, context: str) -> str:
        """Return the prompt as one text, as Anthropic's models of that time got it."""
        template = (self.path / TEXT).read_text(encoding="utf-8")
        return template.format(context=context, retrieval_question=self.question)

    @cached_property
    def messages(self) -> tuple[str, str]:
        """System prompt, and the message that follows that of the context, as OpenAI's models get them.

        Raises:
            ValueError: the function makes other messages.
        """
        make = self._run(self._defined(MESSAGES, "OpenAI", "generate_prompt"), {})["generate_prompt"]
        said = [(message["role"], message["content"]) for message in make(None, "context", self.question)]
        if [role for role, _ in said] != ["system", "user", "user"] or said[1][1] != "context":
            raise ValueError(
                f"{self.path / MESSAGES} must make a system prompt, the context and the question, got {said}; take an "
                "earlier commit of it"
            )
        return said[0][1], said[2][1]

    @cached_property
    def criteria(self) -> str:
        """What the judge model is told of its marks."""
        return ast.literal_eval(_assigned(self._defined(JUDGE, "OpenAIEvaluator"))["CRITERIA"])["accuracy"]

    def describe(self) -> dict[str, Any]:
        """Return which checkout it is, JSON-able."""
        files = [*(self.path / name for name in FILES), *self.essays]
        digest = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
        commit = checkout_commit(self.path / TESTER) or "unknown"
        return {"definition": f"official needle test, checkout commit {commit}", "files_sha256": digest}

    @property
    def _haystack(self) -> Path:
        return self.path / PACKAGE / self._settings["haystack_dir"]

    @cached_property
    def _settings(self) -> dict[str, Any]:
        assigned = _assigned(self._defined(RUN, "CommandArgs"))
        names = ("needle", "haystack_dir", "retrieval_question")
        names += ("document_depth_percent_intervals", "final_context_length_buffer")
        if missing := [name for name in names if name not in assigned]:
            raise ValueError(
                f"{self.path / RUN} must have defaults of {', '.join(names)}, got none of {', '.join(missing)}; take "
                "an earlier commit of it"
            )
        return {name: ast.literal_eval(assigned[name]) for name in names}

    @cached_property
    def _tester(self) -> Any:
        sorted_glob = SimpleNamespace(glob=lambda pattern: sorted(glob.glob(pattern)))
        names = {"glob": sorted_glob, "np": np, "os": os, "ModelProvider": object, "Evaluator": object}
        return self._run(self._defined(TESTER, "LLMNeedleHaystackTester"), names)["LLMNeedleHaystackTester"]

    def _defined(self, file: str, *names: str) -> ast.ClassDef | ast.FunctionDef:
        """Return a class of a file, or a function of the class."""
        found: Any = ast.parse((self.path / file).read_text(encoding="utf-8"))
        for name in names:
            found = next((node for node in found.body if getattr(node, "name", None) == name), None)
            if found is None:
                raise ValueError(
                    f"{self.path / file} must define {'.'.join(names)}, got none; take an earlier commit of it"
                )
        return found

    def _run(self, node: ast.AST, names: Mapping[str, Any]) -> dict[str, Any]:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "definition.py"
            file.write_text(ast.unparse(node), encoding="utf-8")
            return runpy.run_path(str(file), dict(names))


class _Tokens:
    """A tokenizer as the official class asks for it."""

    model_name = "model"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def encode_text_to_tokens(self, text: str) -> list[int]:
        """Return tokens without special ones; of a full stop that which ends a word, not that which begins a text."""
        if text == ".":
            return self.tokenizer.encode("a.", add_special_tokens=False)[-1:]
        return self.tokenizer.encode(text, add_special_tokens=False, verbose=False)

    def decode_tokens(self, tokens: Sequence[int], context_length: int | None = None) -> str:
        return str(self.tokenizer.decode(list(tokens[:context_length])))


def _assigned(node: ast.AST) -> dict[str, ast.expr]:
    """Return what the names of a class body are set to."""
    found: dict[str, ast.expr] = {}
    for statement in getattr(node, "body", []):
        if isinstance(statement, ast.AnnAssign | ast.Assign) and statement.value is not None:
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            found[ast.unparse(target)] = statement.value
    return found
