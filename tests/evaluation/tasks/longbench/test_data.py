"""Rows are read in the official formats only, and bad ones are refused."""

import json
import zipfile
from pathlib import Path

import datasets
import pytest

from longrope.evaluation.tasks.longbench.build import TASKS, build_longbench
from longrope.evaluation.tasks.longbench.data import fingerprint, load_questions, load_rows
from longrope.evaluation.tasks.longbench.registry import DATASETS, NAMES

from .conftest import v1_row, v2_row, write_jsonl


def test_a_file_and_its_folder_hold_the_same_rows(tmp_path):
    file = write_jsonl(tmp_path / "qasper.jsonl", [v1_row("qasper", i) for i in range(3)])
    rows = load_rows("qasper", file, classification=False)
    assert rows == load_rows("qasper", tmp_path, False) == load_rows("qasper", str(tmp_path), False)
    assert (rows[1].input, rows[1].answers, rows[1].words) == (
        "Which one is number 1?",
        ("never said", "Blue Whale"),
        5000,
    )
    assert rows[1].classes == ()


def test_line_separators_inside_a_text_end_no_row(tmp_path):
    file = write_jsonl(tmp_path / "lcc.jsonl", [v1_row("lcc", context="a\u2028b\u0085c\r\n")])
    assert load_rows("lcc", file, False)[0].context == "a\u2028b\u0085c\r\n"


def test_longbench_e_is_read_from_its_own_file(tmp_path):
    write_jsonl(tmp_path / "qasper_e.jsonl", [v1_row("qasper_e", i) for i in range(2)])
    assert len(load_rows("qasper_e", tmp_path, False)) == 2
    with pytest.raises(ValueError, match=r"no file .*qasper\.jsonl"):
        load_rows("qasper", tmp_path, False)


def test_v2_is_read_from_an_array_and_from_lines(tmp_path):
    raw = [v2_row(i) for i in range(4)]
    (tmp_path / "data.json").write_text(json.dumps(raw, indent=1))
    rows = load_questions(tmp_path)
    assert rows == load_questions(write_jsonl(tmp_path / "v2.jsonl", raw))
    assert (rows[1].choices, rows[1].answer, rows[1].difficulty) == (
        ("a {fish}", "a bird", "a cat", "a dog"),
        "B",
        "hard",
    )


def test_the_fingerprint_is_of_every_field(tmp_path):
    rows = load_rows("qasper", write_jsonl(tmp_path / "a.jsonl", [v1_row("qasper")]), False)
    other = load_rows("qasper", write_jsonl(tmp_path / "b.jsonl", [v1_row("qasper", words=5001)]), False)
    assert fingerprint(rows) == fingerprint(tuple(rows)) != fingerprint(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": "  "}, "row 1 of .*context is blank; restore it"),
        ({"context": None}, "context is None, not text"),
        ({"answers": ["", " "]}, "answers are blank"),
        ({"answers": []}, "answers are blank"),
        ({"answers": [5]}, "answers is 5, not text"),
        ({"answers": None}, "row 1 of"),
        ({"dataset": "musique"}, "dataset is 'musique', not qasper"),
        ({"length": "long"}, "row 1 of"),
    ],
)
def test_a_row_that_is_not_official_is_refused(tmp_path, changes, message):
    file = write_jsonl(tmp_path / "qasper.jsonl", [v1_row("qasper"), v1_row("qasper", **changes)])
    with pytest.raises(ValueError, match=message):
        load_rows("qasper", file, False)


@pytest.mark.parametrize(
    "field", ["input", "context", "answers", "length", "dataset", "language", "all_classes", "_id"]
)
def test_a_missing_field_is_named(tmp_path, field):
    row = {name: value for name, value in v1_row("qasper").items() if name != field}
    with pytest.raises(ValueError, match=f"no field '{field}'"):
        load_rows("qasper", write_jsonl(tmp_path / "qasper.jsonl", [row]), False)


@pytest.mark.parametrize(
    "changes", [{"answer": "E"}, {"answer": ""}, {"choice_C": " "}, {"context": ""}, {"question": ""}]
)
def test_a_question_that_is_not_official_is_refused(tmp_path, changes):
    with pytest.raises(ValueError, match=r"official format, got row 0 of .*; restore it"):
        load_questions(write_jsonl(tmp_path / "v2.jsonl", [v2_row(**changes)]))


