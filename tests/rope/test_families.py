"""Every RoPE family of Transformers: factors act, rows are candidates, and nothing is left behind."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from transformers import PreTrainedModel

from longrope.rope import Method, RescaleFactors, RopeGeometry, apply_factors, install, rope_geometry
from longrope.rope.describe import describe_rope
from longrope.rope.families import find_rope
from longrope.rope.methods import NTK, Linear, YaRN

MakeModel = Callable[..., PreTrainedModel]
IDS = torch.arange(96)[None] * 7 % 61 + 1
LOCAL_AND_GLOBAL = {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_local_experts": 4}
MLA = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "mistral, sliding window": {"model_type": "mistral", "sliding_window": 24},
    "mixtral, head_dim None": {"model_type": "mixtral", "head_dim": None, **EXPERTS},
    "qwen2": {"model_type": "qwen2"},
    "qwen3, own head_dim": {"model_type": "qwen3", "head_dim": 16},
    "phi3": {"model_type": "phi3"},
    "phi3, partial": {"model_type": "phi3", "partial_rotary_factor": 0.5},
    "phi, partial": {"model_type": "phi", "partial_rotary_factor": 0.5},
    "gemma2, eager": {"model_type": "gemma2", "head_dim": 8, "attention": "eager", **LOCAL_AND_GLOBAL},
    "gemma3, local and global": {"model_type": "gemma3_text", "head_dim": 8, **LOCAL_AND_GLOBAL},
    "gpt_neox, 25 %": {"model_type": "gpt_neox", "hidden_size": 64, "rotary_pct": 0.25},
    "olmo2": {"model_type": "olmo2"},
    "smollm3, NoPE layers": {"model_type": "smollm3", "no_rope_layers": [1, 0]},
    "stablelm, partial": {"model_type": "stablelm", "hidden_size": 64, "partial_rotary_factor": 0.25},
    "granite": {"model_type": "granite"},
    "cohere, interleaved": {"model_type": "cohere"},
    "cohere2, RoPE on local layers": {"model_type": "cohere2", **LOCAL_AND_GLOBAL},
    "olmo3, local and global": {"model_type": "olmo3", **LOCAL_AND_GLOBAL},
    "gpt_oss, single tables": {
        "model_type": "gpt_oss",
        "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1.5e5},
        **EXPERTS,
        **LOCAL_AND_GLOBAL,
    },
    "glm4, partial": {"model_type": "glm4", "head_dim": 8},
    "falcon": {"model_type": "falcon"},
    "llama4, complex, NoPE layers": {
        "model_type": "llama4_text",
        "head_dim": 8,
        "intermediate_size_mlp": 32,
        "no_rope_layers": [1, 0],
        "num_local_experts": 2,
    },
    "deepseek_v2, MLA, complex": {"model_type": "deepseek_v2", **MLA},
    "deepseek_v3, MLA": {"model_type": "deepseek_v3", **MLA},
    "exaone4, RoPE on local layers": {"model_type": "exaone4", **LOCAL_AND_GLOBAL},
}

SCALED: dict[str, dict[str, Any]] = {
    "llama3 on llama": {
        "model_type": "llama",
        "max_position_embeddings": 64,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1e3,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "yarn on qwen2": {
        "model_type": "qwen2",
        "max_position_embeddings": 64,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 2.0,
            "original_max_position_embeddings": 32,
        },
    },
    "longrope on phi3": {
        "model_type": "phi3",
        "max_position_embeddings": 64,
        "original_max_position_embeddings": 32,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [1.0, 1.5, 2.0, 2.5],
        },
    },
    "linear on gemma3": {
        "model_type": "gemma3_text",
        "head_dim": 8,
        **LOCAL_AND_GLOBAL,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
}

SETTINGS: dict[str, dict[str, Any]] = {**FAMILIES, **SCALED}
every_family = pytest.mark.parametrize("name", FAMILIES)
every_scaled_model = pytest.mark.parametrize("name", SCALED)
every_model = pytest.mark.parametrize("name", SETTINGS)


def build(make_model: MakeModel, name: str) -> Any:
    return make_model(**SETTINGS[name])


def logits(model: PreTrainedModel, ids: torch.Tensor = IDS, **inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False, **inputs).logits


def factors(
    geometry: RopeGeometry, lambdas: np.ndarray | float, start_tokens: int = 0, attention_factor: float = 1.0
) -> RescaleFactors:
    """Factors relative to the pre-trained RoPE, its attention factor included."""
    own = geometry.attention_factor
    values = np.broadcast_to(np.asarray(lambdas, dtype=np.float64), np.shape(lambdas) or (geometry.pairs,))
    shape = (geometry.original_length, 4 * geometry.original_length, geometry.theta, geometry.rotary_dim)
    return RescaleFactors(values, *shape, attention_factor * own, start_tokens, own)


def rising(geometry: RopeGeometry) -> np.ndarray:
    return np.linspace(1, 4, geometry.pairs)


@every_model
def test_factors_move_the_logits_and_the_canary_sees_it(make_model: MakeModel, name: str) -> None:
    model = build(make_model, name)
    before = logits(model)
    with install(model) as rope:
        assert rope.check_canary() > 0
        rope.set([factors(rope.geometry, 4.0)])
        moved = (logits(model) - before).abs().amax(-1)[0]
        assert torch.all(moved[rope.geometry.original_length :] > 1e-3), "beyond the original length"


@every_model
def test_batch_rows_equal_single_runs_exactly(make_model: MakeModel, name: str) -> None:
    model = build(make_model, name)
    with install(model) as rope:
        cases = ((1.5, 0, 1.0), (4.0, 8, 1.2), (rising(rope.geometry), 3, 0.9))
        candidates = [factors(rope.geometry, *case) for case in cases]
        rope.set(candidates)
        batched = logits(model, IDS.expand(3, -1))
        for row, candidate in enumerate(candidates):
            rope.set([candidate])
            assert torch.equal(batched[row], logits(model)[0])


@every_model
def test_start_tokens_on_all_positions_are_the_original_model_exactly(make_model: MakeModel, name: str) -> None:
    model = build(make_model, name)
    before = logits(model)
    with install(model) as rope:
        rope.set([factors(rope.geometry, 4.0, start_tokens=96, attention_factor=1.3)])
        assert torch.equal(logits(model), before)


@every_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_factors_of_one_are_the_original_model_exactly(make_model: MakeModel, name: str, dtype: torch.dtype) -> None:
    model = build(make_model, name)
    rotary = find_rope(model).module
    buffers = {key: buffer.clone() for key, buffer in rotary.named_buffers()}
    model.to(dtype)
    for key, buffer in buffers.items():  # loading with dtype= leaves the frequencies alone, to() does not
        setattr(rotary, key, buffer)
    before = logits(model)
    with install(model) as rope:
        rope.set([factors(rope.geometry, 1.0)])
        assert torch.equal(logits(model), before)


@every_model
def test_restoring_leaves_the_model_bit_for_bit(make_model: MakeModel, name: str) -> None:
    model = build(make_model, name)
    before, modules, state = logits(model), dict(model.named_modules()), model.state_dict()
    with install(model) as rope:
        rope.set([factors(rope.geometry, 4.0, 2, 1.1)])
        logits(model)
        assert model.state_dict().keys() == state.keys(), "a save while factors are in place is the model's own"
    after = dict(model.named_modules())
    assert list(after) == list(modules)
    assert all(after[key] is module for key, module in modules.items())
    assert not any(module._forward_pre_hooks for module in after.values())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(logits(model), before)


@every_model
@pytest.mark.parametrize("prompt", [12, 26, 60])
def test_generation_with_a_cache_equals_generation_without(make_model: MakeModel, name: str, prompt: int) -> None:
    model = build(make_model, name)  # the original length is 32 or 64: below it, across it, beyond it
    settings: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
    with install(model) as rope:
        rope.set([factors(rope.geometry, rising(rope.geometry), 4, 1.1)])
        cached = model.generate(IDS[:, :prompt], use_cache=True, **settings)
        assert torch.equal(cached, model.generate(IDS[:, :prompt], use_cache=False, **settings))


@every_model
def test_left_padding_does_not_change_the_logits(make_model: MakeModel, name: str) -> None:
    model = build(make_model, name)
    ids = torch.cat((torch.cat((torch.zeros(1, 10, dtype=torch.long), IDS[:, :70]), 1), IDS[:, :80]))
    mask = (ids != 0).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with apply_factors(model, factors(rope_geometry(model), 3.0, 4)):
        padded = logits(model, ids, attention_mask=mask, position_ids=positions)
        torch.testing.assert_close(padded[:1, 10:], logits(model, IDS[:, :70]), atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(padded[1:], logits(model, IDS[:, :80]), atol=2e-4, rtol=1e-4)


@every_model
def test_per_layer_factors_act_on_the_layers_that_have_rope(make_model: MakeModel, name: str) -> None:
    model = build(make_model, name)
    description = describe_rope(model)
    with install(model) as rope:
        pairs = rope.geometry.pairs
        if rope.rotary.layer_type is not None:
            with pytest.raises(ValueError, match="per-layer factors must meet a model whose layers share one RoPE"):
                rope.set([factors(rope.geometry, np.ones((2, pairs)))])
            return
        rope.set([factors(rope.geometry, 1.0)])
        plain = logits(model)
        for layer in range(2):
            rows = np.ones((2, pairs))
            rows[layer] = 4.0
            rope.set([factors(rope.geometry, rows), factors(rope.geometry, 1.0)])
            changed, unchanged = logits(model, IDS.expand(2, -1))
            assert torch.equal(changed, plain[0]) == (layer not in description.layers)
            assert torch.equal(unchanged, plain[0])
        rope.reset()
        own = logits(model)
    assert torch.equal(own, logits(model)), "no table of a layer outlives reset()"


def hf_scaled(model: Any, lambdas: np.ndarray, attention_factor: float) -> torch.Tensor:
    """Scale the model's own rotary module in place, the way Transformers computes with it, and return the logits."""
    logits(model)  # lets longrope make its long frequencies
    rotary, prefix = model.get_decoder().rotary_emb, ""
    if hasattr(rotary, "full_attention_inv_freq"):
        prefix = "full_attention_"
    key = f"{prefix}long_inv_freq" if hasattr(rotary, f"{prefix}long_inv_freq") else f"{prefix}inv_freq"
    setattr(rotary, key, (getattr(rotary, key).double() / torch.tensor(lambdas)).float())
    scaling = f"{prefix}attention_scaling"
    setattr(rotary, scaling, getattr(rotary, scaling) * attention_factor)
    return logits(model)


