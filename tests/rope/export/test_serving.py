"""Command lines parse as a shell and JSON would, and say where an engine departs from the factors."""

import json
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from longrope.rope import RescaleFactors
from longrope.rope.export import ServingCommand, export_hf, sglang_command, vllm_command

from .conftest import ORIGINAL, TARGET, make_factors

Save = Callable[..., tuple[Path, nn.Module]]
Command = Callable[..., ServingCommand]
SU = math.sqrt(1 + math.log(TARGET / ORIGINAL) / math.log(ORIGINAL))


@pytest.fixture
def export(saved: Save, tmp_path: Path) -> tuple[Path, RescaleFactors]:
    base, model = saved()
    factors = make_factors(model)
    return export_hf(base, factors, tmp_path / "a folder; with 'quotes'", weights="none"), factors


def test_an_export_is_served_at_its_target_length(export: tuple[Path, RescaleFactors]) -> None:
    folder, factors = export
    assert shlex.split(vllm_command(folder, factors).command) == [
        *("vllm", "serve", str(folder), "--max-model-len", str(TARGET))
    ]
    assert shlex.split(sglang_command(folder, factors).command) == [
        *("python", "-m", "sglang.launch_server", "--model-path", str(folder), "--context-length", str(TARGET))
    ]


@pytest.mark.parametrize(
    ("command", "flag"), [(vllm_command, "--hf-overrides"), (sglang_command, "--json-model-override-args")]
)
def test_overrides_of_a_base_model_are_the_rope_of_the_export(
    export: tuple[Path, RescaleFactors], command: Command, flag: str
) -> None:
    folder, factors = export
    words = shlex.split(command(folder, factors, base_model="meta-llama/Llama-2-7b-hf").command)
    assert "meta-llama/Llama-2-7b-hf" in words
    assert str(folder) not in words
    overrides = json.loads(words[words.index(flag) + 1])
    config = json.loads((folder / "config.json").read_text())
    assert overrides == {key: config[key] for key in ("rope_parameters", "max_position_embeddings")}
    assert overrides["rope_parameters"]["rope_theta"] == factors.theta, "the override replaces the whole dictionary"


@pytest.mark.parametrize("command", [vllm_command, sglang_command])
def test_an_attention_factor_that_the_engine_would_not_use_is_named(
    export: tuple[Path, RescaleFactors], command: Command
) -> None:
    folder, factors = export
    warning = command(folder, factors).warning
    assert warning is not None
    assert f"{factors.attention_factor:.6g}" in warning
    assert f"{SU:.6g}" in warning
    assert "short_mscale and long_mscale" in warning
    assert command(folder, replace(factors, attention_factor=SU)).warning is None


def test_a_folder_without_an_export_is_refused(tmp_path: Path, export: tuple[Path, RescaleFactors]) -> None:
    _, factors = export
    with pytest.raises(ValueError, match="folder must be one that export_hf wrote"):
        vllm_command(tmp_path, factors, base_model="base")
    (tmp_path / "config.json").write_text('{"text_config": {}}')
    with pytest.raises(ValueError, match="serve the exported folder itself"):
        sglang_command(tmp_path, factors, base_model="base")
