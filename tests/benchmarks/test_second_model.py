"""The second model of the benchmarks is trained on files that its search and eval documents are no part of."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from longrope.evaluation.data.corpus import Document
from longrope.evaluation.data.tokenized import check_tokenizer, load_tokenized
from longrope.rope.describe import describe_rope

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "second_model.py"
SMALL = ["--vocab-size", "300", "--steps", "3", "--batch-size", "2", "--characters", "900", "--device", "cpu"]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(ROOT))
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Return a folder of four authors with two texts each, every text of words of its own."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for author in ("ann", "bob", "cid", "dot"):
        for title in ("x", "y"):
            words = " ".join(f"{author}{title}{i % 7} said" for i in range(220))
            (folder / f"{author}_{title}.txt").write_text(words)
    return folder


def train(monkeypatch: pytest.MonkeyPatch, texts: Path, output: Path, *options: str) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    command = ["second_model.py", "--data", str(texts), "--output-dir", str(output), *SMALL, *options]
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_no_author_is_in_two_splits(benchmark: dict[str, Any]) -> None:
    names = ["a_1", "b_1", "b_2", "c_1", "c_2", "c_3", "d"]
    texts = [Document(name, "") for name in reversed(names)]
    split = benchmark["split_texts"](texts, 1, 2)  # two at the end would part the three of c
    assert [[one.name for one in part] for part in split] == [["a_1"], ["b_1", "b_2"], ["c_1", "c_2", "c_3", "d"]]
    with pytest.raises(ValueError, match="got 7; add texts"):
        benchmark["split_texts"](texts, 3, 3)


def test_documents_are_taken_from_all_files_in_turn(benchmark: dict[str, Any]) -> None:
    texts = [Document("long", "abcdefghij"), Document("short", "12345")]
    pieces = list(benchmark["cut"](texts, 3, 4))
    assert [(one.name, one.text) for one in pieces] == [
        ("long-0", "abc"),
        ("short-0", "123"),
        ("long-3", "def"),
        ("long-6", "ghi"),
    ]


def test_the_folder_holds_a_qwen3_and_documents_of_its_tokenizer(
    monkeypatch: pytest.MonkeyPatch, texts: Path, tmp_path: Path
) -> None:
    split = ["--eval-files", "2", "--search-files", "2"]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        train(monkeypatch, texts, folder, *split)
    first, second = (AutoModelForCausalLM.from_pretrained(folder / "model") for folder in folders)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert first.config.model_type == "qwen3"
    assert describe_rope(first.config, None).geometry.original_length == 256
    tokenizer = AutoTokenizer.from_pretrained(folders[0] / "model")
    for name, author in (("search", "cid"), ("eval", "dot")):
        data = load_tokenized(folders[0] / name, 256, 2)
        check_tokenizer(data, tokenizer)
        for document in data.documents:
            assert document.ids[0] == tokenizer.bos_token_id
            text = tokenizer.decode(document.ids[1:])
            assert len(text) == 900
            assert {word[:3] for word in text.split() if word[0] in "abcd"} <= {author, author[:2], author[0]}


def test_another_seed_gives_other_weights(monkeypatch: pytest.MonkeyPatch, texts: Path, tmp_path: Path) -> None:
    weights: list[torch.Tensor] = []
    for seed in ("0", "1"):
        train(monkeypatch, texts, tmp_path / seed, "--eval-files", "2", "--search-files", "2", "--seed", seed)
        weights.append(AutoModelForCausalLM.from_pretrained(tmp_path / seed / "model").lm_head.weight)
    assert not torch.equal(*weights)
