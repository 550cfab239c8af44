"""Angles in float32 up to position 2^21, whatever the model's dtype: against float64."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from longrope.rope import METHODS, RescaleFactors, RopeGeometry, apply_factors, install
from longrope.rope.embedding import ScaledRotaryEmbedding
from longrope.rope.methods import Linear, YaRN

MakeLlama = Callable[..., Any]
ROOT = Path(__file__).parents[2]
LIMIT = 2**21
ROUNDINGS = 6 * 2**-24
"""Of the float32 formula of Transformers: two of the power, one each of the factor, product, inverse and angle."""
GEOMETRY = RopeGeometry(128, 5e5, 8192)
EXTREMES = [0, 1, 2, 8191, 8192, 2**20 - 1, 2**20, 2**20 + 1, LIMIT - 2, LIMIT - 1]


def rotary(factors: RescaleFactors) -> ScaledRotaryEmbedding:
    module = ScaledRotaryEmbedding(nn.Identity(), GEOMETRY)
    module.set([factors])
    return module


def exact_angles(positions: Tensor, factors: RescaleFactors) -> Tensor:
    return positions[..., None].double() * torch.tensor(GEOMETRY.inv_freq / factors.lambdas)


def sampled_positions(seed: int) -> Tensor:
    drawn = np.random.default_rng(seed).integers(0, LIMIT, 4000)
    return torch.tensor(np.concatenate([EXTREMES, drawn]))[None]


@given(st.floats(1, 256), st.integers(0, 2**32 - 1))
def test_angle_errors_stay_within_six_roundings_of_float32(scale: float, seed: int) -> None:
    factors, positions = YaRN(scale).factors(GEOMETRY), sampled_positions(seed)
    exact = exact_angles(positions, factors)
    error = (rotary(factors).angles(positions).double() - exact).abs()
    assert torch.all(error <= exact * ROUNDINGS)


def test_the_angle_benchmark_covers_every_method_and_none_exceeds_six_roundings() -> None:
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "angle_error.py"))
    worst = {name: benchmark["worst_angle"](factors, 4099) for name, factors in benchmark["factors_of_all_methods"]()}
    assert worst.keys() == METHODS.keys()
    assert all(0 < angle.error <= angle.bound * (1 + 2**-24) for angle in worst.values())


@pytest.mark.parametrize("method", [Linear(256.0), YaRN(256.0)])
def test_cos_and_sin_are_those_of_the_angles_at_every_position(method: Linear) -> None:
    factors, positions = method.factors(GEOMETRY), sampled_positions(0)
    module, exact = rotary(factors), exact_angles(sampled_positions(0), factors)
    cos, sin = module(torch.zeros(1), positions)
    bound = exact * ROUNDINGS + 2**-22  # the error of the angle, then that of cos or sin and of the product
    for table, reference in ((cos, exact.cos()), (sin, exact.sin())):
        error = table.double() - factors.attention_factor * torch.cat((reference, reference), -1)
        assert torch.all(error.abs() <= factors.attention_factor * torch.cat((bound, bound), -1))


def test_positions_are_exact_integers_up_to_the_limit() -> None:
    ones = RescaleFactors(np.ones(64), 8192, 8192, 5e5, 128)
    positions = torch.tensor([EXTREMES])
    assert torch.equal(rotary(ones).angles(positions)[..., 0], positions.float()), "the frequency of pair 0 is 1"
    assert torch.equal(positions.float().long(), positions)


def test_start_tokens_are_counted_exactly_beyond_two_to_the_20() -> None:
    factors = RescaleFactors(np.full(64, 4.0), 8192, LIMIT, 5e5, 128, start_tokens=2**20 + 1)
    positions = torch.tensor([[2**20, 2**20 + 1]])
    kept, scaled = rotary(factors).angles(positions)[0, :, 0].tolist()
    assert (kept, scaled) == (2**20, (2**20 + 1) / 4)


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16])
def test_casting_the_model_leaves_every_angle_untouched(llama: Any, cast: torch.dtype) -> None:
    module = llama.model.rotary_emb
    positions, x = torch.tensor([[100_000, 131_071, LIMIT - 1]]), torch.zeros(1)
    with install(llama) as rope:
        own = rope.rotary(x, positions)
        rope.set([YaRN(4).factors(rope.geometry)])
        scaled = rope.rotary(x, positions)
        llama.to(cast)
        assert llama.model.layers[0].self_attn.q_proj.weight.dtype == cast
        assert torch.equal(torch.stack(rope.rotary(x, positions)), torch.stack(scaled))
        rope.reset()
        assert torch.equal(torch.stack(rope.rotary(x, positions)), torch.stack(own)), "also without factors"
    assert llama.model.rotary_emb is module


def test_half_precision_models_get_the_float32_tables_rounded_once(make_llama: MakeLlama) -> None:
    positions = torch.tensor([[131_071, LIMIT - 1]])
    model = make_llama()
    with install(model) as rope:
        rope.set([YaRN(4).factors(rope.geometry)])
        exact = torch.stack(rope.rotary(torch.zeros(1), positions))
        rounded = torch.stack(rope.rotary(torch.zeros(1, dtype=torch.bfloat16), positions))
        assert torch.equal(rounded, exact.bfloat16())


def test_a_model_cast_before_the_installation_gets_the_frequencies_of_its_config(make_llama: MakeLlama) -> None:
    model, reference = make_llama(), make_llama()
    model.to(torch.bfloat16)
    with install(reference) as pristine, pytest.warns(UserWarning, match=r"rounded to torch\.bfloat16"):
        rope = install(model)
    np.testing.assert_array_equal(rope.geometry.inv_freq, pristine.geometry.inv_freq)
    assert pristine.geometry.inv_freq[1] != float(torch.tensor(pristine.geometry.inv_freq[1]).bfloat16())


def test_a_long_forward_leaves_no_trace_in_a_short_one(llama: Any) -> None:
    ids = torch.arange(96)[None] * 7 % 64
    factors = RescaleFactors(np.linspace(1, 4, 8), 32, 128, 1e4, 16, 1.1, 4)

    @torch.no_grad()
    def logits(**inputs: Any) -> Tensor:
        return llama(use_cache=False, **inputs).logits

    with apply_factors(llama, factors):
        first = logits(input_ids=ids[:, :10])
        logits(input_ids=ids, position_ids=torch.arange(LIMIT - 96, LIMIT)[None])
        assert torch.equal(logits(input_ids=ids[:, :10]), first)
