import copy
import json
import subprocess
import sys

import numpy as np
import pytest

from longrope.evaluation.data.corpus import Document
from longrope.evaluation.data.tokenized import (
    TokenDocument,
    check_vocabulary,
    count_documents,
    fingerprint,
    leading_special_tokens,
    load_tokenized,
    read_info,
    save_tokenized,
    tokenizer_fingerprint,
)

SOURCE = {"dataset": "test", "split": None}


def test_documents_come_back_as_the_tokenizer_made_them(tmp_path, texts, tokenizer):
    info = save_tokenized(tmp_path / "data", texts, tokenizer, SOURCE)
    loaded = load_tokenized(tmp_path / "data", min_tokens=1, samples=3)
    assert [document.name for document in loaded.documents] == ["doc0", "doc1", "doc2"]
    for document, text in zip(loaded.documents, texts, strict=True):
        assert document.ids.dtype == np.int64
        assert document.ids.tolist() == tokenizer.encode(text.text)
    assert loaded.info == info == read_info(tmp_path / "data")
    assert loaded.fingerprint() == info.fingerprint
    assert info.tokens == sum(len(document.ids) for document in loaded.documents)
    assert "<s> in front" in info.bos_policy


def test_only_the_folder_is_left_behind(tmp_path, texts, tokenizer):
    save_tokenized(tmp_path / "data", texts, tokenizer, SOURCE)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_same_tokens_again_are_accepted_and_others_refused(tmp_path, texts, tokenizer):
    first = save_tokenized(tmp_path / "data", texts, tokenizer, SOURCE)
    assert save_tokenized(tmp_path / "data", texts, tokenizer, SOURCE) == first
    with pytest.raises(ValueError, match="holds other tokens"):
        save_tokenized(tmp_path / "data", texts[:2], tokenizer, SOURCE)
    assert read_info(tmp_path / "data") == first


def test_a_folder_of_something_else_is_left_untouched(tmp_path, texts, tokenizer):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be a new folder"):
        save_tokenized(tmp_path / "data", texts, tokenizer, SOURCE)
    assert (tmp_path / "data" / "thesis.txt").read_text() == "mine"


def test_a_reader_that_fails_leaves_nothing_and_keeps_its_message(tmp_path, tokenizer):
    def failing():
        yield Document("one", "text")
        raise ValueError("feature must name a column")

    with pytest.raises(ValueError, match="feature must name a column"):
        save_tokenized(tmp_path / "data", failing(), tokenizer, SOURCE)
    assert not list(tmp_path.iterdir())


def test_no_documents_is_an_error(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="at least one document"):
        save_tokenized(tmp_path / "data", [], tokenizer, SOURCE)
    assert not list(tmp_path.iterdir())


def test_num_documents_stops_reading_early(tmp_path, texts, tokenizer):
    def endless():
        yield from texts
        raise AssertionError("read further than asked")

    assert save_tokenized(tmp_path / "data", endless(), tokenizer, SOURCE, num_documents=2).documents == 2


def test_short_documents_are_not_stored_and_do_not_count(tmp_path, texts, tokenizer):
    lengths = sorted(len(tokenizer.encode(text.text)) for text in texts)
    least = lengths[1]
    info = save_tokenized(tmp_path / "data", texts, tokenizer, SOURCE, num_documents=2, min_tokens=least)
    assert info.documents == 2
    assert [count_documents(tmp_path / "data", length) for length in (0, least, lengths[-1] + 1)] == [2, 2, 0]
    with pytest.raises(ValueError, match=f"at least one document of {lengths[-1] + 1} or more tokens"):
        save_tokenized(tmp_path / "none", texts, tokenizer, SOURCE, min_tokens=lengths[-1] + 1)


def test_too_few_long_documents_are_counted_in_the_message(tmp_path, texts, tokenizer):
    save_tokenized(tmp_path / "data", texts, tokenizer, SOURCE)
    lengths = [len(tokenizer.encode(text.text)) for text in texts]
    with pytest.raises(
        ValueError, match=rf"at most the 1 documents of {lengths[2]} .*longest has {lengths[2]}\), got 2"
    ):
        load_tokenized(tmp_path / "data", min_tokens=lengths[2], samples=2)


