"""A tiny random Llama for every room's tests."""

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM


def tiny_llama(**changes: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 32,
        "initializer_range": 0.3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).eval()


@pytest.fixture
def make_llama() -> Callable[..., LlamaForCausalLM]:
    """Build a tiny Llama with some settings changed; the weights are always the same."""
    return tiny_llama


@pytest.fixture
def llama() -> LlamaForCausalLM:
    return tiny_llama()
