"""Documents made here: nothing is downloaded."""

import numpy as np
import pytest

from longrope.evaluation.data.corpus import Document
from longrope.evaluation.data.tokenized import TokenDocument, TokenizedDocuments, TokensInfo, fingerprint


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
