"""`examples/llama3/*.sh` on a tiny model and texts of one's own, without network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from longrope.evaluation.data.tokenized import read_info

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(model_folder: Path, tmp_path: Path) -> dict[str, str]:
    """Return the settings of the scripts: a model, a folder of two texts, and where results go."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for word in ("alpha", "beta"):
        (texts / f"{word}.txt").write_text(f"{word} and so on\n" * 60)
    active = {"VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"}
    paths = {"MODEL": model_folder, "DATA": texts, "OUTPUT": tmp_path / "run"}
    fixed = {"TARGET_LENGTH": "256", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **active, **{name: str(path) for name, path in paths.items()}, **fixed}


def script(name: str, environment: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "examples" / "llama3" / name), *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_texts_are_tokenized_to_the_folder_that_the_search_reads(environment: dict[str, str], tmp_path: Path) -> None:
    done = script("tokenize.sh", environment)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("run-tokens-texts-*")
    assert done.stdout.splitlines()[-1] == str(folder)
    assert read_info(folder).documents == 2
    planned = script("search.sh", environment, "--estimate")  # finds them done
    assert planned.returncode == 0, planned.stderr
    assert [folder] == list(tmp_path.glob("run-tokens-texts-*"))
