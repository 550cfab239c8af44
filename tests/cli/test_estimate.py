"""The estimate counts what a search really does, and needs no weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from longrope.cli.estimate import forward_flops, plan
from longrope.cli.main import main
from longrope.evolution import CmaSettings, HybridSettings, LongRope2Settings, PaperSettings


@pytest.mark.parametrize("tied", [False, True])
def test_operations_are_those_that_torch_counts(make_llama: Callable[..., LlamaForCausalLM], tied: bool) -> None:
    model = make_llama(tie_word_embeddings=tied, attn_implementation="eager")
    length = 64
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros(1, length, dtype=torch.long))
    config: Any = model.config
    causal_half = 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * length**2
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    assert forward_flops(model, length) == counter.get_total_flops() - causal_half + 2 * norms * length


def test_plans_state_the_paper_s_1344_candidates_and_the_default_s_scores() -> None:
    assert (plan(PaperSettings(), 5).candidates, plan(PaperSettings(), 5).scores) == (1344, 6720)
    assert plan(LongRope2Settings(), 10).scores == 13440
    assert plan(HybridSettings(num_scores=300), 12).scores == 300
    assert plan(CmaSettings(population_size=8, num_iterations=24), 5).scores == 8 + 192 + 15


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
    assert rows["hybrid"][2] == f"{320 * 131072:,}"
    # 7.5e9 parameters without the input embeddings, 2 * 32 layers * 4096 * 131072 operations of attention per token
    expected = 6720 * 131072 * (2 * 7.50e9 + 2 * 32 * 4096 * 131072)
    assert float(rows["paper"][3]) == pytest.approx(expected, rel=0.01)
    assert not (tmp_path / "run").exists()
