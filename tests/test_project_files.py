"""The files beside the code agree with it: container, conda environment, workflow, citation."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def supported(version: str) -> bool:
    """Whether a Python such as 3.11 is one that the package and its lock are for."""
    least = PROJECT["requires-python"].removeprefix(">=")
    first_line = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()[0]
    oldest, newest = re.findall(r"3\.\d+", first_line)
    assert oldest == least
    return int(oldest[2:]) <= int(version[2:]) <= int(newest[2:])


def test_the_citation_has_what_the_format_requires_and_the_version_of_the_package() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    for source in (citation, *citation["references"]):
        assert all("name" in author or {"family-names", "given-names"} <= set(author) for author in source["authors"])
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_workflow_runs_what_runs_here() -> None:
    job = read(WORKFLOW)["jobs"]["run"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert (ROOT / ".ci" / "run").is_file()
    assert all(supported(version) for version in job["strategy"]["matrix"]["python"])


def test_the_conda_environment_installs_the_lock() -> None:
    environment = read(ROOT / "environment.yml")
    assert environment["name"] == PROJECT["name"]
    *packages, pip = environment["dependencies"]
    assert supported(packages[0].removeprefix("python="))
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile in order, each with what follows it."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def test_the_image_gets_every_package_and_nothing_that_is_ignored() -> None:
    copied = {word for name, rest in instructions() if name == "COPY" for word in rest.split()[:-1]}
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert set(setuptools["package-dir"].values()) < copied
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_both_images_run_the_command_as_a_user_without_rights(target: str) -> None:
    stages: dict[str, list[tuple[str, str]]] = {}
    for name, rest in instructions():
        if name == "FROM":
            origin, stage = rest.split(" AS ")
            assert origin in stages or re.fullmatch(r"python:3\.\d+-slim-\w+", origin)
            stages[stage] = []
        else:
            list(stages.values())[-1].append((name, rest))
    names = [name for name, _ in stages[target]]
    assert dict(stages[target])["USER"] == "1000"
    assert "--uid 1000 " in dict(stages["base"])["RUN"]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert dict(stages[target])["ENTRYPOINT"] == '["longrope"]'
    assert names.index("RUN") < names.index("USER"), "packages belong to root"


def test_the_image_has_a_python_that_the_lock_is_for() -> None:
    (version,) = [
        found for name, rest in instructions() if name == "FROM" for found in re.findall(r"python:(\S+?)-", rest)
    ]
    assert supported(version)
