from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, LlamaConfig

from longrope.evaluation.objectives import gradients
from longrope.evaluation.objectives.gradients import GradientObjective, recomputed
from longrope.evaluation.objectives.mixed import MixedObjective
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring import resources
from longrope.evaluation.scoring.loss import differentiable_token_nats
from longrope.rope import RescaleFactors, install

LENGTH = 48
CANDIDATE = RescaleFactors(
    np.array([1, 1, 1.2, 1.5, 1.5, 1.9, 2, 2.3]), 32, 64, 10000.0, 16, attention_factor=1.1, start_tokens=4
)


def perplexity(model, installation, documents, length=LENGTH):
    return PerplexityObjective(model, installation, documents, length, 1)


def nudged(candidate, pair, change):
    """Change log lambda of a pair, or the log attention factor for pair P."""
    if pair == candidate.pairs:
        return replace(candidate, attention_factor=candidate.attention_factor * np.exp(change))
    lambdas = candidate.lambdas * np.exp(change * (np.arange(candidate.pairs) == pair))
    return replace(candidate, lambdas=lambdas, allow_decreasing=True)


def by_differences(objective, candidate, document, change=1e-3):
    """Central differences of the loss that the search minimises, for each pair and the attention factor."""

    def slope(pair, change):
        above, below = (objective.score([nudged(candidate, pair, c)], document)[0].nats for c in (change, -change))
        return (above - below) / (2 * change)

    pairs = range(candidate.pairs + 1)
    return np.array([(4 * slope(pair, change) - slope(pair, 2 * change)) / 3 for pair in pairs])  # Richardson


def derivatives(score):
    return np.array([*score.d_log_lambda, score.d_log_attention])


def test_derivatives_are_the_differences_of_the_loss_also_where_lambda_is_1(llama, random_data):
    with install(llama) as installation:
        objective = GradientObjective(perplexity(llama, installation, random_data.documents))
        for candidate in (CANDIDATE, CANDIDATE.without_start_tokens()):
            expected = by_differences(objective, candidate, 1)
            found = derivatives(objective.gradient(candidate, 1))
            assert (np.abs(expected) > 0.1).sum() >= 6  # far above the rounding of a difference
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=0.03)


def test_the_loss_is_that_of_a_plain_score_and_the_cost_is_three_passes(llama, random_data):
    with install(llama) as installation:
        objective = GradientObjective(perplexity(llama, installation, random_data.documents))
        (plain,) = objective.score([CANDIDATE], 2)
        score = objective.gradient(CANDIDATE, 2)
        assert (score.nats, score.tokens, score.error) == (plain.nats, LENGTH - 1, None)
        assert (plain.forwarded, score.forwarded) == (LENGTH, 3 * LENGTH)
        assert objective.score([CANDIDATE], 2) == [plain]


def test_a_differentiable_candidate_gives_the_very_tables_of_a_plain_one(llama):
    x, positions = torch.zeros(1, 40, 32), torch.arange(40)[None]
    with install(llama) as installation:
        installation.set([CANDIDATE])
        plain = installation.rotary(x, positions)
        installation.set_differentiable(CANDIDATE)
        differentiable = installation.rotary(x, positions)
        assert all(
            torch.equal(a, b) and b.requires_grad and not a.requires_grad
            for a, b in zip(plain, differentiable, strict=True)
        )


def test_each_layer_runs_again_in_the_backward_pass_and_the_model_is_left_as_it_was(llama, random_data):
    calls = []
    for layer in llama.model.layers:
        layer.self_attn.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    with install(llama) as installation:
        objective = GradientObjective(perplexity(llama, installation, random_data.documents))
        calls.clear()
        objective.gradient(CANDIDATE, 0)
        assert len(calls) == 2 * len(llama.model.layers)
        assert not llama.training and all("forward" not in layer.__dict__ for layer in llama.model.layers)
        assert all(parameter.grad is None for parameter in llama.parameters())
        assert not installation.rotary.layer_tables


def test_what_the_backward_pass_needs_is_a_small_part_of_what_the_forward_made(make_llama, make_data, monkeypatch):
    tokens, vocab_size = 600, 2000
    model = make_llama(vocab_size=vocab_size)
    documents = make_data([tokens], vocab_size).documents

    def kept_numbers():
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            objective.gradient(CANDIDATE, 0)
        return sum(kept)

    with install(model) as installation:
        objective = GradientObjective(perplexity(model, installation, documents, tokens))
        sparing = kept_numbers()
        monkeypatch.setattr(gradients, "recomputed", lambda *_: nullcontext())
        layers_kept = kept_numbers()
    assert sparing < tokens * vocab_size / 4  # neither logits nor weights
    assert layers_kept > 5 * sparing


def test_inputs_of_layers_rest_on_the_cpu_where_the_device_may_lack_room(llama, random_data, monkeypatch):
    moved = []

    def offloading(forward):
        moved.append(forward)
        return actual(forward)

    actual = gradients._offloading
    monkeypatch.setattr(gradients, "_offloading", offloading)
    with install(llama) as installation:
        objective = GradientObjective(perplexity(llama, installation, random_data.documents))
        expected = objective.gradient(CANDIDATE, 0)
        for spare, count in ((10**9, 0), (1, len(llama.model.layers))):
            monkeypatch.setattr(resources, "spare_memory", lambda _, spare=spare: spare)
            assert objective.gradient(CANDIDATE, 0) == expected
            assert len(moved) == count


