"""The GGUF written is the one read, plus factors and scaling keys that llama.cpp uses."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from longrope.rope import RescaleFactors, apply_factors
from longrope.rope.export import export_gguf

from .conftest import make_factors

gguf = pytest.importorskip("gguf", reason="GGUF export needs a package: pip install gguf")
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


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate neighbouring dimensions (2i, 2i + 1) of x (T, heads, d), as llama.cpp does for the llama architecture."""
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


def forward(path: Path, ids: torch.Tensor) -> torch.Tensor:
    """Return the logits (T, V) of a llama GGUF by the rules of llama.cpp, from what the file says and nothing else."""
    keys, tensors = read(path)
    weights = {name: torch.tensor(tensor.data) for name, tensor in tensors.items()}
    heads, kv_heads = keys["llama.attention.head_count"], keys["llama.attention.head_count_kv"]
    dim, eps = keys["llama.rope.dimension_count"], keys["llama.attention.layer_norm_rms_epsilon"]
    base = keys["llama.rope.freq_base"] ** (-torch.arange(0, dim, 2).double() / dim)
    angles = torch.arange(len(ids))[:, None, None] * base / weights.get(LONG, torch.ones(1))
    attention_factor = keys.get("llama.rope.scaling.attn_factor", 1.0)
    tables = (attention_factor * angles.cos()).float(), (attention_factor * angles.sin()).float()

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weights[f"{name}.weight"]

    x = weights["token_embd.weight"][ids]
    for layer in range(keys["llama.block_count"]):
        block = f"blk.{layer}"
        h = norm(x, f"{block}.attn_norm")
        q, k, v = (
            (h @ weights[f"{block}.attn_{part}.weight"].T).unflatten(-1, (-1, dim)).transpose(0, 1) for part in "qkv"
        )
        q, k = (rotated(t.transpose(0, 1), *tables).transpose(0, 1) for t in (q, k))
        k, v = (t.repeat_interleave(heads // kv_heads, dim=0) for t in (k, v))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + mixed.transpose(0, 1).flatten(1) @ weights[f"{block}.attn_output.weight"].T
        h = norm(x, f"{block}.ffn_norm")
        gate = torch.nn.functional.silu(h @ weights[f"{block}.ffn_gate.weight"].T)
        x = x + (gate * (h @ weights[f"{block}.ffn_up.weight"].T)) @ weights[f"{block}.ffn_down.weight"].T
    return norm(x, "output_norm") @ weights.get("output.weight", weights["token_embd.weight"]).T


def test_a_forward_by_the_rules_of_llama_cpp_gives_our_logits(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    ids, factors = torch.arange(128) * 7 % 64, make_factors(llama, 1.2)
    source = write(llama, tmp_path / "base.gguf")
    with torch.no_grad():
        plain = llama(input_ids=ids[None]).logits[0]
        with apply_factors(llama, factors):
            expected = llama(input_ids=ids[None]).logits[0]
        torch.testing.assert_close(forward(source, ids), plain, atol=1e-4, rtol=0)
        exported = forward(export_gguf(source, factors, tmp_path / "out.gguf"), ids)
    torch.testing.assert_close(exported, expected, atol=1e-4, rtol=0)
    assert (exported - plain).abs().max() > 0.1


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
    with pytest.raises(ValueError, match=f"got '{architecture}', of which it refuses a file with them or runs without"):
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
    with pytest.raises(ValueError, match="source must be a GGUF file or a model folder, got .*nowhere.gguf"):
        export_gguf(tmp_path / "nowhere.gguf", factors, tmp_path / "out.gguf")
    before = source.read_bytes()
    with pytest.raises(ValueError, match="output must be a new file"):
        export_gguf(source, factors, source)
    assert source.read_bytes() == before
    (tmp_path / "text.gguf").write_text("this is no GGUF file at all, but long enough to have a header")
    with pytest.raises(ValueError, match="source must be a GGUF file or a model folder, got .*text.gguf"):
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


def test_a_missing_package_is_named(llama: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match="pip install gguf"):
        export_gguf(tmp_path / "base.gguf", make_factors(llama), tmp_path / "out.gguf")
