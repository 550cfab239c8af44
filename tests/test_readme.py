"""The README is true: its tree, its commands, and its Python."""

import re
from pathlib import Path

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
