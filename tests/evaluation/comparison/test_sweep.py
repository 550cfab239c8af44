"""Points of a sweep are those asked for, each once."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evaluation.comparison.cells import method_key
from longrope.evaluation.comparison.sweep import Parameter, Sweep, read_sweep
from longrope.evaluation.report.relations import parse_spec
from longrope.hyperparams import sweep_file
from longrope.rope.methods import build_method

SHIPPED = sorted(path.stem for path in sweep_file("yarn").parent.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_sweep_holds_its_method_s_default_and_only_methods_that_differ(name):
    sweep = read_sweep(sweep_file(name))
    assert sweep.method == name
    for specs in (sweep.grid(8.0), sweep.samples(8.0, 20, seed=1)):
        assert specs[0] == name
        assert len({method_key(build_method(spec, 8.0)) for spec in specs}) == len(specs) > 4


def test_a_grid_is_the_product_of_its_values_but_for_what_the_method_refuses():
    sweep = Sweep(
        "llama3",
        {
            "factor": Parameter((0.5, 1, 2), relative=True),
            "low_freq_factor": Parameter((1.0, 4.0)),
            "high_freq_factor": Parameter((4.0, 8.0)),
        },
    )
    expected = {
        (factor * 6, low, high) for factor, low, high in product((0.5, 1, 2), (1.0, 4.0), (4.0, 8.0)) if high > low
    }
    specs = sweep.grid(6.0)
    found = {tuple(map(float, parse_spec(spec)[1].values())) for spec in specs[1:]}
    assert specs[0] == "llama3"
    assert found == expected - {(6.0, 1.0, 4.0)}  # the default, under its own name


@settings(max_examples=30, deadline=None)
@given(low=st.floats(0.01, 10), times=st.floats(1.5, 1000), seed=st.integers(0, 1000))
def test_random_samples_are_in_range_and_the_same_for_a_seed(low, times, seed):
    sweep = Sweep("ntk", {"alpha": Parameter((1.0,), low, low * times, "log")})
    specs = sweep.samples(4.0, 10, seed)
    assert specs == sweep.samples(4.0, 10, seed)
    assert len(specs) == len(set(specs))
    for spec in specs[1:]:
        assert low * 0.999 <= float(parse_spec(spec)[1]["alpha"]) <= low * times * 1.001


def test_log_samples_are_even_in_the_logarithm_and_linear_ones_in_the_value():
    rng = np.random.default_rng(0)
    log = [Parameter((1.0,), 1, 10_000, "log").draw(rng) for _ in range(4000)]
    linear = [Parameter((1.0,), 1, 10_000).draw(rng) for _ in range(4000)]
    assert np.mean(np.array(log) < 100) == pytest.approx(0.5, abs=0.03)
    assert np.mean(np.array(linear) < 5000) == pytest.approx(0.5, abs=0.03)


def test_a_space_of_few_points_ends():
    sweep = Sweep("ntk", {"alpha": Parameter((1.0, 2.0, 3.0))})
    assert sorted(sweep.samples(4.0, 50, seed=0)) == ["ntk", "ntk:alpha=2", "ntk:alpha=3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"method": "yarm", "parameters": {"factor": {"values": [1]}}}, "unknown method 'yarm'; did you mean 'yarn'"),
        ({"method": "yarn", "parameters": {"beta": {"values": [1]}}}, "unknown parameter of yarn 'beta'"),
        ({"method": "yarn", "parameters": {"beta_fast": {"values": []}}}, "at least one number"),
        ({"method": "yarn", "parameters": {"beta_fast": {"values": [8], "low": 1}}}, "low and high must be given"),
        ({"method": "yarn", "parameters": {"beta_fast": {"values": [8], "low": 2, "high": 1}}}, "low must be below"),
        ({"method": "yarn", "parameters": {"beta_fast": {"value": [8]}}}, "values"),
        ({"method": "yarn", "parameters": {"beta_fast": {"values": [8], "steps": 3}}}, "steps"),
        ({"method": "yarn", "parameters": {"beta_fast": {"values": ["x"]}}}, "could not convert"),
        ({"method": "yarn", "parameters": {}, "grid": 1}, "unknown grid"),
        ({"parameters": {}}, "method"),
        ([], "sweep must be a YAML file"),
    ],
)
def test_what_is_no_sweep_is_refused(tmp_path: Path, content: object, message: str):
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        read_sweep(tmp_path / "sweep.yaml")
    with pytest.raises(ValueError, match="must be a YAML file"):
        read_sweep(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="sweeps must be a file that exists or one of .*yarn, got 'yarm'"):
        sweep_file("yarm")
