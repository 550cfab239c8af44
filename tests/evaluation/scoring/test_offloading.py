"""Candidates are scored alike on a model whose weights accelerate keeps in main memory or on the disk."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from transformers import AutoModelForCausalLM

from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring.generation import greedy
from longrope.evaluation.scoring.model import load_model
from longrope.rope import install
from longrope.rope.methods import YaRN


def losses(model: Any, documents: Any) -> list[float | None]:
    with install(model) as installation:
        factors = [YaRN(scale).factors(installation.geometry) for scale in (2.0, 4.0)]
        scores = PerplexityObjective(model, installation, documents, 40, 2).score(factors, 0)
    assert [score.error for score in scores] == [None, None]
    return [score.nats for score in scores]


@pytest.mark.parametrize("place", ["main memory", "disk"])
def test_offloaded_weights_give_the_losses_and_answers_of_loaded_ones(
    place: str, make_llama: Any, make_data: Any, tmp_path: Path
) -> None:
    documents, ids = make_data([40]).documents, torch.arange(1, 9)[None]
    expected, answer = losses(make_llama(), documents), greedy(make_llama(), ids, 4)
    model: Any = make_llama()
    device = torch.device("cpu")
    model = cpu_offload(model, device) if place == "main memory" else disk_offload(model, str(tmp_path), device)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert losses(model, documents) == pytest.approx(expected, rel=1e-6)
    assert torch.equal(greedy(model, ids, 4), answer)  # type: ignore[arg-type]


def test_a_model_that_accelerate_spread_is_scored_alike(make_data: Any, model_folder: Path, tmp_path: Path) -> None:
    documents = make_data([40]).documents
    whole, _ = load_model(str(model_folder), device="cpu")
    spread, _ = load_model(str(model_folder), device="auto-shard")  # without a card all of it is on the CPU
    placed = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu"}
    partly = AutoModelForCausalLM.from_pretrained(
        model_folder,
        device_map={**placed, "model.rotary_emb": "cpu", "lm_head": "cpu"},
        offload_folder=tmp_path,
        dtype=torch.float32,
    ).eval()
    assert {parameter.is_meta for parameter in partly.parameters()} == {False, True}
    assert losses(spread, documents) == losses(whole, documents)
    assert losses(partly, documents) == pytest.approx(losses(whole, documents), rel=1e-6)
