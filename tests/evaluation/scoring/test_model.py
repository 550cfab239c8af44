import warnings

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from longrope.evaluation.scoring import model as model_module
from longrope.evaluation.scoring.model import load_model, pick_attention, pick_device, pick_dtype


@pytest.fixture
def folder(llama, tokenizer, tmp_path):
    llama.to(torch.bfloat16).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_a_saved_model_is_loaded_for_evaluation_in_float32_on_cpu(folder):
    model, tokenizer = load_model(folder, device="cpu")
    assert model.dtype == torch.float32
    assert not model.training
    assert model.config._attn_implementation == "sdpa"
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id


def test_inverse_frequencies_stay_exact_whatever_the_dtype(folder):
    exact = 10000.0 ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    for dtype in ("bfloat16", "float32"):
        model, _ = load_model(folder, dtype=dtype, device="cpu")
        assert model.dtype == getattr(torch, dtype)
        assert torch.allclose(model.model.rotary_emb.inv_freq.double(), exact, rtol=1e-6)  # bfloat16: 4e-3


@pytest.mark.parametrize("model", ["/no/such/model", "./nothing", "nobody/no-such-model"])
def test_a_missing_model_is_one_sentence(model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=rf"must be a .*{model}") as caught:
        load_model(model, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="must be a readable folder or hub id"):
        load_model(str(tmp_path), device="cpu")


def test_gemma2_gets_the_eager_kernel_that_it_needs(tokenizer, tmp_path):
    config = Gemma2Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, head_dim=16
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = load_model(str(tmp_path), device="cpu")
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("requested", "dtype", "device", "available", "expected"),
    [
        ("auto", "auto", "cuda", True, "flash_attention_2"),
        ("auto", "auto", "cuda", False, "sdpa"),
        ("auto", "float32", "cuda", True, "sdpa"),
        ("auto", "bfloat16", "cpu", True, "sdpa"),
        ("eager", "auto", "cuda", True, "eager"),
    ],
)
def test_flash_attention_is_taken_only_where_it_can_run(monkeypatch, requested, dtype, device, available, expected):
    monkeypatch.setattr(model_module, "is_flash_attn_2_available", lambda: available)
    assert pick_attention(requested, "llama", dtype, device) == expected


def test_dtypes_by_device():
    assert pick_dtype("auto", "cuda:1") == torch.bfloat16
    assert pick_dtype("auto", "cpu") == torch.float32
    assert pick_dtype("auto", "mps") == "auto"
    with pytest.raises(ValueError, match="dtype must be auto or a torch dtype"):
        pick_dtype("float17", "cpu")


@pytest.fixture
def card(monkeypatch, tmp_path):
    """Let an NVIDIA card be here that torch can't use."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(model_module.shutil, "which", lambda _: None)
    monkeypatch.setattr(model_module, "DRIVER", (str(tmp_path),))


@pytest.mark.parametrize(
    ("built_for", "words"), [(None, "CPU only.*install a CUDA build"), ("12.8", "CUDA 12.8.*update the driver")]
)
def test_a_card_that_torch_cannot_use_is_told(card, monkeypatch, built_for, words):
    monkeypatch.setattr(torch.version, "cuda", built_for)
    with pytest.warns(UserWarning, match=words) as caught:
        assert pick_device("auto") == "cpu"
    assert len(caught) == 1


@pytest.mark.parametrize("hidden", ["asked for the CPU", "hidden by the user", "no driver"])
def test_nothing_is_told_of_a_card_that_is_not_wanted_or_not_there(card, monkeypatch, hidden):
    if hidden == "hidden by the user":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if hidden == "no driver":
        monkeypatch.setattr(model_module, "DRIVER", ("/no/such/driver",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pick_device("cpu" if hidden == "asked for the CPU" else "auto") == "cpu"
