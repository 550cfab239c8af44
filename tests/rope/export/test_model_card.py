"""The model card states what the factors are, what was measured if anything was, and how to load the folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from longrope.rope import RescaleFactors
from longrope.rope.export import model_card

FACTORS = RescaleFactors(np.linspace(1, 8, 4), 256, 2048, 1e4, 8, 1.25, provenance={"seed": 7, "model": "m"})


def front_matter(card: str) -> dict[str, Any]:
    opening, yaml_text, _ = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(yaml_text)


def test_front_matter_is_yaml_that_the_hub_reads() -> None:
    meta = front_matter(model_card(FACTORS, "meta-llama/Llama-2-7b-hf"))
    assert meta["base_model"] == "meta-llama/Llama-2-7b-hf"
    assert meta["library_name"] == "transformers"
    assert "longrope" in meta["tags"]


@pytest.mark.parametrize("name", ["/home/someone/models/tiny", "models: [odd]"])
def test_a_local_folder_is_no_hub_id_and_its_path_stays_private(name: str) -> None:
    card = model_card(FACTORS, name)
    assert "base_model" not in front_matter(card)
    assert "/home" not in card


def test_numbers_come_from_the_factors() -> None:
    card = model_card(FACTORS, "o/m")
    for fact in (
        "256 tokens",
        "2048 tokens",
        "(8 times)",
        "4 pairs, 1 to 8",
        "theta 10000",
        "factor: 1.25",
        '"seed": 7',
    ):
        assert fact in card
    assert "Start tokens: none" in card
    assert "first 16 tokens" in model_card(replace(FACTORS, start_tokens=16), "o/m")


def test_results_appear_only_where_they_were_measured() -> None:
    assert "Results" not in model_card(FACTORS, "o/m")
    assert "## Results\n\n| method |\n" in model_card(FACTORS, "o/m", "| method |\n|---|\n")


def test_it_says_how_to_load_and_what_to_cite(tmp_path: Path) -> None:
    card = model_card(FACTORS, "o/m")
    for line in (
        "from_pretrained(",
        "vllm serve this/folder --max-model-len 2048",
        "--context-length 2048",
        "2402.13753",
    ):
        assert line in card
