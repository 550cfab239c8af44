"""The scripts of the model families, on a tiny model and without a network."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from longrope.cli.main import main
from longrope.hyperparams import extend_recipe, finetune_recipe
from longrope.rope import RescaleFactors, load_factors

ROOT = Path(__file__).parents[2]
FAMILIES = ("llama2", "llama3", "mistral", "phi3", "qwen3", "smollm2")


def run(script: str, home: Path, *options: str, **environment: object) -> subprocess.CompletedProcess[str]:
    """Run a script of examples/ in this environment, with nothing in the hub's cache and no network."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("MODEL", "DATA", "EVAL_DATA")}
    inherited |= {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    inherited |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    variables = {name: str(value) for name, value in environment.items()}
    command = ["bash", str(ROOT / "examples" / script), *options]
    return subprocess.run(command, env=inherited | variables, capture_output=True, text=True, cwd=home, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for index in range(4):
        (folder / f"{index}.txt").write_text("".join(f"line {i * (index + 2)} of {index}\n" for i in range(40)))
    return folder


@pytest.fixture(scope="module")
def tokens(model_folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the texts as tokens, which a script takes as they are."""
    folder = tmp_path_factory.mktemp("tokens") / "tokens"
    named = {"model": model_folder, "dataset": data, "save-tokenized": folder}
    assert main(["tokenize", *(f"--{name}={value}" for name, value in named.items())]) == 0
    return folder


def test_every_family_has_its_settings_and_the_three_scripts() -> None:
    for family in FAMILIES:
        settings = (ROOT / "examples" / family / "settings.sh").read_text()
        assert settings.startswith("# "), "the target has to say why"
        assert re.search(r"^FAMILY_MODEL=[\w.-]+/[\w.-]+$", settings, re.MULTILINE)
        assert re.search(r"^FAMILY_TARGET_LENGTH=\d+$", settings, re.MULTILINE)
        for step in ("tokenize", "search", "evaluate"):
            assert (ROOT / "examples" / family / f"{step}.sh").is_file()


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "qwen3"])
def test_extend_takes_the_recipe_of_the_family_s_model(family: str) -> None:
    settings = (ROOT / "examples" / family / "settings.sh").read_text()
    of = dict(re.findall(r"^FAMILY_(\w+)=(\S+)$", settings, re.MULTILINE))
    recipe = yaml.safe_load(extend_recipe(of["EXTENSION"]).read_text())
    assert recipe["model"] == of["MODEL"]  # a recipe of another one would take its trained length for this one's
    (tuned,) = (stage["finetune"]["recipe"] for stage in recipe["stages"] if "finetune" in stage)
    assert tuned == of["RECIPE"]
    (evaluated,) = (stage["evaluate"]["lengths"] for stage in recipe["stages"] if "evaluate" in stage)
    for stage in yaml.safe_load(finetune_recipe(tuned).read_text())["stages"]:
        short = [window["length"] for window in stage.get("windows", []) if window.get("rope") == "original"]
        assert set(short) <= {
            min(length for stage in recipe["stages"] for length in stage.get("readjust", {}).get("lengths", []))
        }
        assert set(short) <= set(evaluated)


@pytest.mark.parametrize("model", ["meta-llama/Meta-Llama-3-8B", "/no/such/folder"])  # of known and unknown length
def test_a_model_out_of_reach_is_one_sentence(model: str, tmp_path: Path) -> None:
    done = run("llama3/search.sh", tmp_path, MODEL=model)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"got {model}" in done.stderr
    assert model.startswith("/") or "hf auth login" in done.stderr


def test_another_model_and_texts_go_the_whole_way(model_folder: Path, data: Path, tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        "strategy: paper\npopulation_size: 6\nnum_iterations: 2\nnum_mutations: 2\nnum_crossovers: 2\nnum_parents: 3\n"
    )
    chosen = {"MODEL": model_folder, "DATA": data, "OUTPUT": tmp_path / "run", "SAMPLES": 2}
    done = run("mistral/search.sh", tmp_path, **chosen, HYPER_PARAMS=tmp_path / "settings.yaml")
    assert done.returncode == 0, done.stderr
    assert "evaluation documents: 2 of 64 or more tokens" in done.stdout
    factors = json.loads((tmp_path / "run" / "factors.json").read_text())
    assert factors["target_length"] == 64  # twice the model's 32, and not the four times of the family
    other = chosen | {"DATA": tokens, "SAMPLES": 4, "TARGET_LENGTH": 64, "OUTPUT": tmp_path / "other"}
    refused = run("mistral/search.sh", tmp_path, **other)
    assert refused.returncode == 2
    assert "that the search does not see, got 0" in refused.stderr


def test_fine_tuning_goes_on_from_the_factors_of_the_search(model_folder: Path, tokens: Path, tmp_path: Path) -> None:
    factors = RescaleFactors(np.linspace(1, 2, 8), 32, 64, 10000.0, 16)
    factors.save(tmp_path / "run" / "factors.json")
    chosen = {"MODEL": model_folder, "TARGET_LENGTH": 64, "OUTPUT": tmp_path / "run"}
    refused = run("mistral/finetune.sh", tmp_path, **chosen)
    assert refused.returncode == 2
    assert "TRAIN_DATA must be a folder" in refused.stderr
    sizes = ("--lengths", "64", "--steps", "2", "--batch-size", "2")
    done = run("mistral/finetune.sh", tmp_path, *sizes, **chosen, TRAIN_DATA=tokens)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run-tuned" / "model" / "config.json").is_file()
    assert load_factors(tmp_path / "run-tuned") == factors


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "qwen3"])
def test_every_recipe_of_a_family_is_shipped(family: str) -> None:
    settings = (ROOT / "examples" / family / "settings.sh").read_text()
    (recipe,) = re.findall(r"^FAMILY_RECIPE=(.+)$", settings, re.MULTILINE)
    (extension,) = re.findall(r"^FAMILY_EXTENSION=(.+)$", settings, re.MULTILINE)
    assert finetune_recipe(recipe).is_file()
    assert extend_recipe(extension).is_file()
    assert (ROOT / "examples" / family / "finetune.sh").is_file()
    assert (ROOT / "examples" / family / "extend.sh").is_file()


def test_the_whole_extension_is_planned_for_another_model(model_folder: Path, tokens: Path, tmp_path: Path) -> None:
    chosen = {"MODEL": model_folder, "TARGET_LENGTH": 64, "OUTPUT": tmp_path / "run"}
    chosen |= {"DATA": tokens, "TRAIN_DATA": tokens}
    done = run("smollm2/extend.sh", tmp_path, "--plan", **chosen)
    assert done.returncode == 0, done.stderr
    assert "finetune, stage 1" in done.stdout
