"""`longrope export` from the command line: every source of factors, for long inputs and for short ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaConfig

from longrope.cli.main import main
from longrope.rope import RescaleFactors, load_factors

PUBLISHED = "published:llama2-7b-128k"
LONG = "published:llama2-7b-256k"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a config with the RoPE of LLaMA2-7B; weights are not exported here."""
    folder = tmp_path_factory.mktemp("base")
    config(max_position_embeddings=4096).save_pretrained(folder)
    return folder


def config(**settings: object) -> LlamaConfig:
    sizes = {"hidden_size": 128, "num_attention_heads": 1, "head_dim": 128, "num_hidden_layers": 1, "vocab_size": 8}
    return LlamaConfig(**{"intermediate_size": 8, "rope_parameters": plain(), **sizes, **settings})


def plain() -> dict[str, object]:
    return {"rope_type": "default", "rope_theta": 1e4}


def source(kind: str, folder: Path) -> str:
    """Return short factors as a source of some kind; those that can choose hold 1.5 for every pair."""
    made = RescaleFactors(np.full(64, 1.5), 4096, 8192, 1e4, 128, attention_factor=1.04)
    path = folder / "source"
    path.mkdir()
    if kind == "file":
        made.save(path / "short.json")
        return str(path / "short.json")
    if kind == "run folder":
        made.save(path / "factors.json")
    elif kind == "csv":
        made.save(path / "short.csv")
        return str(path / "short.csv")
    elif kind == "yarn model":
        parameters = {**plain(), "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096}
        config(max_position_embeddings=8192, rope_parameters=parameters).save_pretrained(path)
    elif kind == "longrope model":
        lists = {"short_factor": [1.5] * 64, "long_factor": [2.0] * 64, "original_max_position_embeddings": 4096}
        parameters = {**plain(), "rope_type": "longrope", **lists}
        config(max_position_embeddings=8192, rope_parameters=parameters).save_pretrained(path)
    return PUBLISHED if kind == "published" else str(path)


@pytest.mark.filterwarnings("ignore:Short and long factors differ")
@pytest.mark.parametrize("kind", ["file", "run folder", "csv", "published", "yarn model", "longrope model"])
def test_every_kind_of_source_works_as_short_factors(
    base: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    short, output = source(kind, tmp_path), tmp_path / "out"
    command = ["export", "--model", str(base), "--factors", LONG, "--weights", "none", "--output-dir", str(output)]
    assert main([*command, "--short-factors", short]) == 0, capsys.readouterr().err
    parameters = json.loads((output / "config.json").read_text())["rope_parameters"]
    long = load_factors(LONG)
    expected = np.full(64, 1.5) if kind not in ("published", "yarn model") else load_factors(short).lambdas
    np.testing.assert_allclose(parameters["short_factor"], expected, rtol=1e-6)
    np.testing.assert_allclose(parameters["long_factor"], long.lambdas, rtol=1e-6)
    assert parameters["attention_factor"] == long.attention_factor
    told = f"take the attention factor of the long ones, {long.attention_factor:.5f}" in capsys.readouterr().out
    assert told == (kind != "csv")  # a CSV holds none


def test_short_factors_with_start_tokens_are_scored_without_them_or_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(load_factors(LONG), start_tokens=4).save(tmp_path / "factors.json")
    command = ["export", "--model", str(base), "--factors", LONG, "--short-factors", str(tmp_path)]
    assert main([*command, "--weights", "none", "--output-dir", str(tmp_path / "out")]) == 2
    assert "tokenized must name documents when factors have start tokens" in capsys.readouterr().err
