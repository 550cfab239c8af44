"""Saved tiny models, as an export finds them: config, weights, tokenizer, generation settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

from longrope.rope import RescaleFactors, rope_geometry

ORIGINAL, TARGET = 32, 128
COMMON: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": ORIGINAL,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}


def save_model(folder: Path, model_type: str = "llama", **settings: Any) -> nn.Module:
    """Save a random model with a tokenizer, and return it."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[model_type](**{**COMMON, **settings})
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(64)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=ORIGINAL).save_pretrained(folder)
    return model


def make_factors(model: nn.Module, attention_factor: float = 1.1) -> RescaleFactors:
    geometry = rope_geometry(model, ORIGINAL)
    lambdas = np.round(np.linspace(1, 4, geometry.pairs), 2)
    return RescaleFactors(lambdas, ORIGINAL, TARGET, geometry.theta, geometry.rotary_dim, attention_factor)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, nn.Module]]:
    """Save a model of some type and settings; return its folder and itself."""

    def save(model_type: str = "llama", **settings: object) -> tuple[Path, nn.Module]:
        folder = tmp_path / "base"
        return folder, save_model(folder, model_type, **settings)

    return save
