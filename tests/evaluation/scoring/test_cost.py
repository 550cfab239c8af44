"""The formulas of memory agree with what is alive at the peak of what they stand for, operation by operation."""

from inspect import unwrap
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Phi3Config, PreTrainedConfig, Qwen3Config
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from longrope.evaluation.objectives.gradients import recomputed
from longrope.evaluation.scoring import attention, cost
from longrope.evaluation.scoring.chunks import ROWS, in_chunks
from longrope.evaluation.scoring.cost import (
    MEMORY_TOLERANCE,
    ModelSize,
    cache_bytes,
    forward_bytes,
    generation_bytes,
    gradient_bytes,
    model_size,
    weight_bytes,
)
from longrope.evaluation.scoring.generation import greedy
from longrope.evaluation.scoring.loss import differentiable_token_nats, token_nats
from longrope.rope import install
from longrope.rope.methods import YaRN

from .live import LiveBytes, flash_like_attention

LENGTH = 192


SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 48,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def changed(**changes: int) -> dict[str, Any]:
    return {**SIZES, **changes}


MODELS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "narrow": LlamaConfig(**changed(intermediate_size=16)),
    "vocabulary": LlamaConfig(**changed(vocab_size=1500)),
    "deep": LlamaConfig(**changed(num_hidden_layers=6)),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "qwen3": Qwen3Config(**SIZES),
    "phi3": Phi3Config(**{name: value for name, value in SIZES.items() if name != "head_dim"}),
}


def build(name: str, dtype: torch.dtype, kernel: str = "sdpa") -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(MODELS[name], dtype=dtype, attn_implementation=kernel).eval()
    return model.requires_grad_(False)


def peak_of(model: Any, kind: str, rows: int = 1, length: int = LENGTH, chunk: int = ROWS) -> int:
    ids = torch.zeros(rows, length, dtype=torch.long, device=model.device)
    with install(model, 64, canary=False) as installation, LiveBytes(model) as live:
        factors = YaRN(length / 64).factors(installation.geometry)
        if kind == "gradient":
            with torch.enable_grad(), in_chunks(model, chunk), recomputed(installation.layers):
                changes = installation.set_differentiable(factors)
                torch.autograd.grad(differentiable_token_nats(model, ids).double().sum(), changes)
        else:
            installation.set([factors] * rows)
            with torch.no_grad(), in_chunks(model, chunk):  # inference mode hides what operations of several make
                unwrap(token_nats)(model, ids)
    return live.peak


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["forward", "gradient"])
@pytest.mark.parametrize("name", MODELS)
def test_a_measured_peak_is_within_the_tolerance(name: str, kind: str, dtype: torch.dtype) -> None:
    model = build(name, dtype)
    need = forward_bytes if kind == "forward" else gradient_bytes
    expected = need(model_size(model), LENGTH, dtype.itemsize)
    assert peak_of(model, kind) == pytest.approx(expected, rel=MEMORY_TOLERANCE)


@pytest.mark.parametrize("chunk", [16, 64])
@pytest.mark.parametrize("kind", ["forward", "gradient"])
@pytest.mark.parametrize("name", MODELS)
def test_chunks_of_feed_forward_layers_and_norms_are_counted(name: str, kind: str, chunk: int) -> None:
    model = build(name, torch.bfloat16)
    need = forward_bytes if kind == "forward" else gradient_bytes
    expected = need(model_size(model), LENGTH, 2, chunk=chunk)
    assert peak_of(model, kind, chunk=chunk) == pytest.approx(expected, rel=MEMORY_TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["forward", "gradient"])
def test_attention_that_keeps_its_scores_is_counted(kind: str, dtype: torch.dtype) -> None:
    model = build("llama", dtype, "eager")
    need = forward_bytes if kind == "forward" else gradient_bytes
    without, expected = (need(model_size(model), LENGTH, dtype.itemsize, eager=eager) for eager in (False, True))
    measured = peak_of(model, kind)
    assert measured == pytest.approx(expected, rel=0.25)
    assert measured > 1.5 * without


def test_rows_are_counted_one_by_one() -> None:
    model = build("llama", torch.float32)
    assert peak_of(model, "forward", 4) == pytest.approx(
        forward_bytes(model_size(model), LENGTH, 4, rows=4), rel=MEMORY_TOLERANCE
    )


@pytest.mark.parametrize("piece", [48, LENGTH])
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_prompt_takes_its_cache(name: str, offload: bool, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "OFFLOADED_CHUNK" if offload else "PREFILL_CHUNK", piece)
    monkeypatch.setattr(attention, "MASK_NUMBERS", 1000)  # a constant that is nothing beside a real model
    model = build(name, torch.float32)
    size = model_size(model)
    with LiveBytes(model) as live, torch.no_grad():
        unwrap(greedy)(model, torch.zeros(1, LENGTH, dtype=torch.long), 2, prefill_chunk=piece, offload=offload)
    on_cpu = cache_bytes(size, LENGTH, 4) if offload else 0  # which is the device here
    expected = generation_bytes(size, LENGTH, 4, offload=offload) + on_cpu
    assert live.peak == pytest.approx(expected, rel=MEMORY_TOLERANCE)


def test_a_config_has_the_sizes_of_its_model() -> None:
    model = build("llama", torch.float32)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(MODELS["llama"])
    assert model_size(skeleton) == model_size(model)
    assert weight_bytes(model_size(model), 4) == sum(p.numel() * 4 for p in model.parameters())


LLAMA_8B = ModelSize(8_030_261_248, 7_504_924_672, 32, 4096, 14336, 32, 8, 128, 128256)


def large(layers: int) -> Any:
    """Return a Llama 3 8B with fewer layers, without numbers."""
    config = LlamaConfig(vocab_size=128256, intermediate_size=14336, num_hidden_layers=layers, num_key_value_heads=8)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("kind", "layers", "length"), [("forward", 2, 16384), ("forward", 4, 131072), ("gradient", 8, 131072)]
)
def test_a_large_model_at_a_large_length_takes_what_the_formula_says(
    kind: str, layers: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", flash_like_attention)
    monkeypatch.setattr(attention, "sdpa_attention_forward", flash_like_attention)
    model = large(layers)
    expected = (forward_bytes if kind == "forward" else gradient_bytes)(model_size(model), length, 2)
    assert peak_of(model, kind, length=length) == pytest.approx(expected, rel=MEMORY_TOLERANCE)


def test_llama_3_8b_fits_the_cards_that_the_documentation_names() -> None:
    assert model_size(large(32)) == LLAMA_8B
    with_error = 1 + MEMORY_TOLERANCE
    million, short = 2**20, 131072
    assert forward_bytes(LLAMA_8B, million, 2) * with_error < 141e9
    assert gradient_bytes(LLAMA_8B, short, 2) * with_error < 80e9
    assert gradient_bytes(LLAMA_8B, 2 * short, 2, offload=True) * with_error < 80e9
    assert (
        generation_bytes(LLAMA_8B, 2 * million, 2, offload=True) * with_error
        < 80e9
        < cache_bytes(LLAMA_8B, 2 * million, 2)
    )
    assert forward_bytes(LLAMA_8B, million, 2, chunk=million) * with_error > 141e9, "which chunks avoid"
