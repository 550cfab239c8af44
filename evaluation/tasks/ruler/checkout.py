"""A checkout of the official RULER (NVIDIA/RULER): its generators, run as its own `run.sh` runs them.

Nothing of it is part of this package. `scripts/data/prepare.py` makes the prompts in a process of its own; how many
tokens an answer may have and how it is scored is read from the checkout's constants, whose code is thereby executed.
"""

import hashlib
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ...data.chat import Frame
from ...data.commit import checkout_commit

PACKAGES = ("nltk", "tenacity", "wonderwords")
"""Packages that the generators import and this one doesn't."""
PREPARE, CONFIG = "scripts/data/prepare.py", "scripts/synthetic.yaml"
CONSTANTS, SCORING = "scripts/data/synthetic/constants.py", "scripts/eval/synthetic/constants.py"
DATA = "scripts/data/synthetic/json"
SUBSET = "validation"
POINTER = b"version https://git-lfs"
"""How a file begins that Git LFS hasn't fetched."""
CHAT = "tokenizer"
"""Name of a tokenizer's chat template among the checkout's templates."""
WITH_TEMPLATE = f"""
import os, runpy, sys
_, text, script, *options = sys.argv
sys.path.insert(0, os.path.dirname(script))
import template
template.Templates[{CHAT!r}] = text
sys.argv = [script, *options]
runpy.run_path(script, run_name="__main__")
"""
"""Runs a script that makes prompts with one more template; the script counts its tokens and leaves its text out."""
SECONDS, SECONDS_PER_TOKEN = 600.0, 1e-3
"""Time limit of a generator: it tries for ever where its smallest prompt is longer than the length."""


@dataclass(frozen=True)
class Definition:
    """One task as the checkout defines it."""

    name: str
    """Official name, e.g. `vt`."""
    max_new_tokens: int
    metric: str
    """Name of the official metric, e.g. `string_match_all`."""
    data: Path | None
    """File that its prompts are made of, beside the generator; None: it needs none."""


class Checkout:
    """A folder that holds the official repository.

    Raises:
        ValueError: it is another folder, or a package that the generators import is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        if missing := [name for name in (PREPARE, CONFIG, CONSTANTS, SCORING) if not (self.path / name).is_file()]:
            raise ValueError(
                f"ruler_checkout must be a checkout of the official RULER, got {path} without {', '.join(missing)}; "
                "make one: git clone https://github.com/NVIDIA/RULER"
            )
        if missing := [name for name in PACKAGES if find_spec(name) is None]:
            raise ValueError(
                f"ruler_checkout needs the packages of its generators, got none of {', '.join(missing)}; "
                f"pip install {' '.join(missing)}"
            )

    def definition(self, name: str) -> Definition:
        """Return a task by its official name.

        Raises:
            ValueError: the checkout has no such task.
        """
        tasks = yaml.safe_load((self.path / CONFIG).read_text(encoding="utf-8"))
        if name not in tasks:
            raise ValueError(f"task must be one of {', '.join(tasks)} of {self.path / CONFIG}, got {name}")
        kind, options = tasks[name]["task"], tasks[name]["args"]
        answers, scoring = (runpy.run_path(str(self.path / file))["TASKS"][kind] for file in (CONSTANTS, SCORING))
        file = _data_file(kind, options)
        return Definition(
            name,
            answers["tokens_to_generate"],
            scoring["metric_fn"].__name__,
            None if file is None else self.path / DATA / file,
        )

    def describe(self, definition: Definition) -> dict[str, Any]:
        """Return what decides the prompts of a task beside tokenizer, length and number, JSON-able."""
        scripts = sorted((self.path / PREPARE).parent.rglob("*.py"))
        data = definition.data if definition.data is not None and definition.data.is_file() else None
        return {
            "definition": f"official RULER, checkout commit {checkout_commit(self.path / PREPARE) or 'unknown'}",
            "generators_sha256": _digest([*scripts, self.path / CONFIG]),
            "data_sha256": None if data is None else _digest([data]),
            "packages": {name: version(name) for name in PACKAGES},
        }

    def generate(
        self,
        definition: Definition,
        frame: Frame,
        length: int,
        samples: int,
    ) -> str:
        """Run the generator of a task with its own seed; return its lines of JSON, without a model's template.

        Args:
            definition: of `definition`.
            frame: what will stand around the prompts: a chat template's tokens are left free, as for a server that
                applies it itself. Lengths are counted in its tokenizer.
            length: tokens of prompt and answer together, without special ones beside the template's.
            samples: lines to make.

        Raises:
            ValueError: the data is missing, the generator fails, or it doesn't end.
        """
        _check_data(definition)
        print(f"note: {definition.name} of the official RULER: making {samples} prompts at {length}", file=sys.stderr)
        limit = SECONDS + SECONDS_PER_TOKEN * samples * length
        with TemporaryDirectory() as folder:
            frame.tokenizer.save_pretrained(f"{folder}/tokenizer")
            options = {
                "save_dir": folder,
                "benchmark": "synthetic",
                "task": definition.name,
                "subset": SUBSET,
                "tokenizer_path": f"{folder}/tokenizer",
                "tokenizer_type": "hf",
                "max_seq_length": str(length),
                "model_template_type": CHAT if frame.is_chat else "base",
                "num_samples": str(samples),
            }
            flags = [part for name, value in options.items() for part in (f"--{name}", value)]
            script, template = str(self.path / PREPARE), f"{frame.before}{{task_template}}{frame.after}"
            command = [script, *flags]
            if frame.is_chat:
                command = ["-c", WITH_TEMPLATE, template, *command, "--prepare_for_ns"]
            output = _run([sys.executable, *command], limit, definition.name, length)
            made = Path(folder) / definition.name / f"{SUBSET}.jsonl"
            if not made.is_file():
                raise ValueError(
                    f"the official generator of {definition.name} must make prompts of {length} tokens, got an error; "
                    f"mend what it names: {_error(output)}"
                )
            return made.read_text(encoding="utf-8")


def _data_file(kind: str, options: dict[str, Any]) -> str | None:
    """Return the name of the file that a generator reads with these options."""
    if kind == "common_words_extraction":
        return "english_words.json"
    if options.get("type_haystack") == "essay":
        return "PaulGrahamEssays.json"
    return f"{options['dataset']}.json" if "dataset" in options else None


def _check_data(definition: Definition) -> None:
    file = definition.data
    if file is None:
        return
    if not file.is_file() or file.read_bytes().startswith(POINTER):
        raise ValueError(
            f"{definition.name} of the official RULER reads {file}, which is missing or not fetched by Git LFS; run "
            "`git lfs pull` for english_words.json, download_paulgraham_essay.py or download_qa_dataset.sh in that "
            "folder for the others"
        )


def _run(command: Sequence[str], seconds: float, name: str, length: int) -> str:
    """Return what a script prints; it and what it started end with the time limit or an interruption.

    The script itself calls `python`, which has to be this one.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with subprocess.Popen(
        command,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            return process.communicate(timeout=seconds)[0]
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ValueError(
                    f"the official generator of {name} must end within {seconds:.0f} s, and did not at {length} "
                    "tokens: it never ends where its smallest prompt is longer; take longer lengths"
                ) from error
            raise


def _error(output: str) -> str:
    """Return the last error that a traceback tells, in one line."""
    starts = [match.start() for match in re.finditer(r"^\w*(Error|Exception)\b: ?", output, re.MULTILINE)]
    return " ".join(output[starts[-1] if starts else -300 :].split())[:300]


def _digest(files: Sequence[Path]) -> str:
    """Return the sha256 over names and contents."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
