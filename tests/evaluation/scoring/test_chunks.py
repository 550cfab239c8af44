"""Chunks along the sequence change neither losses nor derivatives, and nothing of the model."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MixtralConfig,
    Phi3Config,
    PhiConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from longrope.evaluation.objectives.gradients import recomputed
from longrope.evaluation.scoring.chunks import in_chunks, tokenwise_modules
from longrope.evaluation.scoring.loss import differentiable_token_nats
from longrope.rope import install
from longrope.rope.methods import YaRN

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
EXPERTS: dict[str, Any] = {**SIZES, "head_dim": 8, "num_local_experts": 4}
CONFIGS: list[Any] = [
    LlamaConfig(**SIZES),
    Qwen3Config(**SIZES, head_dim=8),
    Phi3Config(**SIZES),
    PhiConfig(**SIZES),
    CohereConfig(**SIZES, use_qk_norm=True),
    Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=64),
    GPTNeoXConfig(**{name: value for name, value in SIZES.items() if name != "num_key_value_heads"}),
    MixtralConfig(**EXPERTS),
    Qwen3MoeConfig(**EXPERTS, moe_intermediate_size=16, num_experts_per_tok=2),
    GptOssConfig(**EXPERTS),
]


def build(config: Any) -> Any:
    torch.manual_seed(0)
    kernel = "eager" if config.model_type == "gpt_oss" else "sdpa"
    return AutoModelForCausalLM.from_config(config, attn_implementation=kernel).eval().requires_grad_(False)


class Lengths:
    """Remembers how many tokens each call of some modules got."""

    def __init__(self, modules: Any) -> None:
        self.seen: list[int] = []
        for module in modules:
            module.register_forward_pre_hook(lambda _, args: self.seen.append(args[0].shape[:-1].numel()))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
@pytest.mark.parametrize("rows", [1, 13, 64])
def test_losses_of_every_family_are_those_of_whole_windows(config: Any, rows: int) -> None:
    model, ids = build(config), torch.randint(0, 64, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = differentiable_token_nats(model, ids)
        with in_chunks(model, rows):
            found = differentiable_token_nats(model, ids)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("offload", [False, True])
def test_derivatives_are_those_of_whole_windows(offload: bool) -> None:
    model, ids = build(CONFIGS[0]), torch.randint(0, 64, (1, 40), generator=torch.Generator().manual_seed(1))

    def derivatives(rows: int, offload: bool) -> torch.Tensor:
        with install(model) as installation, torch.enable_grad():
            changes = installation.set_differentiable(YaRN(2.0).factors(installation.geometry))
            with in_chunks(model, rows), recomputed(installation.layers, offload):
                return torch.autograd.grad(differentiable_token_nats(model, ids).sum(), changes)[0]

    expected = derivatives(1000, False)
    assert expected.abs().max() > 1
    torch.testing.assert_close(derivatives(13, offload), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("gradients", [False, True])
def test_no_feed_forward_layer_sees_more_rows_and_each_row_once(gradients: bool) -> None:
    model = build(CONFIGS[0])
    inside = Lengths([layer.mlp.gate_proj for layer in model.model.layers])
    with torch.set_grad_enabled(gradients), in_chunks(model, 13):
        model.base_model(input_ids=torch.zeros(2, 40, dtype=torch.long), use_cache=False)
    assert max(inside.seen) <= 13 and sum(inside.seen) == 2 * 80


def test_a_feed_forward_layer_that_also_gives_the_choice_of_experts_runs_whole() -> None:
    class RoutedMLP(nn.Module):
        def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return 2 * states, states.mean(dim=0)

    model = nn.Sequential(RoutedMLP())
    states = torch.randn(2, 40, 3)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients), in_chunks(model, 13):
            assert all(map(torch.equal, model(states), (2 * states, states.mean(dim=0))))


def test_the_modules_are_feed_forward_layers_and_norms_the_outermost_once() -> None:
    model = build(CONFIGS[0])
    layers = model.model.layers
    expected = [part for one in layers for part in (one.mlp, one.input_layernorm, one.post_attention_layernorm)]
    assert list(tokenwise_modules(model)) == [*expected, model.model.norm]


def test_a_forward_that_fails_leaves_no_trace() -> None:
    model = build(CONFIGS[0])
    with pytest.raises(IndexError), torch.no_grad(), in_chunks(model, 13):
        model(input_ids=torch.full((1, 40), 1000))
    assert not any("forward" in module.__dict__ for module in model.modules())