@every_scaled_model
@pytest.mark.parametrize("method", [Linear(2.0), NTK(4.0), YaRN(4.0)], ids=lambda method: method.name)
def test_methods_compose_with_a_rope_that_is_scaled_already(make_model: MakeModel, name: str, method: Method) -> None:
    model, reference = build(make_model, name), build(make_model, name)
    with install(model) as rope:
        rope.set([method.factors(rope.geometry)])
        scaled = method.lambdas(rope.geometry), method.attention(rope.geometry)
        torch.testing.assert_close(logits(model), hf_scaled(reference, *scaled), atol=1e-5, rtol=1e-5)


def test_the_attention_factor_of_a_scaled_checkpoint_is_kept(make_model: MakeModel) -> None:
    geometry = rope_geometry(build(make_model, "longrope on phi3"))
    assert geometry.attention_factor == pytest.approx(np.sqrt(1 + np.log(2) / np.log(32)))
    np.testing.assert_allclose(geometry.inv_freq, 1e4 ** (-np.arange(4) / 4) / [1.0, 1.5, 2.0, 2.5], rtol=1e-6)


def test_a_dynamic_checkpoint_keeps_its_state_and_is_read_below_its_window(make_model: MakeModel) -> None:
    parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    model: Any = make_model("llama", rope_parameters=parameters)
    long, short = logits(model), logits(model, IDS[:, :20])
    logits(model)  # leaves the frequencies of 96 tokens behind
    rotary = model.model.rotary_emb
    grown = rotary.inv_freq.clone()
    with install(model) as rope:
        assert torch.equal(rotary.inv_freq, grown)
        np.testing.assert_allclose(rope.geometry.inv_freq, 1e4 ** (-np.arange(4) / 4), rtol=1e-6)
        rope.set([factors(rope.geometry, 1.0)])
        assert torch.equal(logits(model, IDS[:, :20]), short)
    assert torch.equal(logits(model), long)


