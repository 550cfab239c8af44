"""Documents made here: nothing is downloaded."""

import numpy as np
import pytest


class ListedDocuments:
    """Documents in memory, each with token 0 in front."""

    def __init__(self, texts):
        self.texts = [np.array([0, *text]) for text in texts]
        self.lengths = np.array([len(text) for text in self.texts])

    def tokens(self, document, start, stop):
        return self.texts[document][start:stop]


@pytest.fixture
def make_documents():
    """Random documents of given numbers of tokens, the leading one included."""

    def make(lengths, vocab_size=64, seed=0):
        rng = np.random.default_rng(seed)
        return ListedDocuments([rng.integers(2, vocab_size, length - 1).tolist() for length in lengths])

    return make


@pytest.fixture(scope="session")
def listed():
    """The class of documents in memory; token 0 is put in front of each."""
    return ListedDocuments
