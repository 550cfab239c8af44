"""One entry for every source of factors: what is read equals what Transformers computes, or an error says why not."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma3TextConfig, GPTNeoXConfig, LlamaConfig, LlamaForCausalLM, Phi3Config, PhiConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from longrope.rope import RescaleFactors, RopeGeometry, load_factors, rope_geometry

GEOMETRY = RopeGeometry(16, 1e4, 64)
RISING = [1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
SHORT = [1.0, 1.0, 1.0, 1.0, 1.25, 1.25, 1.5, 1.5]


def write_csv(folder: Path, rows: list[list[float]]) -> str:
    path = folder / "factors.csv"
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return str(path)


# Our own files


def test_a_factor_file_and_its_run_folder_read_as_they_were_saved(tmp_path: Path) -> None:
    saved = RescaleFactors(np.array(RISING), 64, 256, 1e4, 16, 1.2, 4, provenance={"seed": 1})
    saved.save(tmp_path / "factors.json")
    (tmp_path / "config.json").write_text("{}")  # a run folder may hold an exported model as well
    for source in (tmp_path / "factors.json", tmp_path):
        read = load_factors(str(source), GEOMETRY, 999, "yarn")
        assert read == saved and read.provenance == saved.provenance


# CSV


def test_a_csv_column_gets_lengths_and_attention_factor_from_the_arguments(tmp_path: Path) -> None:
    source = write_csv(tmp_path, [[v] for v in RISING])
    read = load_factors(source, GEOMETRY, 256)
    np.testing.assert_array_equal(read.lambdas, RISING)
    assert (read.original_length, read.target_length, read.theta, read.rotary_dim) == (64, 256, 1e4, 16)
    assert read.attention_factor == pytest.approx(math.sqrt(math.log(256) / math.log(64)))
    assert read.provenance == {"source": source}
    assert load_factors(source, GEOMETRY, 256, "yarn").attention_factor == pytest.approx(1 + 0.1 * math.log(4))
    scaled = RopeGeometry(16, 1e4, 64, attention_factor=1.1)
    constant = load_factors(source, scaled, 256, 1.5)
    assert (constant.attention_factor, constant.start_attention_factor) == (pytest.approx(1.65), 1.1)


def test_a_csv_of_layers_keeps_its_rows_unless_all_are_alike(tmp_path: Path) -> None:
    rows = [RISING, [2 * v for v in RISING], RISING]
    np.testing.assert_array_equal(load_factors(write_csv(tmp_path, rows), GEOMETRY, 256).lambdas, rows)
    for alike in ([RISING] * 3, [RISING]):
        np.testing.assert_array_equal(load_factors(write_csv(tmp_path, alike), GEOMETRY, 256).lambdas, RISING)


def test_a_csv_that_falls_is_refused_with_the_remedy_and_read_with_it(tmp_path: Path) -> None:
    source = write_csv(tmp_path, [[v] for v in [*RISING[:6], 2.99, 4.0]])
    with pytest.raises(
        ValueError, match=r"non-decreasing, got 2.99 after 3.0 at pair 6; .*set allow_decreasing"
    ) as error:
        load_factors(source, GEOMETRY, 256)
    assert source in str(error.value)
    assert load_factors(source, GEOMETRY, 256, allow_decreasing=True).lambdas[6] == 2.99


def test_a_csv_alone_says_what_it_lacks(tmp_path: Path) -> None:
    source = write_csv(tmp_path, [[v] for v in RISING])
    for geometry, length in ((None, None), (GEOMETRY, None), (None, 256)):
        with pytest.raises(ValueError, match="a CSV must be read with a geometry and a target_length"):
            load_factors(source, geometry, length)
    with pytest.raises(ValueError, match=r"length 4 \(rotary dim 8 / 2\), got shape \(8,\)"):
        load_factors(source, RopeGeometry(8, 1e4, 64), 256)


# Models of Transformers

LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": RISING, "rope_theta": 5e5}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "rope_theta": 5e5,
}


def llama_config(parameters: dict[str, Any], **settings: Any) -> LlamaConfig:
    return LlamaConfig(head_dim=16, max_position_embeddings=256, rope_parameters=parameters, **settings)


def partial_config(kind: type) -> Any:
    sizes = {"hidden_size": 128, "num_attention_heads": 4, "max_position_embeddings": 256}
    return kind(rope_parameters={**YARN, "partial_rotary_factor": 0.5}, **sizes)


CONFIGS: dict[str, Callable[[], Any]] = {
    "longrope": lambda: llama_config({**LONGROPE, "original_max_position_embeddings": 64}),
    "longrope, constant": lambda: llama_config(
        {**LONGROPE, "original_max_position_embeddings": 64, "attention_factor": 1.3, "factor": 4.0}
    ),
    "longrope, factor": lambda: llama_config({**LONGROPE, "original_max_position_embeddings": 64, "factor": 8.0}),
    "Phi-3": lambda: Phi3Config(
        hidden_size=128,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        pad_token_id=0,
        original_max_position_embeddings=64,
        rope_parameters={**LONGROPE, "original_max_position_embeddings": 64, "partial_rotary_factor": 0.5},
    ),
    "yarn": lambda: llama_config(YARN),
    "yarn, betas": lambda: llama_config({**YARN, "beta_fast": 8.0, "beta_slow": 2.0, "truncate": False}),
    "yarn, attention": lambda: llama_config({**YARN, "attention_factor": 1.25, "mscale": 1.0, "mscale_all_dim": 0.8}),
    "yarn, mscale": lambda: llama_config({**YARN, "mscale": 1.0, "mscale_all_dim": 0.5}),
    "yarn, mscale alone": lambda: llama_config({**YARN, "mscale": 2.0}),
    "llama3": lambda: llama_config(LLAMA3),
    "partial rotary, Phi": lambda: partial_config(PhiConfig),
    "partial rotary, GPT-NeoX": lambda: partial_config(GPTNeoXConfig),
    "Gemma 3": lambda: Gemma3TextConfig(
        head_dim=16,
        max_position_embeddings=256,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {**YARN, "rope_theta": 1e6},
        },
    ),
}


def transformers_own(config: Any, length: int = 256) -> tuple[np.ndarray, float]:
    """Return inverse frequencies and attention factor as Transformers computes them for a sequence length."""
    nested = "full_attention" in config.rope_parameters
    parameters = config.rope_parameters["full_attention"] if nested else config.rope_parameters
    extra = {"layer_type": "full_attention"} if nested else {}
    init = ROPE_INIT_FUNCTIONS[parameters["rope_type"]]
    inv_freq, attention = init(config, torch.device("cpu"), seq_len=length, **extra)
    return inv_freq.double().numpy(), attention


def assert_reads_as(read: RescaleFactors, reference: tuple[np.ndarray, float]) -> None:
    plain = RopeGeometry(read.rotary_dim, read.theta, read.original_length).inv_freq
    np.testing.assert_allclose(plain / read.lambdas, reference[0], rtol=3e-6)
    assert read.attention_factor == pytest.approx(reference[1], rel=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_config_reads_as_the_frequencies_transformers_gives_it(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]()
    config.save_pretrained(tmp_path)
    for source in (str(tmp_path), str(tmp_path / "config.json")):
        read = load_factors(source)
        assert_reads_as(read, transformers_own(config))
        assert (read.original_length, read.start_tokens, read.provenance["source"]) == (64, 0, source)
        assert read.target_length == (512 if name == "longrope, factor" else 256)


def test_the_short_factors_of_a_model_are_read_when_asked(tmp_path: Path) -> None:
    config = CONFIGS["Phi-3"]()
    config.save_pretrained(tmp_path)
    read = load_factors(str(tmp_path), short=True)
    np.testing.assert_array_equal(read.lambdas, SHORT)
    assert read.target_length == read.original_length == 64
    assert_reads_as(read, transformers_own(config, 64))


@pytest.mark.parametrize(
    ("kind", "scaling"),
    [
        ("llama", {"type": "su", "short_factor": SHORT, "long_factor": RISING}),
        ("llama", {"rope_type": "su", "short_factor": SHORT, "long_factor": RISING}),
        ("llama", {"type": "longrope", "short_factor": SHORT, "long_factor": RISING}),
        ("phi3", {"type": "su", "short_factor": SHORT, "long_factor": RISING}),
        ("phi3", {"type": "yarn", "short_factor": SHORT, "long_factor": RISING}),
    ],
)
def test_the_old_names_of_longrope_are_understood(kind: str, scaling: dict[str, Any], tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 256, "rope_theta": 5e5}
    old = {"model_type": kind, **sizes, "original_max_position_embeddings": 64, "rope_scaling": scaling}
    (tmp_path / "config.json").write_text(json.dumps(old))
    read = load_factors(str(tmp_path))
    assert (read.theta, read.original_length, read.target_length) == (5e5, 64, 256)
    assert_reads_as(read, transformers_own(CONFIGS["longrope"]()))


def test_old_yarn_and_llama3_configs_are_understood(tmp_path: Path) -> None:
    for parameters in (YARN, LLAMA3):
        scaling = {key: value for key, value in parameters.items() if key != "rope_theta"}
        old = {"model_type": "llama", "head_dim": 16, "max_position_embeddings": 256, "rope_scaling": scaling}
        (tmp_path / "config.json").write_text(json.dumps({**old, "rope_theta": parameters["rope_theta"]}))
        assert_reads_as(load_factors(str(tmp_path)), transformers_own(llama_config(dict(parameters))))


def test_factors_of_a_config_are_relative_to_the_frequencies_its_own_model_has(
    make_llama: Callable[..., LlamaForCausalLM], tmp_path: Path
) -> None:
    for parameters in (YARN, LLAMA3):
        model = make_llama(rope_parameters=dict(parameters), max_position_embeddings=256)
        model.config.save_pretrained(tmp_path)
        geometry = rope_geometry(model)
        read = load_factors(str(tmp_path), geometry)
        np.testing.assert_allclose(read.lambdas, 1, rtol=1e-6)
        assert read.attention_factor == read.start_attention_factor == pytest.approx(geometry.attention_factor)
        plain = make_llama(rope_parameters={"rope_type": "default", "rope_theta": parameters["rope_theta"]})
        assert load_factors(str(tmp_path), rope_geometry(plain)) == load_factors(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            llama_config({"rope_type": "default", "rope_theta": 1e4}),
            "rope_type must be one of longrope, yarn, llama3, got 'default'",
        ),
        (llama_config({**YARN, "rope_theta": 2e4}), "theta must be that of the model, 10000.0, got 20000.0"),
        (
            LlamaConfig(head_dim=32, rope_parameters=dict(YARN)),
            r"factors must have length 8 \(rotary dim 16 / 2\), got 16",
        ),
    ],
)
def test_a_config_without_factors_or_of_another_model_is_refused(config: Any, message: str, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_factors(str(tmp_path), GEOMETRY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "unheard-of"}, "model_type must be known to Transformers, got 'unheard-of'"),
        ({"model_type": "gpt2"}, "rope_type must be one of longrope, yarn, llama3, got"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type must be one of .*, got 'dynamic'"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "config.json must be one that Transformers can read"),
        (
            {"rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": RISING[:7]}},
            r"rescale_factors must have length 8 \(rotary dim 16 / 2\), got 7",
        ),
    ],
)
def test_a_faulty_config_is_refused_with_its_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    sizes = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 256}
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "rope_theta": 1e4, **change}))
    with pytest.raises(ValueError, match=message) as error:
        load_factors(str(tmp_path))
    assert str(tmp_path) in str(error.value)


def test_sources_of_one_set_give_it_as_short_factors_too(tmp_path: Path) -> None:
    CONFIGS["yarn"]().save_pretrained(tmp_path)
    (tmp_path / "run").mkdir()
    RescaleFactors(np.array(RISING), 64, 256, 1e4, 16).save(tmp_path / "run" / "factors.json")
    csv = write_csv(tmp_path, [[v] for v in RISING])
    for source in (tmp_path, tmp_path / "run", tmp_path / "run" / "factors.json", csv):
        assert load_factors(source, GEOMETRY, 256, short=True) == load_factors(source, GEOMETRY, 256)
    name = "published:llama2-7b-128k"
    assert load_factors(name, short=True) == load_factors(name)


@pytest.mark.parametrize("depth", [5_000, 200_000])
def test_json_nested_too_deep_is_refused_in_our_words(tmp_path: Path, depth: int) -> None:
    (tmp_path / "factors.json").write_text("[" * depth + "]" * depth)
    with pytest.raises(ValueError, match="factors must be ") as error:
        load_factors(tmp_path)
    assert "recursion" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "file that exists"),
        ("nowhere.csv", "a CSV must be read with"),
        ("{tmp}", "factors.json or config.json"),
    ],
)
def test_a_missing_source_is_refused(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_factors(source.format(tmp=tmp_path))


# The hub


class Hub:
    """Stands in for `hf_hub_download`: serves a folder and remembers what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str, str | None]] = []

    def __call__(self, repo_id: str, filename: str, revision: str | None = None) -> str:
        from huggingface_hub.errors import EntryNotFoundError

        self.asked.append((repo_id, filename, revision))
        if not (self.folder / filename).exists():
            raise EntryNotFoundError(f"no {filename}")
        return str(self.folder / filename)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub := Hub(tmp_path))
    return hub


