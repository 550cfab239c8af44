import inspect
import json
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from longrope.evolution import STRATEGIES, HybridSettings, PaperSettings, load_settings
from longrope.evolution.settings import SETTINGS

HYPERPARAMS = Path(__file__).parents[2] / "hyperparams"

# The file of the official repository (microsoft/LongRoPE, evolution/default_hyper_params/dim_mono_llama.json).
OFFICIAL = {
    "evo_scale": 1.0,
    "population_size": 64,
    "max_time_budget": 40,
    "mutation_numbers": 16,
    "crossover_size": 16,
    "max_crossover_try": 20,
    "parents_size": 32,
    "list_step": 0.01,
}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_the_paper_s_file_states_every_default_and_nothing_else():
    path = HYPERPARAMS / "longrope.yaml"
    assert load_settings(path) == PaperSettings()
    assert set(yaml.safe_load(path.read_text())) == {field.name for field in fields(PaperSettings)} | {"strategy"}


def test_the_default_s_file_states_the_defaults_of_its_strategy():
    assert load_settings(HYPERPARAMS / "hybrid.yaml") == HybridSettings()


@pytest.mark.parametrize("path", sorted(HYPERPARAMS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_file_loads(path: Path):
    assert load_settings(path).strategy in STRATEGIES


def test_the_official_json_gives_the_paper_s_search(tmp_path: Path):
    path = tmp_path / "dim_mono.json"
    path.write_text(json.dumps(OFFICIAL))
    assert load_settings(path) == PaperSettings()


def test_the_official_evo_scale_multiplies_every_count_and_cuts_to_whole_numbers(tmp_path: Path):
    settings = load_settings(written(tmp_path, OFFICIAL | {"evo_scale": 0.1, "list_step": 0.0001}))
    assert settings == PaperSettings(
        population_size=6,
        num_iterations=4,
        num_mutations=1,
        num_crossovers=1,
        max_attempts=2,
        num_parents=3,
        step=0.0001,
    )


def test_missing_keys_take_the_defaults(tmp_path: Path):
    assert load_settings(written(tmp_path, {"strategy": "hybrid", "trust_radius": 1})) == HybridSettings(
        trust_radius=1.0
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"strategy": "paper", "num_parent": 3}, "unknown key 'num_parent'; did you mean 'num_parents'"),
        (OFFICIAL | {"parent_size": 3}, "unknown key 'parent_size'; did you mean 'parents_size'"),
        ({"strategy": "papers"}, "strategy must be one of .* got 'papers'; did you mean 'paper'"),
        ({"population_size": 8}, "strategy must be one of .* got None"),
        ({"strategy": "paper", "population_size": 8.5}, "population_size must be a whole number, got 8.5"),
        ({"strategy": "paper", "population_size": True}, "population_size must be a whole number, got True"),
        ({"strategy": "paper", "step": "1e-3"}, "step must be a number, got '1e-3'"),
        ({"strategy": "paper", "start_token_choices": [0.5]}, "start_token_choices must be a list of whole"),
        ({"strategy": "paper", "num_parents": 65}, "num_parents must be at most population_size"),
        ({"strategy": "paper", "mutation_probability": 0}, "mutation_probability must be above 0 and at most 1, got 0"),
        ({"strategy": "paper", "step": 0.03}, "step must be 1 / a whole number, got 0.03"),
        ({"strategy": "hybrid", "trust_radius": -1}, "trust_radius must be above 0 and at most 1, got -1"),
        ({"strategy": "hybrid", "significance": 0.5}, "significance must be above 0 and below 0.5, got 0.5"),
        ({"strategy": "hybrid", "width": 0}, "width must be at least 1, got 0"),
        (OFFICIAL | {"evo_scale": 0.01}, "population_size must be at least 2, got 0"),
        ("[1, 2", "must be readable YAML or JSON"),
        ("just text", "must be a mapping of names to values"),
    ],
)
def test_bad_files_are_refused_with_their_path_and_a_reason(tmp_path: Path, content: object, message: str):
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        load_settings(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused():
    with pytest.raises(ValueError, match="hyper-params must be a file that exists, got nowhere.yaml"):
        load_settings("nowhere.yaml")


def test_every_setting_has_a_docstring_and_every_strategy_its_settings():
    assert SETTINGS.keys() == STRATEGIES.keys()
    for cls in SETTINGS.values():
        source = "".join(inspect.getsource(one) for one in cls.__mro__[:-1])
        for field in fields(cls):
            declaration = source.split(f"    {field.name}: ")[1]
            assert declaration.split("\n")[1].strip().startswith('"""'), field.name
