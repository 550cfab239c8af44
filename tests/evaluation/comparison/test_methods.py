"""Methods of a comparison from names and files, without a command line."""

from pathlib import Path

import numpy as np
import pytest

from longrope.evaluation.comparison.methods import build_methods
from longrope.rope import Method, RescaleFactors, RopeGeometry
from longrope.rope.methods import Linear, YaRN

GEOMETRY = RopeGeometry(rotary_dim=16, theta=1e4, original_length=32)


def saved(path: Path, ratio: int, documents: tuple[str, ...] = ()) -> RescaleFactors:
    provenance = {"data": {"documents": dict.fromkeys(documents, "title")}}
    factors = RescaleFactors(np.linspace(1, ratio, 8), 32, 32 * ratio, 1e4, 16, provenance=provenance)
    factors.save(path)
    return factors


def lambdas(method: Method | RescaleFactors) -> np.ndarray:
    return (method if isinstance(method, RescaleFactors) else method.factors(GEOMETRY)).lambdas


@pytest.mark.parametrize(("target", "scale"), [(None, 8), (64, 2)])
def test_baselines_are_built_for_the_longest_of_lengths_and_factors_or_as_told(
    target: int | None, scale: int, tmp_path: Path
) -> None:
    ours = saved(tmp_path / "factors.json", 8)
    found = build_methods(["linear", "yarn"], [f"ours={tmp_path}/factors.json"], GEOMETRY, [64, 128], target)
    assert list(found.by_name) == ["linear", "yarn", "ours"]
    np.testing.assert_allclose(lambdas(found.by_name["linear"]), Linear(scale).factors(GEOMETRY).lambdas)
    np.testing.assert_allclose(lambdas(found.by_name["yarn"]), YaRN(scale).factors(GEOMETRY).lambdas)
    np.testing.assert_allclose(lambdas(found.by_name["ours"]), ours.lambdas)


def test_documents_that_factors_or_a_sweep_have_seen_are_told_and_files_that_tell_none_named(tmp_path: Path) -> None:
    saved(tmp_path / "a.json", 8, ("one", "two"))
    saved(tmp_path / "b.json", 8)
    (tmp_path / "best.yaml").write_text("methods: [yarn:beta_fast=16]\ntuned_documents: [three]\n")
    found = build_methods(
        [f"@{tmp_path}/best.yaml", "none"], [f"a={tmp_path}/a.json", f"b={tmp_path}/b.json"], GEOMETRY, [128]
    )
    assert list(found.by_name) == ["yarn:beta_fast=16", "none", "a", "b"]
    assert found.seen_documents == {"one", "two", "three"}
    assert found.untold == ("b",)


def test_a_name_stands_for_one_method(tmp_path: Path) -> None:
    saved(tmp_path / "a.json", 8)
    with pytest.raises(ValueError, match="names of their own, got 'yarn' twice"):
        build_methods(["yarn"], [f"yarn={tmp_path}/a.json"], GEOMETRY, [128])
