"""The description of a model's RoPE, from a config alone and from a model."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Cohere2Config,
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPTNeoXConfig,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    SmolLM3Config,
)

from longrope.rope import RescaleFactors, install
from longrope.rope.describe import LocalRope, describe_rope

TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}


def llama_3() -> LlamaConfig:
    parameters = {"rope_type": "default", "rope_theta": 5e5}
    return LlamaConfig(
        hidden_size=4096, num_attention_heads=32, max_position_embeddings=8192, rope_parameters=parameters
    )


def test_llama_3_has_the_critical_dimension_of_the_longrope2_paper() -> None:
    rope = describe_rope(llama_3())
    geometry = rope.geometry
    assert (geometry.theta, geometry.rotary_dim, geometry.pairs, geometry.original_length) == (5e5, 128, 64, 8192)
    assert geometry.critical_dimension == 35
    assert rope.incomplete_pairs == tuple(range(35, 64))
    assert (rope.model_type, rope.rope_type, rope.layout, rope.unscaled_length) == ("llama", "default", "half", None)
    assert (len(rope.layers), rope.layers_without_rope, rope.sliding_window, rope.local) == (32, (), None, None)


def test_phi_3_mini_128k_is_described_with_its_long_factors() -> None:
    long_factors = np.linspace(1.0, 64.0, 48).tolist()
    config = Phi3Config(
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0] * 48,
            "long_factor": long_factors,
        },
    )
    rope = describe_rope(config)
    assert (rope.rope_type, rope.geometry.original_length, rope.unscaled_length) == ("longrope", 131072, 4096)
    assert rope.geometry.attention_factor == pytest.approx(1.19024, abs=1e-5)
    np.testing.assert_allclose(rope.geometry.wavelengths[-1], 2 * np.pi * 1e4 ** (47 / 48) * 64, rtol=1e-6)
    assert describe_rope(config, original_length=4096).geometry.original_length == 4096


def test_gemma_3_has_a_global_and_a_local_rope() -> None:
    rope = describe_rope(Gemma3Config())
    assert rope.model_type == "gemma3_text"
    assert (rope.geometry.theta, rope.geometry.rotary_dim, rope.geometry.original_length) == (1e6, 256, 131072)
    assert rope.layers == (5, 11, 17, 23)
    assert rope.local == LocalRope(1e4, tuple(i for i in range(26) if i not in rope.layers))
    assert rope.sliding_window == 4096


@pytest.mark.parametrize(
    ("config", "layers", "without", "window"),
    [
        (SmolLM3Config(num_hidden_layers=8), (0, 1, 2, 4, 5, 6), (3, 7), None),
        (Cohere2Config(num_hidden_layers=4, sliding_window=512), (0, 1, 2), (3,), 512),
        (MistralConfig(num_hidden_layers=2, sliding_window=128), (0, 1), (), 128),
        (Qwen2Config(num_hidden_layers=2, sliding_window=128), (0, 1), (), None),
    ],
)
def test_layers_without_rope_and_sliding_windows_are_named(
    config: Any, layers: tuple[int, ...], without: tuple[int, ...], window: int | None
) -> None:
    rope = describe_rope(config)
    assert (rope.layers, rope.layers_without_rope, rope.sliding_window) == (layers, without, window)


@pytest.mark.parametrize(
    ("config", "reach"),
    [
        (MistralConfig(**TEXT, sliding_window=16), 16),  # v0.1
        (MistralConfig(**TEXT, sliding_window=None), None),  # v0.2 and later
        (Phi3Config(**TEXT, sliding_window=20), 20),  # Phi-3-mini-4k
        (Qwen2Config(**TEXT, sliding_window=16, use_sliding_window=False), None),
        (Qwen2Config(**TEXT, sliding_window=16, use_sliding_window=True, max_window_layers=1), None),
        (Gemma2Config(**TEXT, head_dim=8, sliding_window=16), None),  # every other layer
        (Cohere2Config(**TEXT, sliding_window=16), 16),  # global layers have no RoPE
        (Llama4TextConfig(**TEXT, head_dim=8, attention_chunk_size=24, num_local_experts=2), 24),
        (LlamaConfig(**TEXT), None),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_the_reach_is_that_of_the_layers_that_are_rescaled(config: Any, reach: int | None) -> None:
    assert describe_rope(config).reach == reach


def test_partial_rotary_counts_the_rotated_dimensions_only() -> None:
    assert describe_rope(GPTNeoXConfig(hidden_size=256, num_attention_heads=4)).geometry.rotary_dim == 16


def test_a_config_is_described_like_its_model_and_takes_no_memory(llama: Any) -> None:
    from_model, from_config = describe_rope(llama), describe_rope(llama.config)
    for field in dataclasses.fields(from_model):
        if field.name != "geometry":
            assert getattr(from_model, field.name) == getattr(from_config, field.name)
    np.testing.assert_array_equal(from_model.geometry.inv_freq, from_config.geometry.inv_freq)
    huge = LlamaConfig(hidden_size=2**16, intermediate_size=2**18, num_attention_heads=512, num_key_value_heads=512)
    assert describe_rope(huge).geometry.pairs == 64  # its weights would take 9 TB


def gemma_3() -> Any:
    text = {**TEXT, "head_dim": 8, "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 8}
    tokens: dict[str, Any] = {
        "image_token_index": 63,
        "boi_token_index": 61,
        "eoi_token_index": 62,
        "mm_tokens_per_image": 1,
    }
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, **tokens))


def qwen_2_5_vl() -> Any:
    parameters = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen2_5_VLConfig(text_config={**TEXT, "rope_parameters": parameters}, vision_config=vision)
    return Qwen2_5_VLForConditionalGeneration(config)


@pytest.mark.parametrize("build", [gemma_3, qwen_2_5_vl])
def test_factors_act_on_the_text_part_of_a_vision_language_model(build: Any) -> None:
    torch.manual_seed(0)
    model, ids = build().eval(), torch.arange(60)[None]
    rope = describe_rope(model.config)
    np.testing.assert_array_equal(rope.geometry.inv_freq, describe_rope(model).geometry.inv_freq)
    shape = (rope.geometry.original_length, 128, rope.geometry.theta, rope.geometry.rotary_dim)
    candidates = [RescaleFactors(np.full(rope.geometry.pairs, scale), *shape) for scale in (1.0, 4.0)]
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits
        with install(model) as installation:
            installation.set(candidates)
            own, scaled = model(input_ids=ids.expand(2, -1), use_cache=False).logits
            assert torch.equal(own, before[0])
            installation.set(candidates[1:])
            assert torch.equal(scaled, model(input_ids=ids, use_cache=False).logits[0])
            assert not torch.equal(scaled, own)
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)


def test_positions_of_an_image_are_refused() -> None:
    model, ids = qwen_2_5_vl().eval(), torch.arange(20)[None]
    with install(model) as rope:
        rope.set([RescaleFactors(np.full(4, 4.0), 32, 128, 1e4, 8)])
        with pytest.raises(ValueError, match="position_ids must be the same on all axes"):
            model(input_ids=ids, position_ids=torch.stack((ids, ids, ids // 2)))
