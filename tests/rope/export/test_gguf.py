"""The GGUF written is the one read, plus factors and scaling keys that llama.cpp uses."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaForCausalLM

from longrope.rope import RescaleFactors
from longrope.rope.export import export_gguf

from .conftest import make_factors

gguf = pytest.importorskip("gguf", reason='GGUF export needs the extra: pip install "longrope[gguf]"')
MakeLlama = Callable[..., LlamaForCausalLM]
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"


def write(model: Any, path: Path, *args: Any, **tensors: np.ndarray) -> Path:
    from .llama_gguf import write_llama

    return write_llama(model, path, *args, **tensors)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return keys and tensors."""
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return keys, {tensor.name: tensor for tensor in reader.tensors}


def test_the_file_read_back_carries_factors_and_keys(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    source, factors = write(llama, tmp_path / "base.gguf"), make_factors(llama, 1.2)
    keys, tensors = read(export_gguf(source, factors, tmp_path / "out.gguf"))
    for name in (LONG, SHORT):
        assert tensors[name].tensor_type == gguf.GGMLQuantizationType.F32
        np.testing.assert_allclose(tensors[name].data, factors.lambdas, rtol=3e-7)
    assert keys["llama.rope.scaling.type"] == "longrope"
    assert keys["llama.rope.scaling.attn_factor"] == pytest.approx(1.2, rel=1e-7)
    assert keys["llama.rope.scaling.original_context_length"] == factors.original_length
    assert keys["llama.context_length"] == factors.target_length
    assert keys["llama.rope.freq_base"] == factors.theta
    assert keys["llama.rope.dimension_count"] == factors.rotary_dim


def test_everything_else_is_copied_byte_for_byte(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    source = write(llama, tmp_path / "base.gguf")
    before, after = read(source), read(export_gguf(source, make_factors(llama), tmp_path / "out.gguf"))
    assert {key: after[0][key] for key in before[0] if key != "llama.context_length"} == {
        key: value for key, value in before[0].items() if key != "llama.context_length"
    }
    assert set(after[1]) == {*before[1], LONG, SHORT}
    for name, tensor in before[1].items():
        assert after[1][name].tensor_type == tensor.tensor_type
        assert after[1][name].data.tobytes() == tensor.data.tobytes()


def test_quantised_weights_are_copied_raw(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "q8.gguf", "llama")
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_array("tokenizer.ggml.tokens", ["a", "ü"])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    blocks = gguf.quantize(
        np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32), gguf.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("token_embd.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    keys, tensors = read(export_gguf(tmp_path / "q8.gguf", make_factors(llama), tmp_path / "out.gguf"))
    assert tensors["token_embd.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0
    assert list(tensors["token_embd.weight"].shape) == [64, 4]
    assert tensors["token_embd.weight"].data.tobytes() == blocks.tobytes()
    assert keys["tokenizer.ggml.tokens"] == ["a", "ü"]
    assert keys["tokenizer.ggml.scores"] == [0.5, -1.0]


def test_factors_of_a_scaled_base_are_folded_in_and_removed(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    llama3 = np.linspace(1, 8, 8, dtype=np.float32)
    source, factors = write(llama, tmp_path / "base.gguf", rope_freqs=llama3), make_factors(llama)
    once = export_gguf(source, factors, tmp_path / "once.gguf")
    _, tensors = read(once)
    assert "rope_freqs.weight" not in tensors, "llama.cpp refuses a longrope file with it"
    np.testing.assert_allclose(tensors[LONG].data, llama3 * factors.lambdas, rtol=3e-7)
    _, tensors = read(export_gguf(once, factors, tmp_path / "twice.gguf"))
    np.testing.assert_allclose(tensors[LONG].data, llama3 * factors.lambdas**2, rtol=6e-7)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gptneox", "smollm3", "gemma3"])
def test_architectures_that_ignore_factors_are_refused_by_name(
    llama: LlamaForCausalLM, tmp_path: Path, architecture: str
) -> None:
    source = write(llama, tmp_path / "base.gguf", architecture)
    with pytest.raises(ValueError, match=f"got '{architecture}', which would silently run without them"):
        export_gguf(source, make_factors(llama), tmp_path / "out.gguf")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_tokens": 2}, "start_tokens must be 0 in an export, got 2"),
        ({"lambdas": np.ones((2, 8))}, "lambdas must be one row in an export, got 2 rows"),
        ({"lambdas": np.ones(4), "rotary_dim": 8}, r"factors must have length 8 \(rotary dim 16 / 2\), got 4"),
        ({"theta": 5e5}, "factors must be made for theta 10000.0, got 500000.0"),
        ({"target_length": 32}, "target_length must be above original_length"),
    ],
)
def test_factors_that_do_not_fit_are_refused(
    llama: LlamaForCausalLM, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    source = write(llama, tmp_path / "base.gguf")
    factors: RescaleFactors = replace(make_factors(llama), **changes)
    with pytest.raises(ValueError, match=message):
        export_gguf(source, factors, tmp_path / "out.gguf")
    assert list(tmp_path.iterdir()) == [source]


def test_files_that_can_not_be_used_are_refused(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    source, factors = write(llama, tmp_path / "base.gguf"), make_factors(llama)
    with pytest.raises(ValueError, match="gguf_file must be a file that exists"):
        export_gguf(tmp_path / "nowhere.gguf", factors, tmp_path / "out.gguf")
    before = source.read_bytes()
    with pytest.raises(ValueError, match="output must be a new file"):
        export_gguf(source, factors, source)
    assert source.read_bytes() == before
    (tmp_path / "text.gguf").write_text("this is no GGUF file at all, but long enough to have a header")
    with pytest.raises(ValueError, match="gguf_file must be a GGUF file, got .*text.gguf"):
        export_gguf(tmp_path / "text.gguf", factors, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_a_yarn_file_is_refused(tmp_path: Path, llama: LlamaForCausalLM) -> None:
    writer = gguf.GGUFWriter(tmp_path / "yarn.gguf", "llama")
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="unscaled or of type longrope, got scaling 'yarn'"):
        export_gguf(tmp_path / "yarn.gguf", make_factors(llama), tmp_path / "out.gguf")


def test_a_full_disk_leaves_nothing_behind(
    llama: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(llama, tmp_path / "base.gguf")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)
    with pytest.raises(OSError, match="No space"):
        export_gguf(source, make_factors(llama), tmp_path / "out.gguf")
    assert list(tmp_path.iterdir()) == [source]


def test_a_missing_package_is_named_with_its_extra(
    llama: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match=r'pip install "longrope\[gguf\]"'):
        export_gguf(tmp_path / "base.gguf", make_factors(llama), tmp_path / "out.gguf")
