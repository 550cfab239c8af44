"""Small commands that each take a second."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from longrope.cli.main import main

from .processes import ForkServer

SETTINGS = {"strategy": "paper", "population_size": 9, "num_iterations": 1, "num_mutations": 2}
SETTINGS |= {"num_crossovers": 2, "num_parents": 3, "start_token_choices": [0]}
TUNING = {"learning_rate": 1e-2, "batch_size": 1, "stages": [{"length": 64, "steps": 3}]}


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Return the process that runs commands in processes of their own."""
    fork_server = ForkServer()
    yield fork_server
    fork_server.close()


@pytest.fixture(scope="session")
def small_commands(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> dict[str, list[str]]:
    """Return the arguments of each long command but for its folder."""
    folder = tmp_path_factory.mktemp("small")
    for split in ("one", "other"):
        (folder / split).mkdir()
        for index, word in enumerate(("alpha", "beta", "gamma")):
            text = "".join(f"{split} {word} {i * (index + 3)} " for i in range(60))
            (folder / split / f"{word}.txt").write_text(text)
        named = {"model": model_folder, "dataset": folder / split, "save-tokenized": folder / f"{split}-tokens"}
        assert main(["tokenize", *(f"--{name}={value}" for name, value in named.items())]) == 0
    one, other = str(folder / "one-tokens"), str(folder / "other-tokens")
    paths = {name: str(folder / f"{name}.yaml") for name in ("search", "tuning", "extend")}
    search = {"target_length": 64, "max_scored_tokens": 3000, "hyper_params": paths["search"], "samples": 2}
    evaluate = {"lengths": [32], "methods": ["none"], "tasks": ["perplexity"], "samples": 2}
    recipe: dict[str, Any] = {"model": str(model_folder), "output_dir": "-", "train": [one], "search": one}
    recipe |= {"eval": other, "stages": [{"search": search}, {"evaluate": evaluate}]}
    for name, content in (("search", SETTINGS), ("tuning", TUNING), ("extend", recipe)):
        Path(paths[name]).write_text(yaml.safe_dump(content))
    of = ["--model", str(model_folder), "--tokenized", one]
    perplexity = ["--lengths", "32", "64", "--tasks", "perplexity", "--methods", "none", "ntk"]
    return {
        "search": ["search", *of, "--samples=2", "--target-length=64", "--hyper-params", paths["search"], "--resume"],
        "evaluate": ["evaluate", *of, "--samples=2", *perplexity],
        "sweep": ["sweep", *of, "--samples=2", "--sweeps", "linear", "--target-length=64"],
        "finetune": ["finetune", *of, "--factors=ntk", "--recipe", paths["tuning"], "--save-steps=1", "--device=cpu"],
        "extend": ["extend", paths["extend"], "--device=cpu"],
    }