def test_classes_must_be_there_and_alike(tmp_path):
    for rows in (
        [v1_row("trec", all_classes=None)],
        [v1_row("trec", all_classes=[])],
        [v1_row("trec"), v1_row("trec", 1, all_classes=["Person"])],
    ):
        with pytest.raises(ValueError, match="all_classes must be the same class names in every row"):
            load_rows("trec", write_jsonl(tmp_path / "trec.jsonl", rows), classification=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one row, got none"),
        ("\n\n", "got none"),
        ('{"a": 1}\nplaceholder', "line 2 of"),
        ("[1, 2", "JSON"),
    ],
)
def test_an_unreadable_file_is_refused(tmp_path, text, message):
    (tmp_path / "qasper.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_rows("qasper", tmp_path, False)


@pytest.mark.parametrize("row", ["[1]", '"text"', "7", "null"])
def test_a_row_must_be_an_object(tmp_path, row):
    (tmp_path / "qasper.jsonl").write_text(json.dumps(v1_row("qasper")) + f"\n{row}\n")
    with pytest.raises(ValueError, match="row 1 of"):
        load_rows("qasper", tmp_path, False)


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "qasper.jsonl").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="UTF-8"):
        load_rows("qasper", tmp_path, False)


@pytest.mark.parametrize("source", ["./nowhere/x.jsonl", "nowhere.jsonl", "a/b/c", "/nowhere/x", Path("owner/name")])
def test_a_path_that_does_not_exist_is_no_hub_id(source):
    with pytest.raises(ValueError, match="source must be a file or folder that exists or a hub id, got"):
        load_rows("qasper", source, False)


def test_the_official_repository_is_read_from_its_archive(tmp_path, monkeypatch):
    rows = [v1_row("qasper_e", i) for i in range(3)]
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("data/qasper_e.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    load, hub = datasets.load_dataset, "hf://datasets/THUDM/LongBench/data.zip"

    def local(path, data_files, **options):
        assert (path, data_files.endswith(hub)) == ("json", True)
        return load(path, data_files=data_files.replace(hub, str(tmp_path / "data.zip")), **options)

    monkeypatch.setattr(datasets, "load_dataset", local)
    expected = load_rows("qasper_e", write_jsonl(tmp_path / "qasper_e.jsonl", rows), False)
    assert load_rows("qasper_e", "THUDM/LongBench", False) == expected
    with pytest.raises(ValueError, match=r"readable hub id, got 'THUDM/LongBench': .*musique.*; download the data"):
        load_rows("musique", "THUDM/LongBench", False)


def test_copies_and_v2_are_read_by_streaming(monkeypatch):
    asked = []

    def load(*args, **options):
        asked.append((args, options))
        return iter([v1_row("qasper") if args[0] == "someone/LongBench" else v2_row()])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert load_rows("qasper", "someone/LongBench", False)[0].language == "en"
    assert load_questions("THUDM/LongBench-v2")[0].answer == "A"
    assert asked == [
        (("someone/LongBench", "qasper"), {"split": "test", "streaming": True}),
        (("THUDM/LongBench-v2",), {"split": "train", "streaming": True}),
    ]


@pytest.mark.parametrize(
    "error", [ConnectionError("no network"), RuntimeError("Dataset scripts are no longer supported")]
)
def test_a_hub_that_does_not_answer_is_an_error_and_no_sample(monkeypatch, error):
    def load(*args, **options):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(ValueError, match=f"{error}; download the data and give its folder"):
        load_questions("THUDM/LongBench-v2")


def test_the_datasets_are_the_21_and_13_of_the_papers():
    assert len(DATASETS) == 21
    assert len(NAMES) == 21 + 13
    assert len(TASKS) == 2 * (21 + 13 + 2)
    new_tokens = {dataset.max_new_tokens for dataset in DATASETS.values() if dataset.group == "summarization"}
    assert new_tokens == {512}
    plain = {name for name, dataset in DATASETS.items() if not dataset.chat}
    assert plain == {"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"}
    lines = {name for name, dataset in DATASETS.items() if dataset.first_line}
    assert lines == {"trec", "triviaqa", "samsum", "lsht"}


def test_tasks_are_built_by_name_and_a_selection_depends_on_the_seed(tmp_path, tokenizer):
    write_jsonl(tmp_path / "qasper.jsonl", [v1_row("qasper", i) for i in range(50)])
    (tmp_path / "data.json").write_text(json.dumps([v2_row(i) for i in range(8)]))

    def ids(samples, seed):
        task = build_longbench("longbench_qasper", tokenizer, source=tmp_path, samples=samples, seed=seed)
        return [row.id for row in task.rows]

    assert len(ids(None, 0)) == 50
    assert ids(10, 1) == ids(10, 1) == sorted(ids(10, 1)) != ids(10, 2)
    task = build_longbench("longbench2_cot", tokenizer, source=tmp_path, samples=3, batch_size=2)
    assert (task.name, len(task.rows), task.batch_size) == ("longbench2_cot", 3, 2)
    with pytest.raises(
        ValueError, match="samples must be from 1 to the 50 rows of longbench_qasper, got 51; take fewer"
    ):
        ids(51, 0)
    with pytest.raises(ValueError, match="must be one of longbench_narrativeqa, .*, got 'qasper'"):
        build_longbench("qasper", tokenizer, source=tmp_path)