def test_a_missing_folder_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(ValueError, match="longrope tokenize"):
        load_tokenized(tmp_path / "nowhere", 1, 1)


def test_a_corrupt_tokens_json_is_one_sentence(tmp_path, texts, tokenizer):
    save_tokenized(tmp_path / "data", texts, tokenizer, SOURCE)
    (tmp_path / "data" / "tokens.json").write_text('{"source": ')
    with pytest.raises(ValueError, match="must be as longrope tokenize wrote it"):
        load_tokenized(tmp_path / "data", 1, 1)


def test_tokens_of_another_tokenizer_are_refused(llama):
    check_vocabulary([TokenDocument("a", np.array([0, 63]))], llama)
    with pytest.raises(ValueError, match=r"vocabulary size 64, got 64 in b; .* another tokenizer"):
        check_vocabulary([TokenDocument("a", np.array([0, 63])), TokenDocument("b", np.array([64]))], llama)


def test_a_seed_selects_at_random_and_repeatably(tmp_path, tokenizer):
    save_tokenized(tmp_path / "data", [Document(str(i), "x" * i) for i in range(40)], tokenizer, SOURCE)

    def names(seed):
        return [d.name for d in load_tokenized(tmp_path / "data", 11, 8, seed).documents]

    assert names(None) == [str(i) for i in range(10, 18)]
    assert names(1) == names(1) != names(2)
    assert all(int(name) >= 10 for name in names(1) + names(2))


def test_fingerprint_changes_with_text_name_window_and_tokenizer(tmp_path, texts, tokenizer):
    base = [TokenDocument("a", np.array([1, 2, 3])), TokenDocument("b", np.array([4]))]
    moved = [TokenDocument("a", np.array([1, 2])), TokenDocument("b", np.array([3, 4]))]
    renamed = [TokenDocument("A", np.array([1, 2, 3])), base[1]]
    changed = [TokenDocument("a", np.array([1, 2, 5])), base[1]]
    assert len({fingerprint(documents) for documents in (base, moved, renamed, changed, base[::-1])}) == 5

    save_tokenized(tmp_path / "data", texts, tokenizer, SOURCE)
    loaded = load_tokenized(tmp_path / "data", 100, 2)
    assert len({loaded.fingerprint(), loaded.fingerprint(100), loaded.fingerprint(99)}) == 3

    other = copy.deepcopy(tokenizer)  # that of the session is for all tests
    other.add_tokens(["import"])
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(tokenizer)
    save_tokenized(tmp_path / "other", texts, other, SOURCE)
    assert read_info(tmp_path / "other").fingerprint != read_info(tmp_path / "data").fingerprint


def test_fingerprint_is_the_same_in_another_process():
    program = (
        "import numpy as np; from longrope.evaluation.data.tokenized import *; "
        "print(fingerprint([TokenDocument('a', np.arange(9))]))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == fingerprint([TokenDocument("a", np.arange(9))])


def test_leading_special_tokens_are_what_the_tokenizer_adds(tokenizer):
    assert leading_special_tokens(tokenizer) == [0]
    assert json.dumps(tokenizer.encode("")) == "[0]"


def test_documents_that_were_searched_on_are_left_out(tokenizer, texts, tmp_path):
    save_tokenized(tmp_path / "tokens", texts, tokenizer, {})
    searched = load_tokenized(tmp_path / "tokens", 1, 1, seed=0).documents[0]
    for seed in (None, 0, 1):
        kept = load_tokenized(tmp_path / "tokens", 1, 2, seed=seed, exclude={searched.digest}).documents
        assert {document.name for document in kept} == {text.name for text in texts} - {searched.name}
    with pytest.raises(ValueError, match="at most the 2 documents .* not among the 1 left out"):
        load_tokenized(tmp_path / "tokens", 1, 3, exclude={searched.digest})
