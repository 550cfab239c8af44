"""Data flows one way: which package may import which, read from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "rope": set(),
    "execution": set(),
    "evaluation": {"rope", "execution"},
    "evolution": {"rope"},
    "training": {"rope", "evaluation"},
    "cli": {"rope", "execution", "evolution", "evaluation", "training"},
}
GROUPS = {
    "data": set(),
    "scoring": {"data"},
    "objectives": {"data", "scoring"},
    "tasks": {"data", "scoring"},
    "comparison": {"data", "scoring", "tasks"},
    "report": {"data", "scoring", "tasks", "comparison"},
}
"""Folders of `evaluation`, and those below each."""
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Return the top-level packages and the packages (as `longrope.X`) that a file imports."""
    package = path.relative_to(ROOT).parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            parts = ("longrope", *package)[: len(package) + 2 - node.level]
            base = ".".join((*parts, *([node.module] if node.module else [])))
            names |= {base} if base != "longrope" else {f"longrope.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_imports_only_the_packages_below_it(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    packages = {name.split(".")[1] for name in imported(path) if name.startswith("longrope.")}
    assert packages - {package, "hyperparams"} <= PACKAGES[package]


@pytest.mark.parametrize("path", sorted((ROOT / "evaluation").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_folder_of_evaluation_imports_only_those_below_it(path: Path) -> None:
    group, *file = path.relative_to(ROOT / "evaluation").parts
    names = {name.split(".")[2] for name in imported(path) if name.startswith("longrope.evaluation.")}
    assert names - {group} <= (GROUPS[group] if file else set())


@pytest.mark.parametrize("path", [p for p in FILES if {"evolution", "execution"} & {*p.parts}], ids=lambda p: p.name)
def test_the_search_engine_and_the_executors_need_no_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & {"torch", "transformers"}


def test_packages_import_each_other_relatively() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            roots = {name.split(".")[0] for name in names}
            assert not roots & {*PACKAGES, "longrope"}, f"{path.relative_to(ROOT)} imports {roots}"


def test_the_factors_load_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, longrope.evolution, longrope.execution, longrope.rope; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
