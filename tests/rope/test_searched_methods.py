"""Methods with searched factors, against calculations by hand: LongRoPE, LongRoPE2, growing factors, pairs."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from longrope.rope import RescaleFactors, RopeGeometry, install
from longrope.rope.methods import GivenFactors, LongRoPE, LongRoPE2, LongRoPEDynamic, ShortLong, YaRN

LLAMA3 = RopeGeometry(128, 5e5, 8192)
SMALL = RopeGeometry(16, 1e4, 32)
LAMBDAS = (1.0, 1.1, 1.5, 2.0, 2.5, 4.0, 4.0, 4.5)


def given_factors(s: int = 4, attention: float = 1.2, lambdas: tuple[float, ...] = LAMBDAS) -> RescaleFactors:
    return RescaleFactors(np.array(lambdas), 32, 32 * s, 1e4, 16, attention, start_tokens=3)


def test_longrope_takes_a_row_per_layer_and_start_tokens() -> None:
    rows = (LAMBDAS, tuple(2 * v for v in LAMBDAS), LAMBDAS)
    factors = LongRoPE(4, rescale_factors=rows, start_tokens=5).factors(SMALL)
    assert factors.per_layer and factors.start_tokens == 5
    np.testing.assert_array_equal(factors.lambdas, rows)
    rounded = LongRoPE(4, rescale_factors=rows, resonance=True).factors(SMALL).lambdas
    for layer, row in enumerate(rows):
        np.testing.assert_array_equal(
            rounded[layer], LongRoPE(4, rescale_factors=row, resonance=True).factors(SMALL).lambdas
        )


@pytest.mark.parametrize("shape", [(7,), (3, 9), (2, 2, 8)])
def test_longrope_refuses_factors_of_another_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"rescale_factors must have length 8 \(rotary dim 16 / 2\)"):
        LongRoPE(4, rescale_factors=np.ones(shape).tolist()).factors(SMALL)


@given(st.floats(1, 64), st.integers(1, 64), st.floats(1, 2))
def test_longrope2_equals_a_calculation_by_hand(scale: float, critical: int, excess: float) -> None:
    method = LongRoPE2(scale, critical_pair=critical, critical_factor=scale * excess)
    lambdas = method.factors(LLAMA3).lambdas
    for i in range(64):
        # The base that gives pair d_rcd its factor: theta_rcd / lambda_rcd = base^(-2 d_rcd / d).
        base = (5e5 ** (-2 * critical / 128) / (scale * excess)) ** (-128 / (2 * critical))
        left = 5e5 ** (-2 * i / 128) / base ** (-2 * i / 128)
        assert lambdas[i] == pytest.approx(left if i < critical else scale * excess, rel=1e-11)


def test_longrope2_has_the_curve_released_for_llama3() -> None:
    right = (21.81, *np.linspace(21.9, 26.05, 30))
    factors = LongRoPE2(16, critical_pair=33, right_factors=right).factors(LLAMA3)
    np.testing.assert_allclose(factors.lambdas[:34], [1.0979064**i for i in range(34)], rtol=5e-6)
    np.testing.assert_array_equal(factors.lambdas[33:], right)
    assert factors.attention_factor == pytest.approx(1.14354, abs=5e-6)


def test_longrope2_begins_at_the_theoretical_critical_pair_with_s() -> None:
    lambdas = LongRoPE2(16).factors(LLAMA3).lambdas
    assert lambdas[34] == pytest.approx(16 ** (34 / 35))
    np.testing.assert_array_equal(lambdas[35:], 16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LongRoPE2(16, critical_factor=15.9), "must be at least s = 16 and non-decreasing, got .15.9"),
        (lambda: LongRoPE2(16, right_factors=(17.0, 16.5)), "non-decreasing, got .17.0, 16.5"),
        (lambda: LongRoPE2(16, critical_factor=17.0, right_factors=(17.0,)), "critical_factor must not be given with"),
        (
            lambda: LongRoPE2(16, critical_pair=65).factors(LLAMA3),
            r"critical_pair must lie in 1 .. 64 \(pairs\), got 65",
        ),
        (lambda: LongRoPE2(16, critical_pair=0).factors(LLAMA3), "critical_pair must lie in 1 .. 64"),
        (lambda: LongRoPE2(16, right_factors=(17.0,)).factors(LLAMA3), "right_factors must have length 29 .*, got 1"),
        (lambda: LongRoPE2(16, attention_factor="none"), "attention factor must be a number or one of su, yarn"),
    ],
)
def test_longrope2_refuses_what_its_theory_excludes(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_longrope2_warns_beyond_its_search_space() -> None:
    with pytest.warns(UserWarning, match="reach 33.0, above 2 s = 32"):
        LongRoPE2(16, critical_factor=33.0)


@given(st.integers(1, 400))
def test_growing_factors_equal_a_calculation_by_hand(length: int) -> None:
    target = given_factors()
    found = LongRoPEDynamic(long=target).at_length(SMALL, length).factors(SMALL)
    ratio = max(length / 32, 1)
    for i, value in enumerate(LAMBDAS):
        assert found.lambdas[i] == pytest.approx(1 + (value - 1) * (ratio - 1) / 3, rel=1e-12)
    growth = (1.2**2 - 1) * math.log(ratio) / math.log(4)
    assert found.attention_factor == pytest.approx(math.sqrt(1 + growth), rel=1e-12)
    assert (found.start_tokens, found.target_length) == (3, max(length, 32))


def test_growing_factors_are_the_pretrained_rope_up_to_the_original_length_and_the_given_ones_at_the_target() -> None:
    geometry = RopeGeometry(16, 1e4, 32, attention_factor=1.05)
    target = given_factors(attention=1.2)
    method = LongRoPEDynamic(long=target)
    for length in (1, 31, 32):
        short = method.at_length(geometry, length).factors(geometry)
        assert np.all(short.lambdas == 1) and short.attention_factor == 1.05
    assert np.all(method.at_length(geometry, 33).factors(geometry).lambdas[1:] > 1)
    at_target = method.at_length(geometry, 128).factors(geometry)
    np.testing.assert_array_equal(at_target.lambdas, LAMBDAS)
    assert at_target.attention_factor == pytest.approx(1.2, rel=1e-15)
    assert method.factors(geometry) == target


@pytest.mark.parametrize("policy", ["su", "yarn"])
def test_the_attention_factor_follows_the_current_length_by_its_policy(policy: str) -> None:
    target = LongRoPE(4, rescale_factors=LAMBDAS, attention_factor=policy).factors(SMALL)
    method = LongRoPEDynamic(long=target, attention_policy=policy)
    for length in (32, 48, 100, 128, 500):
        now = LongRoPE(length / 32, rescale_factors=LAMBDAS, attention_factor=policy).factors(SMALL)
        found = method.at_length(SMALL, length).factors(SMALL)
        assert found.attention_factor == pytest.approx(now.attention_factor, rel=1e-12)


def test_beyond_the_target_a_pair_with_factor_s_keeps_its_largest_angle() -> None:
    method = LongRoPEDynamic(long=given_factors())
    for length in (64, 128, 256, 4096):
        assert length / method.at_length(SMALL, length).factors(SMALL).lambdas[5] == pytest.approx(32)


def test_growing_factors_grow_in_each_layer_on_their_own() -> None:
    layered = replace(given_factors(), lambdas=np.array([LAMBDAS, (1.0,) * 7 + (3.0,)]))
    lambdas = LongRoPEDynamic(long=layered).at_length(SMALL, 80).factors(SMALL).lambdas
    np.testing.assert_allclose(lambdas[:, 7], [1 + 3.5 / 2, 1 + 2 / 2])


@pytest.mark.parametrize(("length", "long"), [(1, False), (31, False), (32, False), (33, True), (128, True)])
def test_the_long_factors_are_for_lengths_above_the_original_one(length: int, long: bool) -> None:
    sides = given_factors(1, 1.0, (1.0,) * 8), given_factors(4)
    found = ShortLong(short=sides[0], long=sides[1]).at_length(SMALL, length).factors(SMALL)
    assert found is sides[long]


def test_given_factors_are_rounded_to_whole_wavelengths_when_asked() -> None:
    pair = ShortLong(short=given_factors(1, 1.0, (1.0,) * 8), long=given_factors(), resonance=True)
    for length, lambdas in ((32, (1.0,) * 8), (33, LAMBDAS)):
        found = pair.at_length(SMALL, length).factors(SMALL)
        expected = LongRoPE(4, rescale_factors=lambdas, resonance=True).factors(SMALL)
        np.testing.assert_array_equal(found.lambdas, expected.lambdas)
        assert found.start_tokens == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LongRoPEDynamic(long=given_factors(1)), "long must be made for more than the original length"),
        (
            lambda: LongRoPEDynamic(long=given_factors(), attention_policy="none"),
            "attention_policy must be one of su, yarn",
        ),
        (
            lambda: ShortLong(short=replace(given_factors(), original_length=64), long=given_factors()),
            "short and long must agree in rotary dim, theta and original length, got 16, 10000.0, 64 and 16",
        ),
        (
            lambda: GivenFactors(long=given_factors()).lambdas(RopeGeometry(16, 1e4, 64)),
            "factors must have the model's rotary dim 16 and original length 64, got 16 and 32",
        ),
    ],
)
def test_factors_that_do_not_go_together_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_model_with_growing_factors_is_the_original_below_and_follows_the_length_both_ways(
    llama: LlamaForCausalLM,
) -> None:
    def logits(length: int) -> torch.Tensor:
        with torch.no_grad():
            return llama(input_ids=torch.arange(length)[None] * 7 % 64, use_cache=False).logits

    original = {length: logits(length) for length in (16, 32)}
    with install(llama) as rope:
        method = LongRoPEDynamic(long=YaRN(4).factors(rope.geometry))
        fixed = {}
        for length in (40, 96):
            rope.set([method.at_length(rope.geometry, length).factors(rope.geometry)])
            fixed[length] = logits(length)
        rope.set_schedule(lambda length: method.at_length(rope.geometry, length).factors(rope.geometry))
        for length in (96, 16, 40, 32, 96):
            assert torch.equal(logits(length), {**fixed, **original}[length])
