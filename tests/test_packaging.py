"""The package list equals the tree, and what is installed has what it needs."""

import tomllib
from importlib.metadata import distributions, entry_points
from importlib.resources import files
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_package_list_equals_the_tree() -> None:
    packages = PROJECT["tool"]["setuptools"]["package-dir"].values()
    folders = {path.parent.relative_to(ROOT) for package in packages for path in (ROOT / package).rglob("__init__.py")}
    found = {"longrope." + ".".join(folder.parts) for folder in folders}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_package_is_typed() -> None:
    for package in PROJECT["tool"]["setuptools"]["package-dir"].values():
        assert (ROOT / package / "py.typed").exists(), package


def test_presets_are_found_as_package_data() -> None:
    assert files("longrope.hyperparams").joinpath("longrope.yaml").is_file()


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="longrope")
    assert callable(command.load())


def test_the_lock_pins_every_dependency() -> None:
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line
    }
    extras = PROJECT["project"]["optional-dependencies"]
    for requirement in [*PROJECT["project"]["dependencies"], *extras["dev"], *extras["docs"]]:
        name = requirement.split(">=")[0].split("[")[0]
        assert name.lower() in pinned, f"{name} is not in requirements.lock"


def test_every_pinned_package_runs_on_the_oldest_python() -> None:
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=") + ".0"
    pins = [line.partition(" ")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    checked = 0
    for one in distributions():
        pin = f"{one.name}=={one.version.partition('+')[0]}"
        if pin in pins:  # an environment of one's own may have others
            rule = one.metadata["Requires-Python"] or ""
            assert SpecifierSet(rule).contains(oldest), f"{pin} needs Python {rule}"
            checked += 1
    assert checked > len(pins) // 2


def test_hints_name_packages_that_pip_finds() -> None:
    """`longrope` is on no index: an extra of it can't be installed by name."""
    packages = (*PROJECT["tool"]["setuptools"]["package-dir"].values(), "examples", "tests", "benchmarks")
    sources = [
        path for package in packages for path in (ROOT / package).rglob("*") if path.suffix in (".py", ".sh", ".j2")
    ]
    texts = {path: path.read_text() for path in [*sources, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]}
    assert len(texts) > 100
    assert [str(path) for path, text in texts.items() if "longrope" + "[" in text] == []
