"""GGUF files are models like any other; adapters and quantised weights are refused by name."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from longrope.evaluation.comparison.results import model_fingerprint
from longrope.evaluation.scoring.checkpoint import find_checkpoint, refuse_quantised
from longrope.evaluation.scoring.model import load_model, read_config, read_tokenizer
from longrope.rope import rope_geometry
from longrope.rope.describe import describe_rope


def test_a_gguf_file_gives_the_model_and_tokenizer_that_it_was_made_from(model_folder: Path, gguf_model: Path) -> None:
    ours, tokenizer = load_model(str(gguf_model), device="cpu")
    theirs, original = load_model(str(model_folder), device="cpu")
    assert ours.dtype == torch.float32
    assert not ours.training
    ids = torch.arange(64)[None] % 257
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits)
    assert original.get_vocab().items() <= tokenizer.get_vocab().items()  # which has GPT-2's own end of text, too
    assert tokenizer.encode("def f(x):\n  ü") == original.encode("def f(x):\n  ü")


def test_quantised_blocks_are_unpacked_to_the_dtype_asked_for(make_llama: Any, tokenizer: Any, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    from ...rope.export.llama_gguf import write_llama

    model = make_llama(vocab_size=len(tokenizer))
    kind = gguf.GGMLQuantizationType.Q8_0
    file = write_llama(model, tmp_path / "q8.gguf", tokenizer=tokenizer, kinds={"blk.0.ffn_up.weight": kind})
    loaded, _ = load_model(str(file), "bfloat16", "cpu")
    weight: Any = loaded.get_parameter("model.layers.0.mlp.up_proj.weight")
    original = model.get_parameter("model.layers.0.mlp.up_proj.weight").detach()
    expected = gguf.dequantize(gguf.quantize(original.numpy(), kind), kind)
    assert weight.dtype == torch.bfloat16
    assert torch.equal(weight, torch.from_numpy(expected).bfloat16())
    assert not np.array_equal(expected, original.numpy())
    assert rope_geometry(loaded).rotary_dim == 16


def test_the_rope_of_a_gguf_is_read_without_its_weights(model_folder: Path, gguf_model: Path) -> None:
    ours, theirs = (describe_rope(read_config(str(model))) for model in (gguf_model, model_folder))
    np.testing.assert_array_equal(ours.geometry.inv_freq, theirs.geometry.inv_freq)
    assert ours.geometry.original_length == theirs.geometry.original_length == 32


def test_the_fingerprint_of_a_gguf_follows_its_bytes_and_not_its_place(gguf_model: Path, tmp_path: Path) -> None:
    config = read_config(str(gguf_model))
    before = model_fingerprint(config, str(gguf_model))
    moved = Path(shutil.copy(gguf_model, tmp_path / "moved.gguf"))
    changed = tmp_path / "changed" / "moved.gguf"
    changed.parent.mkdir()
    changed.write_bytes(moved.read_bytes()[:-1] + b"\1")
    assert before["sha256"] is not None
    assert model_fingerprint(config, str(changed)) != before
    shutil.copy(gguf_model, changed.with_name(gguf_model.name))
    assert model_fingerprint(config, str(changed.with_name(gguf_model.name))) == before


def test_a_gguf_whose_rope_is_scaled_is_refused_since_transformers_would_drop_it(
    make_llama: Any, tokenizer: Any, tmp_path: Path
) -> None:
    pytest.importorskip("gguf")
    from ...rope.export.llama_gguf import write_llama

    model = make_llama(vocab_size=len(tokenizer))
    file = write_llama(model, tmp_path / "scaled.gguf", tokenizer=tokenizer, rope_freqs=np.full(8, 4.0))
    with pytest.raises(ValueError, match=r"unscaled RoPE.*scaled\.gguf with rope_freqs.*converted from"):
        load_model(str(file), device="cpu")


def test_gguf_files_that_are_missing_broken_or_unreadable_here_are_one_sentence(
    gguf_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"must be a GGUF file that exists, got .*none\.gguf"):
        read_config(str(tmp_path / "none.gguf"))
    (tmp_path / "text.gguf").write_text("this is no model at all, but some text")
    with pytest.raises(ValueError, match=r"readable GGUF file, got .*text\.gguf"):
        read_tokenizer(str(tmp_path / "text.gguf"))
    (tmp_path / "torn.gguf").write_bytes(gguf_model.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"readable GGUF file, got .*torn\.gguf"):
        read_config(str(tmp_path / "torn.gguf"))
    monkeypatch.setitem(sys.modules, "gguf", None)
    unread = shutil.copy(gguf_model, tmp_path / "unread.gguf")  # a file is read once
    with pytest.raises(ValueError, match=r"needs the package gguf.*pip install gguf"):
        read_config(str(unread))


def test_an_adapter_is_refused_with_its_base_and_the_remedy(model_folder: Path, tmp_path: Path) -> None:
    adapter = {"base_model_name_or_path": "some/base", "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"adapter of some/base without its weights.*merge_and_unload\(\)"):
        load_model(str(tmp_path), device="cpu")
    shutil.copytree(model_folder, tmp_path, dirs_exist_ok=True)  # as after merging into the same folder
    assert find_checkpoint(str(tmp_path)).source == str(tmp_path)


def test_pickled_weights_are_refused_with_the_command_that_converts_them(
    model_folder: Path, make_llama: Any, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    torch.save(make_llama(vocab_size=257).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="weights as safetensors, got .* without; pickled ones") as refusal:
        load_model(str(tmp_path), device="cpu")
    found = re.search(r'python -c "(.+?)"', str(refusal.value))
    assert found is not None
    exec(found[1].replace("FOLDER", str(tmp_path)), {})
    weights, expected = load_model(str(tmp_path), device="cpu")[0].state_dict(), make_llama(vocab_size=257).state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq", "bits": 4}, "awq"),
    ],
)
def test_quantised_weights_are_refused_by_name(model_folder: Path, tmp_path: Path, settings: Any, name: str) -> None:
    shutil.copytree(model_folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    with pytest.raises(ValueError, match=rf"unquantised weights, got .* quantised by {name}.*model it was made from"):
        load_model(str(tmp_path), device="cpu")
    assert describe_rope(read_config(str(tmp_path))).geometry.rotary_dim == 16  # export and doctor need no weights


def test_formats_that_transformers_unpacks_itself_are_left_to_it() -> None:
    refuse_quantised("m", LlamaConfig())
    refuse_quantised("m", LlamaConfig.from_dict({"quantization_config": {"quant_method": "mxfp4"}}))
