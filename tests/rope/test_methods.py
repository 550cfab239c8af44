"""Methods equal Transformers' own RoPE functions, the reference table, and their defining limits."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from longrope.rope import METHODS, Method, RopeGeometry
from longrope.rope.methods import (
    NTK,
    DynamicNTK,
    Linear,
    Llama3,
    LongRoPE,
    LongRoPE2,
    NoScaling,
    NTKByParts,
    NTKCritical,
    YaRN,
)

dims = st.integers(2, 64).map(lambda half: 2 * half)
thetas = st.floats(1e3, 1e7)
lengths = st.integers(64, 65536)
scales = st.floats(1, 256)


def hf(rope_type: str, dim: int, theta: float, original: int, seq_len: int | None = None, **parameters: object):
    """Return inverse frequencies and attention factor as Transformers computes them."""
    config = LlamaConfig(
        hidden_size=4 * dim,
        num_attention_heads=4,
        head_dim=dim,
        max_position_embeddings=original,
        rope_parameters={"rope_type": rope_type, "rope_theta": theta, **parameters},
    )
    inv_freq, attention = ROPE_INIT_FUNCTIONS[rope_type](config, torch.device("cpu"), seq_len=seq_len)
    return inv_freq.double().numpy(), attention


def assert_equal(
    method: Method, geometry: RopeGeometry, reference: tuple[np.ndarray, float], steepness: float = 0.0
) -> None:
    factors = method.factors(geometry)
    # Transformers blends in float32: rounding is relative to the unscaled frequency, and grows with the ramp's slope.
    rounding = 3e-6 * reference[0] + 3e-7 * (1 + steepness) * geometry.inv_freq
    assert np.all(np.abs(geometry.inv_freq / factors.lambdas - reference[0]) <= rounding)
    assert factors.attention_factor == pytest.approx(reference[1], rel=1e-9)


@given(dims, thetas, lengths, scales)
def test_linear_equals_transformers(dim: int, theta: float, length: int, scale: float) -> None:
    assert_equal(Linear(scale), RopeGeometry(dim, theta, length), hf("linear", dim, theta, length, factor=scale))


@given(dims, thetas, lengths, scales, st.floats(0.5, 3), st.floats(4, 128), st.booleans())
def test_yarn_equals_transformers(
    dim: int, theta: float, length: int, scale: float, beta_slow: float, beta_fast: float, truncate: bool
) -> None:
    settings: dict[str, Any] = {"beta_slow": beta_slow, "beta_fast": beta_fast, "truncate": truncate}
    reference = hf("yarn", dim, theta, length, factor=scale, original_max_position_embeddings=length, **settings)
    steepness = abs(math.log(length / (2 * math.pi * beta_slow))) / math.log(beta_fast / beta_slow)
    assert_equal(YaRN(scale, **settings), RopeGeometry(dim, theta, length), reference, steepness)


@given(scales, st.floats(0.1, 2), st.floats(0.1, 2))
def test_yarn_mscale_equals_transformers(scale: float, mscale: float, mscale_all_dim: float) -> None:
    settings: dict[str, Any] = {"mscale": mscale, "mscale_all_dim": mscale_all_dim}
    reference = hf("yarn", 64, 1e4, 2048, factor=scale, original_max_position_embeddings=2048, **settings)
    assert_equal(YaRN(scale, **settings), RopeGeometry(64, 1e4, 2048), reference)


@given(dims, thetas, lengths, scales, st.floats(0.5, 3), st.floats(3.5, 40))
def test_llama3_equals_transformers(dim: int, theta: float, length: int, scale: float, low: float, high: float) -> None:
    settings: dict[str, Any] = {"low_freq_factor": low, "high_freq_factor": high}
    reference = hf("llama3", dim, theta, length, factor=scale, original_max_position_embeddings=length, **settings)
    assert_equal(Llama3(scale, **settings), RopeGeometry(dim, theta, length), reference, high / (high - low))


@given(st.integers(2, 64).map(lambda half: 2 * half), thetas, lengths, st.floats(1, 32), st.floats(0.25, 64))
def test_dynamic_ntk_equals_transformers(dim: int, theta: float, length: int, scale: float, ratio: float) -> None:
    current = max(1, round(ratio * length))
    geometry = RopeGeometry(dim, theta, length)
    static = DynamicNTK(scale).at_length(geometry, current)
    assert_equal(static, geometry, hf("dynamic", dim, theta, length, seq_len=current, factor=scale))


@given(dims, thetas, lengths, st.floats(1, 64), st.data())
def test_longrope_equals_transformers(dim: int, theta: float, length: int, scale: float, data: st.DataObject) -> None:
    lambdas = data.draw(st.lists(st.floats(1, 100), min_size=dim // 2, max_size=dim // 2))
    reference = hf(
        "longrope",
        dim,
        theta,
        length,
        seq_len=length + 1,
        factor=scale,
        short_factor=[1.0] * (dim // 2),
        long_factor=lambdas,
        original_max_position_embeddings=length,
    )
    assert_equal(LongRoPE(scale, rescale_factors=tuple(lambdas)), RopeGeometry(dim, theta, length), reference)


TABLE_S4 = RopeGeometry(64, 1e4, 2048)
RISING = tuple(1 + 0.5 * i for i in range(32))
S16_LLAMA2, S16_LLAMA3 = RopeGeometry(128, 1e4, 4096), RopeGeometry(128, 5e5, 8192)


@pytest.mark.parametrize(
    ("method", "geometry", "ratios", "attention"),
    [
        (Linear(4), TABLE_S4, [0.25, 0.25, 0.25, 0.25, 0.25], 1),
        (NTK(4), TABLE_S4, [1, 0.699245, 0.488944, 0.341892, 0.25], 1),
        (DynamicNTK(4).at_length(TABLE_S4, 2048), TABLE_S4, [1, 1, 1, 1, 1], 1),
        (DynamicNTK(4).at_length(TABLE_S4, 4096), TABLE_S4, [1, 0.660117, 0.435754, 0.287648, 0.2], 1),
        (DynamicNTK(4), TABLE_S4, [1, 0.515859, 0.266110, 0.137275, 0.076923], 1),
        (YaRN(4), TABLE_S4, [1, 1, 0.538462, 0.25, 0.25], 1.138629),
        (NTKByParts(4), TABLE_S4, [1, 1, 0.304665, 0.25, 0.25], 1),
        (Llama3(4), TABLE_S4, [1, 1, 0.814873, 0.25, 0.25], 1),
        (LongRoPE(4, rescale_factors=RISING), TABLE_S4, [1, 0.2, 0.111111, 0.076923, 0.060606], 1.087115),
        (YaRN(16), S16_LLAMA2, [1, 0.567308, 0.0625, 0.0625], 1.277259),
        (NTKByParts(16), S16_LLAMA2, [1, 0.229405, 0.0625, 0.0625], 1),
        (YaRN(16), S16_LLAMA3, [1, 0.227941, 0.0625, 0.0625], 1.277259),
        (Llama3(16), S16_LLAMA3, [1, 0.326202, 0.0625, 0.0625], 1),
    ],
)
def test_frequencies_and_attention_factors_match_the_reference_table(
    method: Method, geometry: RopeGeometry, ratios: list[float], attention: float
) -> None:
    factors = method.factors(geometry)
    pairs = [0, 8, 16, 24, 31] if geometry is TABLE_S4 else [16, 32, 48, 63]
    np.testing.assert_allclose(1 / factors.lambdas[pairs], ratios, atol=5e-7)
    assert factors.attention_factor == pytest.approx(attention, abs=5e-7)


@pytest.mark.parametrize(
    ("length", "factor", "su", "yarn"),
    [
        (4096, 8, 1.11803, 1.20794),
        (4096, 32, 1.19024, 1.34657),
        (4096, 64, 1.22474, 1.41589),
        (4096, 512, 1.32288, 1.62383),
        (8192, 16, 1.14354, 1.27726),
        (2048, 64, 1.24316, 1.41589),
    ],
)
def test_attention_factors_match_the_reference_table(length: int, factor: float, su: float, yarn: float) -> None:
    ones, geometry = (1.0,) * 4, RopeGeometry(8, 1e4, length)
    for policy, value in (("su", su), ("yarn", yarn), (1.5, 1.5)):
        method = LongRoPE(factor, rescale_factors=ones, attention_factor=policy)
        assert method.factors(geometry).attention_factor == pytest.approx(value, abs=5e-6)


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"longrope", "longrope-dynamic", "short-long"}))
def test_a_factor_of_one_is_the_pretrained_rope(name: str) -> None:
    factors = METHODS[name](factor=1.0).factors(RopeGeometry(32, 5e5, 1024))
    np.testing.assert_allclose(factors.lambdas, 1, rtol=1e-12)
    assert factors.attention_factor == 1


@given(dims.filter(lambda dim: dim > 2), thetas, lengths, scales)
def test_ntk_keeps_the_first_pair_and_divides_the_last_by_s(dim: int, theta: float, length: int, scale: float) -> None:
    lambdas = NTK(scale).factors(RopeGeometry(dim, theta, length)).lambdas
    assert lambdas[0] == 1
    assert lambdas[-1] == pytest.approx(scale)


@given(st.sampled_from([Linear, NTK, NTKByParts, YaRN, Llama3]), dims, thetas, lengths, scales)
def test_lambdas_lie_between_one_and_s_and_never_fall(
    kind: type[Method], dim: int, theta: float, length: int, scale: float
) -> None:
    lambdas = kind(scale).factors(RopeGeometry(dim, theta, length)).lambdas
    assert np.all(lambdas >= 1 - 1e-12)
    assert np.all(lambdas <= scale * (1 + 1e-12))
    assert np.all(np.diff(lambdas) >= -1e-12)


@pytest.mark.parametrize("kind", [Linear, NTK, NTKCritical, NTKByParts, Llama3, YaRN, LongRoPE2])
def test_resonance_makes_every_wavelength_the_nearest_whole_number_of_tokens(kind: type[Method]) -> None:
    geometry = RopeGeometry(64, 1e4, 2048)
    wavelengths = geometry.wavelengths * kind(5.5, resonance=True).factors(geometry).lambdas
    for pair, plain in enumerate(kind(5.5).factors(geometry).lambdas):
        tokens = 2 * math.pi * 1e4 ** (pair / 32) * plain
        assert wavelengths[pair] == pytest.approx(math.floor(tokens + 0.5), rel=1e-12)


def scaled_geometry(rope_type: str, dim: int, theta: float, length: int, **parameters: object) -> RopeGeometry:
    """Return the RoPE of a model that Transformers has scaled already, trained on `length` tokens."""
    inv_freq, attention = hf(rope_type, dim, theta, length, seq_len=length, **parameters)
    return RopeGeometry(dim, theta, length, inv_freq, attention)


SCALED = {
    "llama3": scaled_geometry(
        "llama3",
        64,
        5e5,
        131072,
        factor=8.0,
        original_max_position_embeddings=8192,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
    ),
    "yarn": scaled_geometry("yarn", 64, 1e4, 8192, factor=4.0, original_max_position_embeddings=2048),
    "longrope": scaled_geometry(
        "longrope",
        64,
        1e4,
        8192,
        factor=4.0,
        original_max_position_embeddings=2048,
        short_factor=[1.0] * 32,
        long_factor=[1 + 0.25 * i for i in range(32)],
    ),
}


@pytest.mark.parametrize("pretrained", SCALED)
@pytest.mark.parametrize("kind", [NoScaling, Linear, NTK, NTKCritical, NTKByParts, Llama3, YaRN, LongRoPE2])
def test_a_scaled_model_is_composed_with_not_clobbered(pretrained: str, kind: type[Method]) -> None:
    geometry = SCALED[pretrained]
    same, twice = kind(1).factors(geometry), kind(2).factors(geometry)
    np.testing.assert_allclose(same.lambdas, 1, rtol=1e-12)
    assert same.attention_factor == same.start_attention_factor == geometry.attention_factor
    ratio = twice.attention_factor / geometry.attention_factor
    assert ratio == pytest.approx(kind(2).attention(geometry)) and ratio >= 1
    assert twice.lambdas[-1] >= 1.99 or kind in (NoScaling, NTKCritical)
    assert np.all(twice.lambdas >= 1 - 1e-12)


@pytest.mark.parametrize("pretrained", SCALED)
def test_linear_halves_the_frequencies_a_scaled_model_has(pretrained: str) -> None:
    geometry = SCALED[pretrained]
    np.testing.assert_allclose(geometry.inv_freq / Linear(2).factors(geometry).lambdas, geometry.inv_freq / 2)


@pytest.mark.parametrize("pretrained", SCALED)
def test_yarn_ramps_between_the_rotations_that_a_scaled_model_makes(pretrained: str) -> None:
    geometry = SCALED[pretrained]
    lambdas = YaRN(2).factors(geometry).lambdas
    turns = [geometry.original_length * frequency / (2 * math.pi) for frequency in geometry.inv_freq]
    for pair in range(1, 31):
        if turns[pair + 1] > 32:
            assert lambdas[pair] == 1
        if turns[pair - 1] < 1:
            assert lambdas[pair] == 2
    assert geometry.critical_dimension == sum(turn >= 1 for turn in turns)


def test_su_attention_factors_of_two_extensions_make_that_of_one() -> None:
    # sqrt(ln(sL)/ln L) is a quotient, so extending by 4 and then by 8 is extending by 32.
    once = RopeGeometry(8, 1e4, 4096)
    ones = (1.0,) * 4
    first = LongRoPE(4, rescale_factors=ones).factors(once)
    then = RopeGeometry(8, 1e4, 16384, once.inv_freq / first.lambdas, first.attention_factor)
    both = LongRoPE(8, rescale_factors=ones).factors(then).attention_factor
    assert both == pytest.approx(LongRoPE(32, rescale_factors=ones).factors(once).attention_factor, rel=1e-14)


@given(dims, thetas, lengths, st.floats(0.5, 40))
def test_the_pair_of_some_rotations_makes_them(dim: int, theta: float, length: int, rotations: float) -> None:
    pair = RopeGeometry(dim, theta, length).pair_of_rotations(rotations)
    assert length * theta ** (-2 * pair / dim) / (2 * math.pi) == pytest.approx(rotations)


def ntk_by_hand(dim: int, theta: float, length: int, s: float) -> list[float]:
    larger = theta * s ** (dim / (dim - 2))
    return [theta ** (-2 * i / dim) / larger ** (-2 * i / dim) for i in range(dim // 2)]


def ntk_critical_by_hand(dim: int, theta: float, length: int, s: float) -> list[float]:
    larger = theta ** (math.log(s * length / (2 * math.pi)) / math.log(length / (2 * math.pi)))
    return [theta ** (-2 * i / dim) / larger ** (-2 * i / dim) for i in range(dim // 2)]


def ntk_by_parts_by_hand(dim: int, theta: float, length: int, s: float) -> list[float]:
    lambdas = []
    for i in range(dim // 2):
        frequency = theta ** (-2 * i / dim)
        turns = length * frequency / (2 * math.pi)
        gamma = 0.0 if turns < 1 else 1.0 if turns > 32 else (turns - 1) / 31
        lambdas.append(frequency / ((1 - gamma) * frequency / s + gamma * frequency))
    return lambdas


@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [(NTK, ntk_by_hand), (NTKCritical, ntk_critical_by_hand), (NTKByParts, ntk_by_parts_by_hand)],
)
@given(dims.filter(lambda dim: dim > 2), thetas, lengths, scales)
def test_methods_that_transformers_lacks_equal_a_calculation_by_hand(
    kind: type[Method], by_hand: Callable[..., list[float]], dim: int, theta: float, length: int, scale: float
) -> None:
    lambdas = kind(scale).factors(RopeGeometry(dim, theta, length)).lambdas
    np.testing.assert_allclose(lambdas, by_hand(dim, theta, length, scale), rtol=1e-12)


def test_ntk_critical_has_the_base_of_longrope2s_tables() -> None:
    lambdas = NTKCritical(16).factors(S16_LLAMA3).lambdas
    base = (S16_LLAMA3.inv_freq / lambdas)[1] ** (-128 / 2)
    assert base == pytest.approx(7.9761e7, rel=1e-5)


def test_seed_factors_times_yarn_frequencies_are_the_base_frequencies() -> None:
    reference, _ = hf("yarn", 128, 1e4, 4096, factor=8.0, original_max_position_embeddings=4096)
    lambdas = YaRN(8).factors(S16_LLAMA2).lambdas
    np.testing.assert_allclose(lambdas * reference, S16_LLAMA2.inv_freq, rtol=2e-6)
    # The official search blends the factors instead of the frequencies: another curve in 25 of the 64 pairs.
    low, high = 20, 46
    arithmetic = np.array([1 + 7 * min(max((i - low) / (high - low), 0), 1) for i in range(64)])
    differs = np.flatnonzero(~np.isclose(lambdas, arithmetic))
    assert len(differs) == 25
    worst = np.argmax(arithmetic - lambdas)
    assert (worst, arithmetic[worst], lambdas[worst]) == (
        39,
        pytest.approx(6.115, abs=5e-4),
        pytest.approx(2.773, abs=5e-4),
    )


@pytest.mark.parametrize(
    ("rotary_dim", "theta", "length", "critical"),
    [(128, 5e5, 8192, 35), (96, 1e4, 2048, 31), (128, 1e4, 4096, 46), (128, 1e6, 32768, 40), (64, 1e5, 8192, 20)],
)
def test_critical_dimension_matches_longrope2(rotary_dim: int, theta: float, length: int, critical: int) -> None:
    assert RopeGeometry(rotary_dim, theta, length).critical_dimension == critical


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(0.5), "factor must be a finite number of at least 1, got 0.5"),
        (lambda: NTK(2, alpha=0.0), "alpha must be a finite number above 0, got 0.0"),
        (lambda: NTKByParts(2, alpha=4, beta=4), "beta must be above alpha, got beta 4 and alpha 4"),
        (lambda: Llama3(2, low_freq_factor=4, high_freq_factor=1), "high_freq_factor must be above low_freq_factor"),
        (lambda: YaRN(2, beta_fast=1, beta_slow=32), "beta_fast must be above beta_slow"),
        (lambda: YaRN(2, mscale=0.7), "mscale and mscale_all_dim must be given together, got 0.7 and None"),
        (lambda: YaRN(2, attention_factor=1.1, mscale=1, mscale_all_dim=1), "must not be given with mscale"),
        (lambda: LongRoPE(4, attention_factor="su2"), "attention factor must be a number or one of su, yarn"),
        (lambda: NTKCritical(2).factors(RopeGeometry(8, 1e4, 6)), "original_length must exceed one turn"),
    ],
)
def test_bad_parameters_name_the_rule(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_none_changes_nothing() -> None:
    assert np.all(NoScaling().factors(RopeGeometry(16, 1e4, 32)).lambdas == 1)
