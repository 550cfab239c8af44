"""The embedded model's training documents for retrieval are as long as the windows that read them."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from longrope.evaluation.data.corpus import Document
from longrope.evaluation.data.tokenized import save_tokenized
from longrope.training import Packer, StoredDocuments

TINY = Path(__file__).parents[2] / "examples" / "tiny"


@pytest.fixture
def exercises(monkeypatch):
    monkeypatch.syspath_prepend(str(TINY))
    yield import_module("exercises").exercises
    for name in ("exercises", "retrieval"):
        sys.modules.pop(name, None)


def test_each_exercise_fills_one_window(exercises, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(TINY / "model")
    texts = [Document(f"doc{i}", f"def f{i}(x):\n    return x + {i}\n" * 60) for i in range(3)]
    save_tokenized(tmp_path / "tokens", texts, tokenizer, {})
    made = list(exercises(tokenizer, str(tmp_path / "tokens"), 128, 6, seed=0))
    assert [len(document.ids) for document in made] == [127] * 6
    save_tokenized(tmp_path / "exercises", made, tokenizer, {})
    stored = StoredDocuments(tmp_path / "exercises")
    packer = Packer(stored, 128, [tokenizer.bos_token_id], [tokenizer.eos_token_id])
    packs = [packer.pack(pieces) for pieces in packer.plan(6, seed=0)]
    whole = {tuple(np.append(document.ids, tokenizer.eos_token_id)) for document in made}
    assert {tuple(pack.ids) for pack in packs} == whole
