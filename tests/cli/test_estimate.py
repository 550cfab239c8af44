"""The estimate counts what a search really does, and needs no weights."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from longrope.cli.estimate import plan
from longrope.cli.main import main
from longrope.evaluation.scoring.cost import forward_flops, model_size
from longrope.evolution import (
    HybridSettings,
    LongRope2Settings,
    PaperSettings,
    Settings,
    Strategy,
    build_strategy,
    load_settings,
)
from longrope.hyperparams import preset

SEEDS = {"pi": [16.0] * 64, "ntk": [16 ** (i / 63) for i in range(64)]}


@pytest.mark.parametrize("tied", [False, True])
def test_operations_are_those_that_torch_counts(make_llama: Callable[..., LlamaForCausalLM], tied: bool) -> None:
    model = make_llama(tie_word_embeddings=tied, attn_implementation="eager")
    length = 64
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros(1, length, dtype=torch.long))
    config: Any = model.config
    causal_half = 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * length**2
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    assert forward_flops(model_size(model), length) == counter.get_total_flops() - causal_half + 2 * norms * length


@pytest.mark.parametrize(
    ("settings", "num_documents", "candidates", "scores"),
    [(PaperSettings(), 5, 1344, 6720), (LongRope2Settings(), 10, 1344, 13440)],
    ids=lambda value: getattr(value, "strategy", None),
)
def test_plans_count_what_each_algorithm_asks_for(
    settings: Settings, num_documents: int, candidates: int, scores: int
) -> None:
    planned = plan(strategy_of(settings, num_documents), one_token)
    assert (planned.candidates, sum(planned.scores.values())) == (candidates, scores)


def one_token(document: int, gradient: bool) -> int:
    return 3 if gradient else 1


def test_the_default_spends_its_scores_and_no_more() -> None:
    settings = load_settings(preset("hybrid"))
    assert isinstance(settings, HybridSettings)
    planned = plan(strategy_of(settings, settings.num_documents), one_token)
    num_scores = sum(planned.scores.values())
    assert 0.95 * settings.num_scores <= num_scores <= settings.num_scores
    assert planned.candidates < num_scores


def test_a_limit_of_the_scores_bounds_the_plan() -> None:
    planned = plan(strategy_of(PaperSettings(), 5), one_token, max_scored_tokens=1000)
    assert 1000 - 32 * 5 < sum(planned.scores.values()) <= 1000  # a generation that does not fit is not begun


def strategy_of(settings: Settings, num_documents: int) -> Strategy:
    space = replace(settings.space(num_pairs=64, scale=16.0), critical_dimensions=(24, 35), sensitive_pairs=(24, 40))
    attention = 1.1 if space.search_attention else None
    seeds = {name: space.encode(lambdas, 0, attention) for name, lambdas in SEEDS.items()}
    return build_strategy(settings, space, seeds, num_documents, 0)


def test_the_estimate_reads_a_config_without_weights_and_searches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llama3 = LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=8192,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(llama3.to_dict() | {"model_type": "llama"}))
    command = ["search", "--model", str(tmp_path), "--tokenized", "-", "--target-length", "131072", "--estimate"]
    assert main([*command, "--output-dir", str(tmp_path / "run")]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["paper"][1:3] == ["1,344", f"{6720 * 131072:,}"]
    settings = load_settings(preset("hybrid"))
    assert isinstance(settings, HybridSettings)
    assert rows["hybrid"][2] == f"{settings.num_scores * 131072:,}"
    hours = [float(rows[name][4].replace(",", "")) for name in ("paper", "hybrid")]
    assert hours[1] == pytest.approx(hours[0] * settings.num_scores / 6720, rel=0.01)
    # 7.5e9 parameters without the input embeddings, 2 * 32 layers * 4096 * 131072 operations of attention per token
    expected = 6720 * 131072 * (2 * 7.50e9 + 2 * 32 * 4096 * 131072)
    assert float(rows["paper"][3]) == pytest.approx(expected, rel=0.01)
    assert not (tmp_path / "run").exists()
