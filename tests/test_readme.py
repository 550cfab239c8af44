"""The README is true: its tree, its commands, and its Python."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from longrope.rope import RescaleFactors

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_tree_shows_every_folder_and_no_other() -> None:
    (tree,) = re.findall(r"## Layout\n.*?```\n(.*?)```", README, re.DOTALL)
    shown = {line.split("/")[0] for line in tree.splitlines() if line.strip()}
    skipped = {".git", ".venv", "runs", "build", ".pytest_cache", ".ruff_cache", ".hypothesis"}
    found = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.endswith(".egg-info")}
    groups = {f"  {path.parent.name}" for path in (ROOT / "evaluation").glob("*/__init__.py")}
    assert shown == (found - skipped) | groups


def test_every_script_that_is_named_exists() -> None:
    for script in re.findall(r"bash (\S+\.sh)", README):
        assert (ROOT / script).is_file(), script


def test_every_command_that_is_named_exists() -> None:
    from longrope.cli.main import COMMANDS

    assert set(re.findall(r"longrope ([a-z]+) --", README)) <= set(COMMANDS)
    assert set(re.findall(r"\| `longrope ([a-z]+)`", README)) == set(COMMANDS)


def test_every_method_that_is_named_exists() -> None:
    from longrope.rope import METHODS

    (section,) = re.findall(r"## Methods\n(.*?)\n## ", README, re.DOTALL)
    named = set(re.findall(r"`([a-z0-9-]+)`", section.split("and more")[0]))
    assert named
    assert named <= set(METHODS)


def test_the_search_from_python_runs_as_it_stands(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (section,) = re.findall(r"## Searching from Python\n(.*?)\n## ", README, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    goal = np.linspace(1, 8, 16)

    def my_score(model: Any, question: torch.Tensor) -> float:
        return model(input_ids=question, labels=question).loss.item()

    names: dict[str, Any] = {
        "model": model,
        "tokenizer": AutoTokenizer.from_pretrained(model_folder),
        "texts": [f"{number}, " * 800 for number in range(10, 14)],
        "questions": [torch.arange(first, first + 64)[None] for first in range(4)],
        "my_score": my_score,
        "my_loss": lambda lambdas, document: float(np.abs(np.log(lambdas / goal)).mean() + document),
    }
    monkeypatch.chdir(tmp_path)
    exec(code, names)  # noqa: S102
    assert isinstance(names["factors"], RescaleFactors) and names["factors"].target_length == 2048
    assert (tmp_path / "runs" / "python" / "factors.json").is_file()
    losses = [row.nats - row.document for row in names["search"].rows]
    best = names["search"].best
    assert best.loss - np.mean(best.documents) < 0.7 * losses[0] and best.gain.low > 0
