"""The question answering tasks against RULER's definition (qa.py) and the formats of SQuAD and HotpotQA."""

import json
import re

import datasets
import pytest

from longrope.evaluation.tasks.ruler.tasks import RULER, build_ruler


def documents_of(task, sample):
    text = task.tokenizer.decode(sample.ids, skip_special_tokens=True)
    inner = text.partition("The following are given documents.\n\n")[2].rpartition("\n\nAnswer the question")[0]
    parts = re.split(r"(?:^|\n\n)Document (\d+):\n", inner)
    assert [int(number) for number in parts[1::2]] == list(range(1, len(parts[1::2]) + 1))
    return text, parts[2::2]


@pytest.mark.parametrize(("name", "gold"), [("ruler_qa_1", 1), ("ruler_qa_2", 2)])
def test_gold_documents_stand_among_others_and_hold_the_answer(make_task, name, gold):
    task = make_task(name, samples=6)
    for sample in task.samples(1024):
        text, documents = documents_of(task, sample)
        assert len(documents) == len(set(documents)) == sample.labels["units"] > gold
        assert len(sample.labels["gold_documents"]) == gold
        holding = [number for number, text in enumerate(documents, start=1) if sample.references[0] in text]
        assert set(holding) <= set(sample.labels["gold_documents"])
        assert holding
        assert re.search(r"Question: [^\n]+\? Answer:$", text)


@pytest.mark.parametrize("name", ["ruler_qa_1", "ruler_qa_2"])
def test_the_place_of_the_gold_document_differs_between_samples(make_task, name):
    task = make_task(name, samples=12)
    places = {tuple(sample.labels["gold_documents"]) for sample in task.samples(2048)}
    assert len(places) > 4


def test_other_paragraphs_of_the_article_are_the_first_distractors(make_task):
    task = make_task("ruler_qa_1")
    for sample in task.samples(1024):
        text, documents = documents_of(task, sample)
        question = re.search(r"keeper of ([a-z]+)(\d)\?", text)
        assert question is not None
        same = [document for document in documents if re.match(rf"The keeper of {question[1]}\d ", document)]
        assert len(same) == min(5, len(documents))


def test_questions_without_an_answer_are_left_out_and_answers_named_once(make_task):
    task = make_task("ruler_qa_1", samples=20)
    for sample in task.samples(1024):
        assert len(sample.references) == 1
        assert "fall?" not in task.tokenizer.decode(sample.ids)


def test_questions_of_a_length_are_all_different_and_from_all_over_the_file(make_task):
    task = make_task("ruler_qa_1", samples=20)
    texts = [str(task.tokenizer.decode(sample.ids)) for sample in task.samples(1024)]
    articles = [article for text in texts for article in re.findall(r"Who is the keeper of ([a-z]+)\d\?", text)]
    assert len(set(articles)) == len(articles) == 20


def test_documents_repeat_when_the_file_is_too_short_for_the_length(make_task):
    task = make_task("ruler_qa_2", samples=1)
    _, documents = documents_of(task, task.samples(16384)[0])
    assert len(set(documents)) < len(documents)


def test_two_gold_documents_fit_lengths_that_ten_would_not(make_task):
    task = make_task("ruler_qa_2")
    units = [sample.labels["units"] for sample in task.samples(task.smallest_length())]
    assert units == [2, 2, 2]


def test_files_of_another_format_or_with_too_few_questions_are_refused(tmp_path, tokenizer, squad_file, hotpot_file):
    cases = {"ruler_qa_1": [hotpot_file, tmp_path / "none.json"], "ruler_qa_2": [squad_file]}
    (tmp_path / "text.json").write_text("no JSON")
    for name, files in cases.items():
        for file in [*files, tmp_path / "text.json"]:
            with pytest.raises(ValueError, match="qa_file must be JSON in"):
                build_ruler(name, tokenizer, samples=1, qa_file=file).samples(4096)
    with pytest.raises(ValueError, match="at most the 100 answered questions"):
        build_ruler("ruler_qa_1", tokenizer, samples=101, qa_file=squad_file).samples(4096)
    lonely = {"data": [{"paragraphs": [json.loads(squad_file.read_text())["data"][0]["paragraphs"][0]]}]}
    (tmp_path / "lonely.json").write_text(json.dumps(lonely))
    with pytest.raises(ValueError, match="must hold documents beside those of a question"):
        build_ruler("ruler_qa_1", tokenizer, samples=1, qa_file=tmp_path / "lonely.json").samples(4096)


def squad_rows(payload) -> list[dict]:
    """The hub's rows of a SQuAD file."""
    return [
        {
            "id": f"{title}-{place}",
            "title": str(title),
            "context": paragraph["context"],
            "question": qa["question"],
            "answers": {name: [answer[name] for answer in qa["answers"]] for name in ("text", "answer_start")},
        }
        for title, article in enumerate(payload["data"])
        for paragraph in article["paragraphs"]
        for place, qa in enumerate(paragraph["qas"])
    ]


def hotpot_rows(payload) -> list[dict]:
    """The hub's rows of a HotpotQA file."""
    columns = {"supporting_facts": ("title", "sent_id"), "context": ("title", "sentences")}
    return [
        {name: entry[name] for name in ("question", "answer")}
        | {
            name: dict(zip(names, map(list, zip(*entry[name], strict=True)), strict=True))
            for name, names in columns.items()
        }
        for entry in payload
    ]


@pytest.mark.parametrize("name", ["ruler_qa_1", "ruler_qa_2"])
def test_the_hub_gives_the_questions_of_the_file(tmp_path, monkeypatch, tokenizer, squad_file, hotpot_file, name):
    file, to_rows = (squad_file, squad_rows) if name == "ruler_qa_1" else (hotpot_file, hotpot_rows)
    parquet = tmp_path / "0000.parquet"
    datasets.Dataset.from_list(to_rows(json.loads(file.read_text()))).to_parquet(parquet)
    monkeypatch.setattr(RULER[name], "hub_files", str(parquet))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    hub, local = (build_ruler(name, tokenizer, samples=4, qa_file=source) for source in ("hub", file))
    for ours, theirs in zip(hub.samples(1024), local.samples(1024), strict=True):
        assert (ours.ids.tolist(), ours.references) == (theirs.ids.tolist(), theirs.references)
    assert hub.protocol()["file"] == str(parquet)
    monkeypatch.setattr(RULER[name], "hub_files", str(tmp_path / "none.parquet"))
    with pytest.raises(ValueError, match=f"or `hub`, for {name}, got hub: .*can't be read.*; give the data set's own"):
        build_ruler(name, tokenizer, samples=1, qa_file="hub").samples(1024)
