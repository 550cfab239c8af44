"""Searches by gradient, for a front, and over three pieces: to their factors, and resumed from a part of the way."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from longrope.cli.main import main
from longrope.evolution import read_history
from longrope.rope import load_factors

from .small import without_times

SETTINGS = {
    "pareto": {"population_size": 20, "num_iterations": 3, "short_documents": 2},
    "paper": {
        "population_size": 16, "num_iterations": 3, "num_mutations": 4, "num_crossovers": 4, "num_parents": 4,
        "pieces": True,
    },
}  # fmt: skip
TARGET, ORIGINAL = 128, 32


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for index, word in enumerate(("alpha", "beta", "gamma")):
        (folder / f"{word}.txt").write_text("".join(f"{word} {i * (index + 3)} " for i in range(60)))
    command = ["tokenize", "--model", model_folder, "--dataset", folder, "--save-tokenized", folder / "tokens"]
    assert main([str(part) for part in command]) == 0
    return folder / "tokens"


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def finished(
    request: pytest.FixtureRequest, tokens: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Path]:
    """Return the command of a search without its folder, and its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = folder / "settings.yaml"
    settings.write_text(
        yaml.safe_dump({"strategy": request.param, "start_token_choices": [0, 4]} | SETTINGS[request.param])
    )
    named = {
        "model": model_folder,
        "tokenized": tokens,
        "target-length": TARGET,
        "samples": 2,
        "hyper-params": settings,
    }
    command = ["search", *(str(part) for name, value in named.items() for part in (f"--{name}", value))]
    assert main([*command, "--output-dir", str(folder / "run")]) == 0
    return command, folder / "run"


def test_a_search_gives_factors_of_its_strategy(finished: tuple[list[str], Path]) -> None:
    _, folder = finished
    factors = load_factors(folder)
    strategy = factors.provenance["hyper_params"]["strategy"]
    assert strategy == folder.parent.name.rstrip("0123456789")
    assert factors.target_length == TARGET and np.all(np.diff(factors.lambdas) >= 0)
    rows = without_times(folder)
    if strategy == "pareto":
        assert {row["document"] < 2: row["forwarded"] for row in rows} == {True: TARGET, False: ORIGINAL}


def test_a_search_resumed_from_a_part_of_its_history_ends_alike(
    finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    command, folder = finished
    rows = read_history(folder / "history.jsonl").rows
    calls = [number for number, row in enumerate(rows, start=1) if row.rows_left == 0]
    resumed = tmp_path / "run"
    resumed.mkdir()
    lines = (folder / "history.jsonl").read_text().splitlines(keepends=True)
    (resumed / "history.jsonl").write_text("".join(lines[: calls[len(calls) * 2 // 3]]))
    (resumed / "config.yaml").write_bytes((folder / "config.yaml").read_bytes())
    assert main([*command, "--output-dir", str(resumed), "--resume"]) == 0
    assert (resumed / "factors.json").read_bytes() == (folder / "factors.json").read_bytes()
    assert without_times(resumed) == without_times(folder)


def test_a_pareto_search_leaves_its_front_and_the_knee_as_its_factors(finished: tuple[list[str], Path]) -> None:
    _, folder = finished
    if not folder.parent.name.startswith("pareto"):
        assert not (folder / "pareto.csv").exists()
        return
    rows = list(csv.DictReader((folder / "pareto.csv").read_text().splitlines()))
    assert sorted(row["factors"] for row in rows) == sorted(f"front/{p.name}" for p in (folder / "front").iterdir())
    losses = [(float(row["long_perplexity"]), float(row["short_perplexity"])) for row in rows]
    assert losses == sorted(losses) and [short for _, short in losses] == sorted((s for _, s in losses), reverse=True)
    (knee,) = [row for row in rows if row["knee"] == "1"]
    assert load_factors(folder / knee["factors"]) == load_factors(folder)
