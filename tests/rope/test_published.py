"""The shipped tables are what their index and README say, and load by name."""

import math
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml

from longrope.hyperparams import preset
from longrope.rope import RopeGeometry, load_factors

FOLDER = Path(str(files("longrope.hyperparams"))) / "published"
INDEX = yaml.safe_load((FOLDER / "index.yaml").read_text())
ROWS = [
    [cell.strip() for cell in line.strip("| \n").split("|")]
    for line in (FOLDER / "README.md").read_text().splitlines()
    if re.match(r"\| `", line)
]


def test_the_index_the_readme_and_the_files_are_the_same_thirty_tables() -> None:
    assert len(INDEX["tables"]) == 30
    assert [row[0].strip("`") for row in ROWS] == list(INDEX["tables"])
    assert {table["file"] for table in INDEX["tables"].values()} == {path.name for path in FOLDER.glob("*.csv")}
    assert "Copyright (c) Microsoft Corporation" in (FOLDER / "LICENSE").read_text()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_a_published_table_reads_as_its_file_and_as_the_readme_describes_it(row: list[str]) -> None:
    name, file, target, stage, low, high, ones, falls = row
    read = load_factors(f"published:{name.strip('`')}", RopeGeometry(128, 1e4, 4096))
    values = [float(line) for line in (FOLDER / file).read_text().split()]
    assert read.lambdas.tolist() == values and len(values) == 64
    assert (f"{min(values):g}", f"{max(values):g}") == (low, high)
    assert next(i for i, value in enumerate(values) if value != 1) == int(ones)
    assert ", ".join(str(i) for i in range(1, 64) if values[i] < values[i - 1]) == falls.replace("-", "")
    assert (read.original_length, read.target_length, read.theta) == (4096, int(target), 1e4)
    assert read.attention_factor == pytest.approx(math.sqrt(math.log(int(target)) / math.log(4096)))
    assert (read.start_tokens, read.provenance["stage"], read.provenance["licence"]) == (0, stage, "MIT")


def test_the_tables_at_the_published_lengths_have_the_attention_factors_of_the_code() -> None:
    for name, value in (("128k", 1.19024), ("256k", 1.22474), ("128k/2048k", 1.32288), ("128k/4k", 1.0)):
        assert load_factors(f"published:mistral-7b-{name}").attention_factor == pytest.approx(value, abs=5e-6)


def test_second_stage_tables_are_products_on_a_grid() -> None:
    first, second = (load_factors(f"published:llama2-7b-256k{name}").lambdas for name in ("", "/2048k"))
    steps = second / first * 100
    assert np.abs(steps - np.round(steps)).max() < 0.02 and steps.max() <= 900


def test_unknown_published_names_suggest_and_list() -> None:
    with pytest.raises(
        ValueError, match="'llama2-7b-265k'; did you mean 'llama2-7b-256k'. available: llama2-7b-128k, "
    ):
        load_factors("published:llama2-7b-265k")
    with pytest.raises(ValueError, match=r"factors must have length 32 \(rotary dim 64 / 2\), got 64 in published:"):
        load_factors("published:llama2-7b-256k", RopeGeometry(64, 1e4, 4096))


def test_settings_are_found_by_name_or_path(tmp_path: Path) -> None:
    assert preset("longrope").name == "longrope.yaml" and preset("longrope").is_file()
    (tmp_path / "own.yaml").write_text("{}")
    assert preset(str(tmp_path / "own.yaml")) == tmp_path / "own.yaml"
    with pytest.raises(ValueError, match="must be a file that exists or one of .*longrope, .*tiny.*, got 'x'"):
        preset("x")
