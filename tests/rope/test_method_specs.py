"""Methods from text: every parameter of every method is understood, typed, checked, and changes something."""

from pathlib import Path

import numpy as np
import pytest

from longrope.rope import METHODS, Method, RescaleFactors, RopeGeometry
from longrope.rope.methods import NTK, LongRoPE2, YaRN, build_method

GEOMETRY = RopeGeometry(16, 1e4, 256)
FACTORS = "/".join(map(str, (1, 1.1, 1.5, 2, 2.5, 3, 3.5, 4)))

PARAMETERS = {
    "none": ["resonance=true"],
    "linear": ["factor=8", "resonance=true", "attention_factor=su"],
    "ntk": ["factor=8", "resonance=true", "attention_factor=su", "alpha=2"],
    "ntk-critical": ["factor=8", "resonance=true", "attention_factor=su"],
    "dynamic": ["factor=8", "resonance=true", "attention_factor=su"],
    "ntk-by-parts": ["factor=8", "resonance=true", "attention_factor=yarn", "alpha=2", "beta=16"],
    "llama3": ["factor=8", "resonance=true", "attention_factor=1.2", "low_freq_factor=0.5", "high_freq_factor=8"],
    "yarn": [
        "factor=8",
        "resonance=true",
        "beta_fast=8",
        "beta_slow=3",
        "attention_factor=1.5",
        "mscale=0.7,mscale_all_dim=1",
        "truncate=false",
    ],
    "longrope": [
        "factor=8",
        "resonance=true",
        f"rescale_factors={FACTORS[:-1]}5",
        "attention_factor=yarn",
        "attention_factor=1.5",
        "start_tokens=4",
    ],
    "longrope2": [
        "factor=8",
        "resonance=true",
        "critical_pair=2",
        "critical_factor=5",
        "right_factors=4.5/5/6/7",
        "attention_factor=yarn",
    ],
    "longrope-dynamic": ["resonance=true", "long={folder}/other.json", "attention_policy=yarn"],
    "short-long": ["resonance=true", "short={folder}/other.json", "long={folder}/other.json"],
}
REQUIRED = {
    "longrope": {"rescale_factors": FACTORS},
    "longrope-dynamic": {"long": "{folder}/long.json"},
    "short-long": {"short": "{folder}/long.json", "long": "{folder}/long.json"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("factors")
    for name, top in (("long", 4), ("other", 5)):
        RescaleFactors(np.linspace(1, top, 8), 256, 1024, 1e4, 16, 1.1).save(folder / f"{name}.json")
    return folder


def build(name: str, changes: str, folder: Path) -> Method:
    parameters = {**REQUIRED.get(name, {}), **dict(part.split("=") for part in changes.split(",") if part)}
    text = ",".join(f"{key}={value}" for key, value in parameters.items()).format(folder=folder)
    return build_method(f"{name}:{text}" if text else name, 4.0)


def curves(method: Method) -> list[RescaleFactors]:
    return [method.at_length(GEOMETRY, length).factors(GEOMETRY) for length in (200, 500, 1024)]


@pytest.mark.parametrize(("name", "change"), [(name, change) for name in PARAMETERS for change in PARAMETERS[name]])
def test_every_accepted_parameter_changes_the_factors(name: str, change: str, folder: Path) -> None:
    plain, changed = curves(build(name, "", folder)), curves(build(name, change, folder))
    assert any(
        not np.array_equal(a.lambdas, b.lambdas)
        or (a.attention_factor, a.start_tokens) != (b.attention_factor, b.start_tokens)
        for a, b in zip(plain, changed, strict=True)
    )


def test_no_method_and_no_parameter_is_left_out_of_these_tests(folder: Path) -> None:
    assert set(PARAMETERS) == set(METHODS)
    for name, changes in PARAMETERS.items():
        tried = {part.partition("=")[0] for change in changes for part in change.split(",")}
        with pytest.raises(ValueError, match=f"unknown parameter of {name} 'x'; .*available: (.*)") as error:
            build(name, "x=1", folder)
        assert set(str(error.value).partition("available: ")[2].split(", ")) == tried


def test_parameters_get_the_types_of_the_dataclass() -> None:
    assert build_method("yarn", 8.0) == YaRN(8.0)
    assert build_method("yarn:beta_fast=16,beta_slow=2", 8.0) == YaRN(8.0, beta_fast=16.0, beta_slow=2.0)
    assert build_method("yarn:factor=16", 8.0) == YaRN(16.0)
    assert build_method("yarn:truncate=false", 8.0) == YaRN(8.0, truncate=False)
    assert build_method("ntk:alpha=2,resonance=true", 4.0) == NTK(4.0, alpha=2.0, resonance=True)
    built = build_method("longrope2:critical_pair=4,right_factors=16/17.5/18/20,attention_factor=1.1", 16.0)
    assert built == LongRoPE2(16.0, critical_pair=4, right_factors=(16.0, 17.5, 18.0, 20.0), attention_factor=1.1)


def test_factors_of_a_pair_come_from_files_and_bring_their_extension_ratio(folder: Path) -> None:
    pair = build_method(f"short-long:short={folder}/other.json,long={folder}/long.json", 99.0)
    assert pair.factor == 4
    assert [factors.lambdas[-1] for factors in curves(pair)] == [5, 4, 4]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("yarm", "unknown method 'yarm'; did you mean 'yarn'. available: none, linear, ntk,"),
        ("", "unknown method ''; available: none"),
        (
            "yarn:beta_fats=16",
            "unknown parameter of yarn 'beta_fats'; did you mean 'beta_fast'. available: factor, resonance, ",
        ),
        ("none:factor=16", "unknown parameter of none 'factor'"),
        ("yarn:factor=0.5", "factor must be a finite number of at least 1, got 0.5"),
        ("linear:16", "unknown parameter of linear '16'"),
        ("yarn:beta_fast=x", "yarn:beta_fast must be a finite number, got 'x'"),
        ("yarn:beta_fast=nan", "yarn:beta_fast must be a finite number, got 'nan'"),
        ("yarn:beta_fast", "yarn:beta_fast must be a finite number, got ''"),
        ("yarn:truncate=0", "yarn:truncate must be true or false, got '0'; write truncate=true"),
        ("longrope2:critical_pair=2.5", "longrope2:critical_pair must be a whole number, got '2.5'"),
        ("longrope2:right_factors=4/x", "longrope2:right_factors must be a finite number, got 'x'"),
        ("longrope:attention_factor=suu", "attention factor must be a number or one of su, yarn, got 'suu'"),
        ("yarn:beta_fast=1,beta_fast=2", "parameters must be given once, got beta_fast twice"),
        ("yarn:mscale=2", "mscale and mscale_all_dim must be given together"),
        ("short-long:short=published:llama2-7b-128k/4k", "short-long must be given long, got .*; write short-long:"),
        ("longrope-dynamic:long=nowhere", "factors must be a file that exists"),
    ],
)
def test_what_is_unknown_or_wrong_is_refused_by_name(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_method(spec, 4.0)
