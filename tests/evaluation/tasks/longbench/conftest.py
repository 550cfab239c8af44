"""Rows in the official format, and models that answer as they are told: nothing is downloaded."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from longrope.evaluation.tasks.longbench.registry import DATASETS

ROOT = Path(__file__).parents[4]
CLASSES = ["Person", "Group of persons", "Food", "Date"]
ANSWERS = {
    "qa": "Blue Whale",
    "classes": CLASSES,
    "passage_count": "17",
    "passage_retrieval_en": "Paragraph 12",
    "passage_retrieval_zh": "段落12",
    "zh": "北京大学",
    "code": "return x + 1",
}


def v1_row(name: str, place: int = 0, words: int = 5000, **changes):
    """One row of a dataset as its official file has it."""
    dataset = DATASETS[name.removesuffix("_e")]
    classified = dataset.name in ("trec", "lsht")
    kind = dataset.name if dataset.name in ANSWERS else dataset.language if dataset.language in ANSWERS else "qa"
    row = {
        "input": f"Which one is number {place}?" if "{input}" in dataset.template else "",
        "context": "".join(f"Fact {i} of {place} is that {i * place} is a number. 事实。\n" for i in range(40)),
        "answers": [CLASSES[place % 4]] if classified else ["never said", ANSWERS[kind]],
        "length": words,
        "dataset": dataset.name,
        "language": dataset.language,
        "all_classes": CLASSES if classified else None,
        "_id": f"{place:048x}",
    }
    if dataset.group == "synthetic":
        row["answers"] = [ANSWERS[kind]]
    return {**row, **changes}


def v2_row(place: int = 0, **changes):
    """One row of LongBench v2 as its official file has it."""
    return {
        "_id": f"{place:024x}",
        "domain": "Single-Document QA",
        "sub_domain": "Academic",
        "difficulty": ["easy", "hard"][place % 2],
        "length": ["short", "medium", "long"][place % 3],
        "question": f"What is number {place}?",
        "choice_A": "a {fish}",
        "choice_B": "a bird",
        "choice_C": "a cat",
        "choice_D": "a dog",
        "answer": "ABCD"[place % 4],
        "context": "".join(f"Line {i} of document {place}.\n" for i in range(60)),
        **changes,
    }


def write_jsonl(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def answering(tokenizer, answer):
    """A model that answers each prompt, as an array of token ids, by `answer(ids)`."""

    def generate(ids, num_tokens):
        texts = [answer(row) for row in ids.numpy()]
        tokens = [tokenizer.encode(text, add_special_tokens=False)[:num_tokens] for text in texts]
        longest = max(map(len, tokens), default=0) or 1
        return torch.tensor([row + [tokenizer.bos_token_id] * (longest - len(row)) for row in tokens])

    return generate


@pytest.fixture(scope="session")
def bpe_tokenizer():
    """The trained tokenizer of the embedded model."""
    return AutoTokenizer.from_pretrained(ROOT / "examples/tiny/model")


@pytest.fixture(params=["bytes", "bpe"])
def either_tokenizer(request, tokenizer, bpe_tokenizer):
    return tokenizer if request.param == "bytes" else bpe_tokenizer


@pytest.fixture
def chat_tokenizer(either_tokenizer):
    chosen = deepcopy(either_tokenizer)
    chosen.chat_template = (
        "<s>{% for message in messages %}[{{ message.role }}]\n{{ message.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]\n{% endif %}"
    )
    return chosen
