"""`longrope finetune`: killed in each stage and continued, two stages with their own factors, an export that agrees."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from longrope.cli.main import main
from longrope.rope import apply_factors, load_factors
from longrope.rope.files import lock_file

from .processes import ForkServer
from .small import tokenize_words

RECIPE = {
    "learning_rate": 1e-2,
    "batch_size": 4,
    "warmup_steps": 1,
    "schedule": "cosine",
    "stages": [
        {"length": 64, "steps": 4},
        {
            "length": 128,
            "steps": 4,
            "windows": [{"length": 32, "rope": "original", "mask_documents": True}, {"length": 128, "min_tokens": 128}],
        },
    ],
}
KILLS = {"stage 1": (1, 3, "step"), "stage 2": (2, 1, "step"), "while it saves": (2, 4, "save")}
"""Stage, step, and whether the process is killed after the step or in the middle of its checkpoint."""

DYING = """
import signal
from transformers import Trainer
from longrope.training.trainer import CompleteCheckpoints

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def prepare(number):
    stage, step, moment = {kill}
    seen = [0]
    def on_train_begin(self, *_, **__):
        seen[0] += 1
    def on_step_end(self, args, state, control, **_):
        if moment == "step" and (seen[0], state.global_step) == (stage, step):
            die()
    CompleteCheckpoints.on_train_begin, CompleteCheckpoints.on_step_end = on_train_begin, on_step_end
    save = Trainer._save_rng_state
    def save_or_die(self, output_dir):
        if moment == "save" and (seen[0], self.state.global_step) == (stage, step):
            die()
        save(self, output_dir)
    Trainer._save_rng_state = save_or_die
"""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> list[str]:
    folder = tmp_path_factory.mktemp("data")
    tokenize_words(model_folder, folder / "tokens")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    named = {"model": model_folder, "tokenized": folder / "tokens", "recipe": folder / "recipe.yaml"}
    parts = [part for name, value in named.items() for part in (f"--{name}", str(value))]
    return ["finetune", *parts, "--factors", "linear", "yarn", "--save-steps", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(arguments: list[str], fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of a run that was never stopped and of those that were killed and went on."""
    folder = tmp_path_factory.mktemp("runs")
    folders = {name: folder / name.replace(" ", "-") for name in ("whole", *KILLS)}
    for name, kill in KILLS.items():
        (dead,) = fork_server.run([[*arguments, "--output-dir", str(folders[name])]], folder, DYING.format(kill=kill))
        assert dead.code == -signal.SIGKILL, dead.output
    for path in folders.values():
        (ended,) = fork_server.run([[*arguments, "--output-dir", str(path)]], folder)
        assert ended.code == 0, ended.output
    return folders


@pytest.mark.parametrize("name", KILLS)
def test_killed_and_continued_gives_the_same_weights_bit_for_bit(runs: dict[str, Path], name: str) -> None:
    for stage in ("1-64", "2-128"):
        whole, killed = (load_file(runs[one] / stage / "tuned" / "model.safetensors") for one in ("whole", name))
        assert whole.keys() == killed.keys()
        assert all(torch.equal(whole[key], killed[key]) for key in whole)
    assert not list(runs[name].glob("*/checkpoint-*"))


def test_each_stage_has_its_own_factors_and_trains(runs: dict[str, Path], model_folder: Path) -> None:
    first, second = (load_factors(runs["whole"] / stage / "factors.json") for stage in ("1-64", "2-128"))
    assert (first.target_length, second.target_length) == (64, 128)
    assert (first.lambdas == 2).all()
    assert load_factors(runs["whole"]) == second
    weights = [
        load_file(folder / "model.safetensors")["lm_head.weight"]
        for folder in (model_folder, runs["whole"] / "1-64" / "tuned", runs["whole"] / "2-128" / "tuned")
    ]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    log = json.loads((runs["whole"] / "2-128" / "log.json").read_text())
    assert log[-1]["train_loss"] < json.loads((runs["whole"] / "1-64" / "log.json").read_text())[-1]["train_loss"]


def test_the_export_computes_what_the_tuned_weights_and_factors_do(runs: dict[str, Path]) -> None:
    exported = AutoModelForCausalLM.from_pretrained(runs["whole"] / "model")
    tuned = AutoModelForCausalLM.from_pretrained(runs["whole"] / "tuned")
    assert tuned.config.max_position_embeddings == 32
    assert exported.config.max_position_embeddings == 128
    apply_factors(tuned, load_factors(runs["whole"]))
    ids = torch.randint(0, 64, (1, 100), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(exported(ids).logits, tuned(ids).logits, atol=1e-4)


def test_a_folder_of_another_run_is_refused(runs: dict[str, Path], arguments: list[str], capsys) -> None:
    assert main([*arguments, "--output-dir", str(runs["whole"]), "--learning-rate", "0.5"]) == 2
    assert "options and recipe differ" in capsys.readouterr().err


def test_a_folder_that_another_command_trains_in_is_refused(arguments: list[str], tmp_path: Path, capsys) -> None:
    with lock_file(tmp_path / ".lock"):
        assert main([*arguments, "--output-dir", str(tmp_path)]) == 2
    assert "must be used by one fine-tuning at a time" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_two_processes_give_the_weights_of_one(runs: dict[str, Path], arguments: list[str], tmp_path: Path) -> None:
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "longrope.cli",
    ]
    command = [*launch, *arguments, "--output-dir", str(tmp_path / "two")]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    one, two = (load_file(folder / "tuned" / "model.safetensors") for folder in (runs["whole"], tmp_path / "two"))
    for name, value in one.items():  # sums over processes are in another order, and AdamW divides by small numbers
        assert torch.allclose(value, two[name], atol=5e-4), name
