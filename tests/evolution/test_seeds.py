"""Factors of other runs and published ones become seeds of a search: as they are, rescaled, or of a second stage."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longrope.evolution import SeedOptions, Space, build_seeds
from longrope.evolution.seeds import initial_factors, rescale
from longrope.rope import RescaleFactors, RopeGeometry, load_factors
from longrope.rope.methods import NTK, Linear, YaRN

LLAMA2 = RopeGeometry(rotary_dim=128, theta=1e4, original_length=4096)
RATIOS = st.floats(1.5, 512)


def options(target_length: int, *sources: object, **others: Any) -> SeedOptions:
    return SeedOptions(target_length, tuple(str(source) for source in sources), **others)


def space_of(geometry: RopeGeometry, target_length: int, step: float = 0.001, **options: Any) -> Space:
    return Space(geometry.pairs, target_length / geometry.original_length, step, upper_ratio=2.0, **options)


def extended_by(name: str) -> RopeGeometry:
    """Llama-2 with the factors of its fine-tuning in its frequencies, as a longrope checkpoint has them."""
    first_stage = load_factors(name)
    return RopeGeometry(
        128, 1e4, first_stage.target_length, LLAMA2.inv_freq / first_stage.lambdas, first_stage.attention_factor
    )


@given(made_for=RATIOS, scale=RATIOS)
def test_rescaled_position_interpolation_and_ntk_are_those_of_the_new_ratio(made_for: float, scale: float) -> None:
    for method in (Linear, NTK):
        old, new = (method(ratio).factors(LLAMA2).lambdas for ratio in (made_for, scale))
        np.testing.assert_allclose(rescale(old, made_for, scale, "file"), new, rtol=1e-9)


@given(made_for=RATIOS, scale=RATIOS, lambdas=st.lists(st.floats(1, 1000), min_size=1))
def test_rescaling_keeps_order_and_ones_and_is_undone_by_rescaling_back(
    made_for: float, scale: float, lambdas: list[float]
) -> None:
    old = np.sort([1.0, made_for, *lambdas])
    new = rescale(old, made_for, scale, "file")
    assert new[0] == 1
    assert new[list(old).index(made_for)] == pytest.approx(scale)
    assert np.all(np.diff(new) >= 0)
    np.testing.assert_allclose(rescale(new, scale, made_for, "file"), old, rtol=1e-6)


def saved(path: Path, ratio: float, geometry: RopeGeometry = LLAMA2) -> Path:
    YaRN(ratio).factors(geometry).save(path)
    return path


def test_factors_of_another_ratio_are_refused_with_both_ratios_and_the_remedy(tmp_path: Path) -> None:
    path = saved(tmp_path / "factors.json", 8)
    with pytest.raises(ValueError, match=rf"ratio of the search \(16\), got {path} for 8; .*--auto-rescale-init-fact"):
        build_seeds(options(65536, path), LLAMA2, space_of(LLAMA2, 65536))
    with pytest.raises(ValueError, match=r"got published:llama2-7b-256k for 64"):
        build_seeds(options(65536, "published:llama2-7b-256k"), LLAMA2, space_of(LLAMA2, 65536))


def test_with_the_option_they_are_rescaled_and_take_the_attention_factor_of_the_policy(tmp_path: Path) -> None:
    path = saved(tmp_path / "factors.json", 8)
    space = space_of(LLAMA2, 65536, search_attention=True)
    chosen = options(65536, path, auto_rescale_init_factors=True, attention_factor="su")
    seeds = build_seeds(chosen, LLAMA2, space)
    ours = {name: genome for name, genome in seeds.items() if name.startswith(str(path))}
    assert list(ours) == [str(path)], "own attention factor and policy are the same, so there is one seed"
    old = YaRN(8).factors(LLAMA2).lambdas
    np.testing.assert_allclose(space.decode(ours[str(path)]), old ** (4 / 3), atol=0.0005)  # ln 16 / ln 8
    assert space.decode_attention(ours[str(path)]) == pytest.approx(np.sqrt(1 + 4 / 12), abs=0.0005)  # ln 16 / ln 4096


def test_factors_of_the_same_ratio_stay_as_they_are_with_and_without_the_option(tmp_path: Path) -> None:
    path, lambdas = tmp_path / "factors.json", np.linspace(1, 16, 64)
    RescaleFactors(lambdas, 4096, 65536, 1e4, 128, attention_factor=1.2).save(path)
    space = space_of(LLAMA2, 65536, search_attention=True)
    kept, same = (
        build_seeds(options(65536, path, auto_rescale_init_factors=rescaled), LLAMA2, space)
        for rescaled in (False, True)
    )
    assert kept == same
    np.testing.assert_allclose(space.decode(kept[str(path)]), lambdas, atol=0.0005)
    assert space.decode_attention(kept[str(path)]) == pytest.approx(1.2)


def test_a_csv_is_for_the_target_or_with_the_option_for_its_largest_factor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "factors.csv", 64)
    space = space_of(LLAMA2, 32768)
    rescaled = initial_factors(str(path), options(32768, path, auto_rescale_init_factors=True), LLAMA2, space)
    np.testing.assert_allclose(rescaled.lambdas, YaRN(64).factors(LLAMA2).lambdas ** 0.5)
    assert capsys.readouterr().out == ""
    initial_factors(str(path), options(32768, path), LLAMA2, space)
    assert "lie outside 1 to 16 and are clipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("first", "both"),
    [
        ("llama2-7b-128k", "llama2-7b-128k/2048k"),
        ("llama2-7b-256k", "llama2-7b-256k/512k"),
        ("llama2-7b-256k", "llama2-7b-256k/2048k"),
        ("mistral-7b-256k", "mistral-7b-256k/1024k"),
    ],
)
def test_a_second_stage_starts_at_the_published_factors_of_both_divided_by_those_of_the_first(
    first: str, both: str
) -> None:
    geometry = extended_by(f"published:{first}")
    total = load_factors(f"published:{both}")
    space = space_of(geometry, total.target_length)
    assert space.scale == total.target_length / load_factors(f"published:{first}").target_length
    seeds = build_seeds(options(total.target_length, f"published:{both}"), geometry, space)
    second = space.decode(seeds[f"published:{both}"])
    stage = np.clip(np.maximum.accumulate(total.lambdas * geometry.inv_freq / LLAMA2.inv_freq), 1, 2 * space.scale)
    np.testing.assert_allclose(second, stage, atol=0.0005)
    if first.startswith("llama2"):  # whose stages are non-decreasing: the product is the published table
        product = second * LLAMA2.inv_freq / geometry.inv_freq
        np.testing.assert_allclose(product, total.lambdas, atol=0.0006 * float(total.lambdas.max()))


def test_a_second_stage_can_start_at_that_for_another_target() -> None:
    geometry = extended_by("published:llama2-7b-256k")
    source, target = "published:llama2-7b-256k/512k", 2097152
    space = space_of(geometry, target)
    with pytest.raises(ValueError, match=rf"ratio of the search \(8\), got {source} for 2; "):
        build_seeds(options(target, source), geometry, space)
    rescaled = initial_factors(source, options(target, source, auto_rescale_init_factors=True), geometry, space)
    stage = load_factors(source).lambdas / load_factors("published:llama2-7b-256k").lambdas
    np.testing.assert_allclose(rescaled.lambdas, stage**3, rtol=1e-9)  # ln 8 / ln 2


def test_factors_that_a_model_carries_already_can_not_be_rescaled() -> None:
    geometry, source = extended_by("published:llama2-7b-256k"), "published:llama2-7b-256k"
    chosen = options(2097152, source, auto_rescale_init_factors=True)
    with pytest.raises(ValueError, match=f"above 1 to be rescaled, got {source} for 1 times"):
        build_seeds(chosen, geometry, space_of(geometry, 2097152))


def test_falling_factors_become_seeds_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    source = "published:mistral-7b-128k"
    seeds = build_seeds(options(131072, source), LLAMA2, space_of(LLAMA2, 131072, step=0.01))
    assert list(seeds[source].steps) == sorted(seeds[source].steps)
    assert f"factors of {source} fall below an earlier one" in capsys.readouterr().out


def test_factors_by_layer_are_no_seed(tmp_path: Path) -> None:
    lambdas = np.stack([YaRN(16).factors(LLAMA2).lambdas, Linear(16).factors(LLAMA2).lambdas])
    RescaleFactors(lambdas, 4096, 65536, 1e4, 128).save(tmp_path / "factors.json")
    with pytest.raises(ValueError, match="one row of factors for all layers"):
        build_seeds(options(65536, tmp_path), LLAMA2, space_of(LLAMA2, 65536))
