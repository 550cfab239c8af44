"""A byte-level tokenizer and documents: nothing is downloaded."""

import numpy as np
import pytest
from longrope.evaluation.corpus import Document
from longrope.evaluation.tokenized import TokenDocument, TokenizedDocuments, TokensInfo, fingerprint
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and `<s>` in front of each text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<s>": 0} | {character: i + 1 for i, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


@pytest.fixture
def tokenizer():
    return byte_tokenizer()


@pytest.fixture
def texts():
    lines = ["import os", "", "def f(x):", "    return x + 1"]
    return [Document(f"doc{i}", "\n".join(lines * (20 + 10 * i))) for i in range(3)]


def random_documents(lengths, vocab_size=64, seed=0) -> TokenizedDocuments:
    """Random tokens of the tiny model's vocabulary."""
    rng = np.random.default_rng(seed)
    documents = [TokenDocument(f"doc{i}", rng.integers(0, vocab_size, n)) for i, n in enumerate(lengths)]
    info = TokensInfo(
        {"dataset": "random"}, "none", vocab_size, "none", len(lengths), sum(lengths), fingerprint(documents)
    )
    return TokenizedDocuments(documents, info)


@pytest.fixture
def make_data():
    """Build documents of given lengths."""
    return random_documents


@pytest.fixture
def random_data():
    """Four documents of 50 to 80 tokens."""
    return random_documents([50, 60, 70, 80])
