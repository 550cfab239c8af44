"""A tiny random Llama and a byte-level tokenizer for every package's tests: nothing is downloaded.

With LONGROPE_FULL=1 in the environment (`bash tests/run.sh --full`), tests of faults and hostile input take their long
form: the hypothesis profile `fuzz` and the fixture `num_damages`.
"""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

hypothesis.settings.register_profile("longrope", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("longrope")
FULL = os.environ.get("LONGROPE_FULL") == "1"
hypothesis.settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=10_000 if FULL else 15,
    suppress_health_check=list(hypothesis.HealthCheck),
    derandomize=not FULL,  # the suite must not fail by chance
)


def pytest_collection_finish() -> None:
    """Let no later garbage collection look through what is imported, which takes most of its time."""
    gc.collect()
    gc.freeze()


def tiny_llama(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
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


@pytest.fixture(scope="session")
def num_damages() -> int:
    """How many random places of a journal are damaged, one after the other."""
    return 200 if FULL else 20


@pytest.fixture
def make_llama() -> Callable[..., LlamaForCausalLM]:
    """Build a tiny Llama with some settings changed; the weights are always the same."""
    return tiny_llama


@pytest.fixture
def llama() -> LlamaForCausalLM:
    return tiny_llama()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and `<s>` in front of each text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<s>": 0} | {character: i + 1 for i, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny random Llama (trained length 32) with a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = byte_tokenizer()
    tiny_llama(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def gguf_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a GGUF file of the same model and tokenizer."""
    pytest.importorskip("gguf", reason="GGUF needs the package: pip install gguf")
    from .rope.export.llama_gguf import write_llama

    tokenizer = byte_tokenizer()
    model = tiny_llama(vocab_size=len(tokenizer))
    return write_llama(model, tmp_path_factory.mktemp("gguf") / "tiny.gguf", tokenizer=tokenizer)