def test_a_hub_repository_gives_its_factor_file_or_else_its_config(hub: Hub) -> None:
    CONFIGS["yarn"]().save_pretrained(hub.folder)
    assert_reads_as(load_factors("hf://me/model"), transformers_own(CONFIGS["yarn"]()))
    assert hub.asked == [("me/model", "factors.json", None), ("me/model", "config.json", None)]
    saved = RescaleFactors(np.array(RISING), 64, 256, 1e4, 16)
    saved.save(hub.folder / "factors.json")
    assert load_factors("hf://me/model") == saved


def test_a_hub_address_can_name_a_revision_and_a_file(hub: Hub) -> None:
    (hub.folder / "tables").mkdir()
    write_csv(hub.folder / "tables", [[v] for v in RISING])
    read = load_factors("hf://me/model@v1/tables/factors.csv", GEOMETRY, 256)
    assert hub.asked == [("me/model", "tables/factors.csv", "v1")]
    assert read.provenance == {"source": "hf://me/model@v1/tables/factors.csv"}


def test_a_hub_that_has_no_such_file_is_told_from_one_out_of_reach(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="must hold factors.json or config.json, got hf://me/model; name the file"):
        load_factors("hf://me/model")
    with pytest.raises(ValueError, match="must hold x.json, got hf://me/model/x.json"):
        load_factors("hf://me/model/x.json")
    with pytest.raises(ValueError, match="a hub address must be hf://OWNER/NAME"):
        load_factors("hf://model")

    from huggingface_hub.errors import LocalEntryNotFoundError

    for failure in (ConnectionError("no route\nto host"), LocalEntryNotFoundError("not cached\nand offline")):

        def offline(*_: Any, failure: Exception = failure, **__: Any) -> str:
            raise failure

        monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
        with pytest.raises(ValueError, match="must be on the Hugging Face hub and within reach, got ") as error:
            load_factors("hf://me/model")
        assert "\n" not in str(error.value)