@pytest.mark.parametrize("name", ["gemma3, local and global", "olmo3, local and global", "linear on gemma3"])
def test_factors_act_on_the_global_rope_only(make_model: MakeModel, name: str) -> None:
    model = build(make_model, name)
    rotary = model.get_decoder().rotary_emb
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    for layer in model.get_decoder().layers:
        layer.self_attn.register_forward_pre_hook(
            lambda _, __, kwargs: seen.append(kwargs["position_embeddings"]), with_kwargs=True
        )
    with install(model, canary=False) as rope:
        np.testing.assert_array_equal(rope.geometry.inv_freq, rotary.full_attention_inv_freq.double().numpy())
        logits(model)
        rope.set([factors(rope.geometry, 4.0)])
        logits(model)
    own_local, own_global, local, scaled = seen
    assert torch.equal(torch.stack(local), torch.stack(own_local))
    assert not torch.equal(torch.stack(scaled), torch.stack(own_global))


def test_a_model_whose_weights_are_offloaded_is_scaled_like_one_in_memory(make_model: MakeModel) -> None:
    model, offloaded = build(make_model, "qwen2"), build(make_model, "qwen2")
    cpu_offload(offloaded, torch.device("cpu"))
    assert offloaded.model.norm.weight.is_meta
    own = find_rope(model).geometry
    with apply_factors(model, factors(own, 3.0)), apply_factors(offloaded, factors(own, 3.0)):
        assert torch.equal(logits(offloaded), logits(model))


def test_factors_made_for_another_theta_are_refused(make_model: MakeModel) -> None:
    model = build(make_model, "qwen2")
    with pytest.raises(ValueError, match=r"factors must be made for the model's theta 10000, got 500000"):
        apply_factors(model, RescaleFactors(np.ones(4), 32, 128, 5e5, 8))


def test_phi3_prefills_again_at_its_boundary_and_stays_correct(make_model: MakeModel) -> None:
    model = build(make_model, "longrope on phi3")
    lengths: list[int] = []
    model.model.register_forward_pre_hook(
        lambda _, __, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    settings: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
    with apply_factors(model, factors(rope_geometry(model), 2.0, 4, 1.1)):
        lengths.clear()
        cached = model.generate(IDS[:, :26], use_cache=True, **settings)
        assert lengths == [26, 1, 1, 1, 1, 1, 1, 33, 1, 1, 1, 1], "Transformers drops the cache once, at 33 tokens"
        assert torch.equal(cached, model.generate(IDS[:, :26], use_cache=False, **settings))