def test_the_inputs_of_layers_and_nothing_else_go_to_the_cpu(llama, monkeypatch):
    moved = []

    def recording(pin_memory):
        return torch.autograd.graph.saved_tensors_hooks(lambda x: moved.append(x.shape) or x, lambda x: x)

    monkeypatch.setattr(gradients, "save_on_cpu", recording)
    with install(llama) as installation, torch.enable_grad(), recomputed(installation.layers, offload=True):
        changes = installation.set_differentiable(CANDIDATE)
        ids = torch.zeros(1, LENGTH, dtype=torch.long)
        torch.autograd.grad(differentiable_token_nats(llama.requires_grad_(False), ids).sum(), changes)
    states = [shape for shape in moved if shape.numel()]  # the rest is a mark of the checkpoint's own
    assert states == len(llama.model.layers) * [(1, LENGTH, llama.config.hidden_size)]


def test_a_forward_that_somebody_else_put_in_place_is_kept():
    layer = nn.Linear(2, 2)

    def doubled(x):
        return 2 * x

    layer.forward = doubled  # type: ignore[method-assign]
    with recomputed([layer]):
        assert torch.equal(layer(torch.ones(1)), torch.full((1,), 2.0))
    assert layer.forward is doubled


def test_dropout_of_the_training_stays_off(make_llama, random_data):
    model = make_llama(attention_dropout=0.9)
    with install(model) as installation:
        objective = GradientObjective(perplexity(model, installation, random_data.documents))
        assert objective.gradient(CANDIDATE, 0) == objective.gradient(CANDIDATE, 0)


@pytest.mark.parametrize("config", [Gemma2Config, Gemma3TextConfig, LlamaConfig])
def test_other_families_and_attention_kernels_agree_with_differences(config, random_data):
    torch.manual_seed(0)
    tiny: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "head_dim": 16,
    }
    tiny |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32, "sliding_window": 64}
    tiny |= {"initializer_range": 0.3}
    if config is LlamaConfig:
        tiny.pop("sliding_window")
    if config is Gemma3TextConfig:
        tiny |= {"layer_types": ["full_attention", "sliding_attention"]}
    model = AutoModelForCausalLM.from_config(config(**tiny), attn_implementation="eager").eval()
    with install(model) as installation:
        candidate = replace(CANDIDATE, theta=installation.geometry.theta)
        objective = GradientObjective(perplexity(model, installation, random_data.documents, 40))
        expected = by_differences(objective, candidate, 0)
        found = derivatives(objective.gradient(candidate, 0))
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=0.03)


def test_a_weighted_mean_of_objectives_has_the_weighted_mean_of_the_derivatives(llama, random_data):
    with install(llama) as installation:
        parts = [perplexity(llama, installation, random_data.documents, length) for length in (24, LENGTH)]
        mixed = MixedObjective([(parts[0], 1.0), (parts[1], 3.0)])
        score = GradientObjective(mixed).gradient(CANDIDATE, 0)
        (plain,) = mixed.score([CANDIDATE], 0)
        short, long = (GradientObjective(part).gradient(CANDIDATE, 0) for part in parts)
    expected = (derivatives(short) / short.tokens + 3 * derivatives(long) / long.tokens) / 4
    np.testing.assert_allclose(derivatives(score) / score.tokens, expected, rtol=1e-9)
    assert score.nats == pytest.approx(plain.nats, rel=1e-12)
    assert (score.tokens, score.forwarded) == (plain.tokens, 3 * plain.forwarded)


def test_a_loss_that_is_not_finite_is_an_error_and_no_number(llama, random_data, monkeypatch):
    def poisoned(*args, **kwargs):
        return loss(*args, **kwargs) * float("nan")

    loss = gradients.differentiable_token_nats
    monkeypatch.setattr(gradients, "differentiable_token_nats", poisoned)
    with install(llama) as installation:
        score = GradientObjective(perplexity(llama, installation, random_data.documents)).gradient(CANDIDATE, 0)
    assert score.nats is None and "nan" in str(score.error) and score.forwarded == 3 * LENGTH


def test_a_pass_that_runs_out_of_memory_is_an_error_and_the_next_score_is_untouched(llama, random_data, monkeypatch):
    with install(llama) as installation:
        objective = GradientObjective(perplexity(llama, installation, random_data.documents))
        (before,) = objective.score([CANDIDATE], 0)

        def exhausted(*_: object, **__: object) -> torch.Tensor:
            raise torch.OutOfMemoryError("tried to allocate 2 TiB")

        monkeypatch.setattr(gradients, "differentiable_token_nats", exhausted)
        score = objective.gradient(CANDIDATE, 0)
        assert score.nats is None and "tried to allocate 2 TiB" in (score.error or "")
        assert objective.score([CANDIDATE], 0) == [before]
