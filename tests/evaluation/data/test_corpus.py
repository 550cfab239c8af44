import json
from itertools import islice

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from longrope.evaluation.data.corpus import PRESETS, read_documents


def test_local_files_of_all_kinds_are_read_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("erste Zeile, ä\n", encoding="utf-8")
    (tmp_path / "b" / "a.txt").write_text("zweite")
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("x", "y")))
    parquet.write_table(pyarrow.table({"text": ["p", "q"], "other": [1, 2]}), tmp_path / "d.parquet")
    (tmp_path / "ignored.bin").write_bytes(b"\xff")
    found = [(d.name, d.text) for d in read_documents(str(tmp_path))]
    assert found == [
        ("a", "erste Zeile, ä\n"),
        ("b/a", "zweite"),
        ("c-0", "x"),
        ("c-1", "y"),
        ("d-0", "p"),
        ("d-1", "q"),
    ]
    assert [d.text for d in read_documents(str(tmp_path / "c.jsonl"))] == ["x", "y"]


def test_another_column_can_hold_the_text(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"content": "x"}\n')
    assert [d.text for d in read_documents(str(tmp_path), feature="content")] == ["x"]
    with pytest.raises(ValueError, match="feature must name a column of c, got 'text'; columns: content"):
        list(read_documents(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe\xfa", "must be UTF-8 text"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2"),
        ("a.jsonl", b'["x"]\n', "got list, line 1"),
        ("a.parquet", b"not parquet at all", "must be readable parquet"),
    ],
)
def test_a_corrupt_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        list(read_documents(str(tmp_path)))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        ("/no/such/folder", None, "no such path"),
        ("python-packages", "validation", "must be one of train, search, eval"),
        (".", "train", "must be omitted for local files"),
        ("proof-pile", "train", "split of proof-pile must be one of test, validation, got 'train'"),
    ],
)
def test_unknown_datasets_and_splits_are_refused_when_asked_for(dataset, split, message):
    with pytest.raises(ValueError, match=message):
        read_documents(dataset, split)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="found none"):
        list(islice(read_documents(str(tmp_path)), 1))


@pytest.mark.parametrize(
    ("name", "split", "called", "column"),
    [
        ("pg19", None, ("emozilla/pg19", "test", None), "text"),
        ("govreport", "validation", ("ccdv/govreport-summarization", "validation", None), "report"),
        (
            "proof-pile",
            None,
            ("json", "train", "hf://datasets/hoskinson-center/proof-pile/test/proofpile_test.jsonl.gz"),
            "text",
        ),
    ],
)
def test_presets_read_their_own_column_of_their_own_files(monkeypatch, name, split, called, column):
    calls = []

    def load(path, subset=None, *, split, streaming, data_files):
        assert streaming
        calls.append((path, split, data_files))
        return [{column: "one", "summary": "no"}, {column: "two", "summary": "no"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert [document.text for document in read_documents(name, split)] == ["one", "two"]
    assert calls == [called]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_state_a_licence_and_refuse_options_that_they_would_ignore(name):
    assert PRESETS[name].licence
    with pytest.raises(ValueError, match=f"must be omitted for {name}, got None and 'summary'"):
        read_documents(name, feature="summary")
    with pytest.raises(ValueError, match=f"must be omitted for {name}, got 'small' and 'text'"):
        read_documents(name, subset="small")
