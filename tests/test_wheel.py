"""What is built can be installed elsewhere: source archive, wheel, and a short search with the wheel alone."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from longrope.rope import load_factors

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
QUICK_START = """
import sys
from pathlib import Path
from typing import Any
from longrope import rope
from longrope.cli.main import main
assert Path(rope.__file__).is_relative_to(sys.prefix), rope.__file__
model = sys.argv[1]
for command in (
    f"tokenize --model {model} --dataset texts --save-tokenized tokens",
    f"search --model {model} --tokenized tokens --target-length 64 --samples 4 --hyper-params tiny-reduced "
    "--max-scored-tokens 4000 --output-dir found",
    f"export --model {model} --factors found --output-dir exported",
):
    assert main(command.split()) == 0, command
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel that was built from the source archive; the checkout is left as it is."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "checkout"
    for package in PROJECT["tool"]["setuptools"]["package-dir"].values():
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build(source, "build_sdist", folder)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
        opened.extractall(folder / "archive", **safely)
    (unpacked,) = (folder / "archive").iterdir()
    build(unpacked, "build_wheel", folder)
    (built,) = folder.glob("*.whl")
    return built


def build(source: Path, what: str, output: Path) -> None:
    subprocess.run([sys.executable, "-c", BUILD, what, str(output)], cwd=source, check=True, capture_output=True)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a fresh environment with the wheel, which shares the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if path.endswith("-packages")]  # the editable install in them has no effect
    (packages / "shared.pth").write_text("\n".join(shared))
    return python


def test_the_wheel_searches_and_exports_outside_of_the_checkout(
    python: Path, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts").mkdir()
    for index, word in enumerate(("alpha", "beta", "gamma", "delta")):
        text = "".join(f"{word} {i * (index + 3)} " for i in range(40))
        (tmp_path / "texts" / f"{word}.txt").write_text(text)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, "-c", QUICK_START, model_folder]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load_factors(tmp_path / "found").target_length == 64
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "exported").config.max_position_embeddings == 64


def test_the_wheel_has_the_command(python: Path, tmp_path: Path) -> None:
    command = [python.with_name("longrope"), "search", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--target-length" in done.stdout
