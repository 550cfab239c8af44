"""`longrope extend` killed in every stage, one after the other: it ends as if it had never been stopped."""

import signal
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from safetensors.torch import load_file

from longrope.evaluation.comparison.results import read_results
from longrope.rope import load_factor_sets, load_factors

from .processes import ForkServer
from .small import PAPER, tokenize_words

STAGES = ("1-search", "2-finetune", "3-search", "4-readjust", "5-evaluate", "6-export")
TUNING = {"learning_rate": 1e-2, "batch_size": 2, "stages": [{"length": 64, "steps": 4}]}
SEARCHING = {"hyper_params": "paper.yaml", "samples": 3, "attention_factor": 1.0}
RECIPE = [
    {"search": {"target_length": 64, "max_scored_tokens": 3000, **SEARCHING}},
    {"finetune": {"recipe": "tuning.yaml", "save_steps": 1}},
    {"search": {"target_length": 128, "max_scored_tokens": 6000, **SEARCHING}},
    {"readjust": {"lengths": [32, 64], "max_scored_tokens": 2000, **SEARCHING}},
    {"evaluate": {"lengths": [32, 128], "methods": ["none", "yarn"], "tasks": ["perplexity"], "samples": 3}},
    {"export": {}},
]

DYING = """
import signal
WRITING = os.O_WRONLY | os.O_RDWR

def prepare(number):
    # Count the files below the folder of a stage that are opened for writing; die instead of opening the fatal one.
    os.chdir({folder!r})
    seen = []
    def hook(event, arguments):
        if event == "open" and isinstance(arguments[0], (str, bytes)) and (arguments[2] or 0) & WRITING:
            path = os.fsdecode(arguments[0])
            if {stage!r} in path:
                seen.append(path)
                if len(seen) == {fatal}:
                    os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
"""
"""Lets a command run in a folder until it is killed, with no chance to tidy up."""

KILLS = {"1-search": 7, "2-finetune": 16, "3-search": 8, "4-readjust": 14, "5-evaluate": 12, "6-export": 6}
"""How many files a stage may open for writing; it dies at the last of them, about half-way."""


class Runs(NamedTuple):
    """The same extension twice."""

    whole: Path
    """Never stopped."""
    killed: Path
    """Killed once in each stage."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, fork_server: ForkServer) -> Runs:
    folder = tmp_path_factory.mktemp("extend")
    for split in ("train", "search", "eval"):
        tokenize_words(model_folder, folder / f"{split}-tokens", f"{split} ")
    (folder / "paper.yaml").write_text(yaml.safe_dump(PAPER))
    (folder / "tuning.yaml").write_text(yaml.safe_dump(TUNING))
    data = {"train": ["train-tokens"], "search": "search-tokens", "eval": "eval-tokens"}
    recipe = {"model": str(model_folder), "output_dir": "run", "stages": RECIPE, **data}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    found = Runs(folder / "whole", folder / "killed")
    command = ["extend", "recipe.yaml", "--device", "cpu", "--output-dir"]
    for stage, fatal, name in [*((*kill, "killed") for kill in KILLS.items()), ("", 0, "killed"), ("", 0, "whole")]:
        setup = DYING.format(folder=str(folder), stage=stage, fatal=fatal)
        (ended,) = fork_server.run([[*command, name]], folder, setup)
        assert ended.code == (-signal.SIGKILL if fatal else 0), ended.output
    return found


def test_every_stage_was_killed_in_its_midst(runs: Runs) -> None:
    assert tuple(KILLS) == STAGES == tuple(sorted(path.name for path in runs.killed.glob("[0-9]-*") if path.is_dir()))


def test_weights_are_the_same_bit_for_bit(runs: Runs) -> None:
    for place in ("2-finetune/tuned", "2-finetune/model", "6-export"):
        whole, killed = (load_file(run / place / "model.safetensors") for run in runs)
        assert whole.keys() == killed.keys()
        assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_factors_are_the_same(runs: Runs) -> None:
    for place in ("1-search/factors.json", "2-finetune/factors.json", "3-search/total.json"):
        assert load_factors(runs.whole / place) == load_factors(runs.killed / place)
    assert load_factor_sets(runs.whole / "factor_sets.json") == load_factor_sets(runs.killed / "factor_sets.json")


def test_numbers_are_the_same(runs: Runs) -> None:
    whole, killed = (read_results(run / "results.json").rows for run in runs)
    assert whole == killed


def test_nothing_half_written_is_left(runs: Runs) -> None:
    names = [{str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} for run in runs]
    assert names[0] == names[1]
