"""Tasks of an official checkout: against one that is written here in the official format, and against the real one.

Where LONGBENCH_CHECKOUT names the real one, its own `pred.py` puts the prompts to a model that records them, and its
`eval.py` scores the answers (needs pip install jieba rouge fuzzywuzzy). The data is that of the folder LONGBENCH_DATA,
or rows that are made here in the official format.
"""

import importlib.util
import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.evaluation.tasks.longbench.build import build_longbench
from longrope.evaluation.tasks.longbench.checkout import Checkout
from longrope.evaluation.tasks.longbench.registry import DATASETS, NAMES

from .conftest import answering, v1_row, write_jsonl

REAL, DATA = os.environ.get("LONGBENCH_CHECKOUT"), os.environ.get("LONGBENCH_DATA")
TEMPLATE = "{{ bos_token }}[INST]{{ messages[0].content }}[/INST]"
KEPT = {"some-7b-4k": 3500, "other-32k": 31500, "third": 77}


def wording(name: str) -> str:
    question = " Asked: {input} Said:" if "{input}" in DATASETS[name].template else " Said:"
    return f"Official words of {name}.\n{{context}}{question}"


@pytest.fixture
def standin(tmp_path):
    """A folder in the format of the official checkout, a git repository with one commit."""
    root = tmp_path / "checkout"
    config = root / "LongBench" / "config"
    config.mkdir(parents=True)
    files = {
        "dataset2prompt": {name: wording(name) for name in DATASETS},
        "dataset2maxlen": {name: 10 + place for place, name in enumerate(DATASETS)},
        "model2maxlen": KEPT,
    }
    for name, content in files.items():
        (config / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "First"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


@pytest.fixture
def build(tmp_path, standin):
    """Build a task on rows made here, with the checkout made here."""

    def built(name, tokenizer, rows=None, checkout=standin, **options):
        for package in DATASETS[name.removesuffix("_e")].metric.packages:
            pytest.importorskip(package, reason="needs packages: pip install jieba rouge")
        source = write_jsonl(tmp_path / f"{name}.jsonl", rows or [v1_row(name, i) for i in range(3)])
        task = f"official_longbench_{name}"
        return build_longbench(task, tokenizer, source=source, checkout=checkout, **options)

    return built


def long_row(name: str, tokens: int, **changes):
    return v1_row(name, 1, context="A fact. 事实。 More of it,\nand more.\n" * (tokens // 8), **changes)


def middle(tokenizer, text: str, limit: int) -> str:
    """The official rule, written down again."""
    ids = tokenizer(text).input_ids
    if len(ids) <= limit:
        return text
    parts = ids[: int(limit / 2)], ids[-int(limit / 2) :]
    return "".join(tokenizer.decode(part, skip_special_tokens=True) for part in parts)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_and_answer_lengths_are_those_of_the_checkout(build, either_tokenizer, name):
    task, dataset = build(name, either_tokenizer), name.removesuffix("_e")
    assert task.name == f"official_longbench_{name}"
    assert task.max_new_tokens == 10 + list(DATASETS).index(dataset)
    for row, sample in zip(task.rows, task.samples(20_000), strict=True):
        text = wording(dataset).format(context=row.context, input=row.input)
        assert sample.ids.tolist() == either_tokenizer(text).input_ids
        assert sample.references == row.answers
        assert sample.labels["cut"] is False


@pytest.mark.parametrize(("length", "limit"), [(4096, 3500), (3001, 3001 - 11), (2000, 2000 - 11)])
@pytest.mark.parametrize("chat", [False, True])
def test_a_long_prompt_is_cut_in_the_middle_decoded_and_tokenized_again(build, either_tokenizer, length, limit, chat):
    chosen = deepcopy(either_tokenizer)
    chosen.chat_template = TEMPLATE
    row = long_row("qasper", 9000)
    task = build("qasper", chosen, rows=[row], chat=chat)
    (sample,) = task.samples(length)
    text = wording("qasper").format(context=row["context"], input=row["input"])
    if length != 4096:
        limit -= len(chosen.encode("<s>[INST][/INST]", add_special_tokens=False)) if chat else 0
    kept = middle(chosen, text, sample.labels["kept_tokens"])
    assert limit - 4 <= sample.labels["kept_tokens"] <= limit  # the seam of the halves may have more tokens
    message = [{"role": "user", "content": kept}]
    expected = chosen.apply_chat_template(message, return_dict=False) if chat else chosen(kept).input_ids
    assert sample.ids.tolist() == expected
    assert len(expected) + task.max_new_tokens <= length
    assert kept.endswith(f" Asked: {row['input']} Said:")
    assert sample.labels["cut"] is True
    assert sample.labels["prompt_tokens"] == len(chosen(text).input_ids)


def test_few_shot_and_code_datasets_get_no_chat_template(build, tokenizer):
    chosen = deepcopy(tokenizer)
    chosen.chat_template = TEMPLATE
    for name, dataset in DATASETS.items():
        if dataset.metric.packages:
            continue
        task = build(name, chosen, chat=True)
        chat = name not in ("trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p")
        assert chosen.decode(task.samples(9000)[0].ids).startswith("<s>[INST]") is chat
        assert bool(task.protocol()["chat_template"]) is chat


def test_a_length_in_which_the_question_would_be_cut_is_refused(build, either_tokenizer):
    question = "Is it so, or not? " * 40
    task = build("qasper", either_tokenizer, rows=[long_row("qasper", 9000, input=question)])
    with pytest.raises(
        ValueError, match=r"room for instruction and question .* ask for longer lengths, about (\d+)"
    ) as e:
        task.samples(300)
    enough = int(str(e.value).split()[-1]) + 4
    assert either_tokenizer.decode(task.samples(enough)[0].ids).endswith(f"Asked: {question} Said:")


def test_answers_to_samsum_end_at_a_line_break_and_are_never_empty(build, bpe_tokenizer, make_llama):
    pytest.importorskip("rouge", reason="needs packages: pip install rouge")
    model = make_llama(vocab_size=len(bpe_tokenizer))
    line_break = bpe_tokenizer.encode("\n", add_special_tokens=False)[-1]
    task = build("samsum", bpe_tokenizer)
    assert task.ends(model) == {line_break, bpe_tokenizer.eos_token_id}
    assert task.min_new_tokens == 1
    other = build("qasper", bpe_tokenizer)
    assert line_break not in other.ends(model)
    assert other.min_new_tokens == 0


def test_an_oracle_scores_everything(build, tokenizer):
    for name in ("qasper", "trec", "passage_count", "passage_retrieval_en", "lcc"):
        task = build(name, tokenizer)
        answers = {sample.ids.tobytes(): sample.references[-1] for sample in task.samples(4000)}
        records = task.ask(answering(tokenizer, lambda ids, answers=answers: answers[ids.tobytes()]), 4000)
        assert [record.scores[task.metric] for record in records] == [1.0] * 3


def test_the_protocol_names_the_checkout_and_differs_from_ours(build, standin, tokenizer, tmp_path):
    protocol = build("qasper", tokenizer).protocol()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=standin, capture_output=True, text=True).stdout.strip()
    assert protocol["definition"] == f"official LongBench, checkout commit {commit}"
    assert protocol["template"] == wording("qasper")
    (standin / "LongBench/config/model2maxlen.json").write_text(json.dumps(KEPT | {"x-4k": 3400}))
    changed = build("qasper", tokenizer).protocol()
    assert changed["config_sha256"] != protocol["config_sha256"]
    ours = build_longbench("longbench_qasper", tokenizer, source=tmp_path / "qasper.jsonl").protocol()
    assert ours["data"] == protocol["data"]
    assert ours["truncation"] != protocol["truncation"]


def test_a_checkout_of_before_v2_is_one_too(standin):
    older = Checkout(standin / "LongBench")
    assert older.path == (standin / "LongBench").resolve()
    assert older.kept(4096) == 3500
    assert older.kept(32768) == 31500
    assert older.kept(8192) is None


def test_other_folders_and_damaged_files_are_refused(build, standin, tokenizer, tmp_path):
    with pytest.raises(
        ValueError, match="must be a checkout of the official LongBench, got .* without config/dataset2p"
    ):
        Checkout(tmp_path)
    with pytest.raises(ValueError, match="must be a checkout of the official LongBench, got none; git clone"):
        build("qasper", tokenizer, checkout=None)
    config = standin / "LongBench" / "config"
    for file, content, message in (
        ("dataset2maxlen.json", '{"qasper": 0}', "must have a number of tokens for qasper, got 0"),
        ("dataset2maxlen.json", '{"qasper": true}', "must have a number of tokens for qasper, got True"),
        ("dataset2prompt.json", "{}", "must have a text for qasper, got None"),
        ("dataset2prompt.json", '{"qasper": "{context} {answers}"}', "no fields but context and input, got KeyError"),
        ("dataset2prompt.json", "[]", "must be a JSON object, got a list"),
        ("dataset2prompt.json", "{", "must be JSON"),
    ):
        whole = (config / file).read_text()
        (config / file).write_text(content)
        with pytest.raises(ValueError, match=message):
            build("qasper", tokenizer)
        (config / file).write_text(whole)


def test_evaluate_runs_them_by_their_names(standin, model_folder, tmp_path, capsys):
    rows = tmp_path / "data"
    rows.mkdir()
    for name in ("qasper", "trec"):
        write_jsonl(rows / f"{name}.jsonl", [v1_row(name, i, context="A fact.\n") for i in range(2)])
    command = ["evaluate", "--model", str(model_folder), "--output-dir", str(tmp_path / "out"), "--methods", "none"]
    command += ["--lengths", "400", "--longbench-source", str(rows), "--tasks"]
    tasks = ["official_longbench_qasper", "official_longbench_trec"]
    assert main([*command, *tasks]) == 2
    assert "longbench_checkout must be a checkout of the official LongBench, got none" in capsys.readouterr().err
    assert main([*command, *tasks, "--longbench-checkout", str(standin)]) == 0
    results = read_results(tmp_path / "out" / "results.json")
    assert {(row.task, row.metric) for row in results.rows} == {(tasks[0], "f1"), (tasks[1], "accuracy")}


def official_module(name: str) -> ModuleType:
    """Import a script of the real checkout; what it imports for GPUs is left out."""
    folder = str(Checkout(str(REAL)).path)
    sys.path.insert(0, folder)
    sys.modules["llama_flash_attn_monkey_patch"] = SimpleNamespace(replace_llama_attn_with_flash_attn=None)  # type: ignore[assignment]
    spec = importlib.util.spec_from_file_location(f"official_{name}", f"{folder}/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
        del sys.modules["llama_flash_attn_monkey_patch"]
    return module


class Recorder:
    """A model that keeps what it is asked and answers with given tokens, one list after the other."""

    def __init__(self, answers: list[list[int]]) -> None:
        self.asked: list[dict] = []
        self.answers = iter(answers)

    def generate(self, **options):
        self.asked.append(options)
        return [torch.cat([options["input_ids"][0], torch.tensor(next(self.answers))])]


def real_rows(name: str) -> list[dict]:
    if DATA is not None:
        lines = (Path(DATA) / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[:4]]
    return [v1_row(name), long_row(name, 12_000), v1_row(name, 2, context="短。" * 300)]


@pytest.mark.skipif(REAL is None, reason="LONGBENCH_CHECKOUT names no checkout of github.com/THUDM/LongBench")
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(("model", "length"), [("x-4k", 4096), ("x-32k", 32768)])
@pytest.mark.parametrize("name", DATASETS)
def test_prompts_answers_and_scores_equal_those_of_the_official_checkout(
    name, model, length, chat, build, bpe_tokenizer, make_llama, tmp_path
):
    pytest.importorskip("fuzzywuzzy", reason="needs packages: pip install jieba rouge fuzzywuzzy")
    chosen = deepcopy(bpe_tokenizer)
    chosen.chat_template = TEMPLATE
    rows = real_rows(name)
    task = build(name, chosen, rows=rows, checkout=REAL, chat=chat)
    samples = task.samples(length)
    config = {file.stem: json.loads(file.read_text()) for file in (task.checkout.path / "config").glob("*.json")}
    limit = next(kept for known, kept in config["model2maxlen"].items() if known.endswith(model[1:]))
    answers = [row["answers"][0] + ("\nno more" if place else "") for place, row in enumerate(rows)]
    recorder = Recorder([chosen.encode(answer, add_special_tokens=False) for answer in answers])
    pred, out = official_module("pred"), tmp_path / "pred.jsonl"
    vars(pred).update(
        torch=SimpleNamespace(device=lambda name: "cpu"),
        dist=SimpleNamespace(destroy_process_group=lambda: None),
        load_model_and_tokenizer=lambda path, name, device: (recorder, chosen),
    )
    called = "llama2" if chat else "base"  # its llama2 is the template above
    options = (config["dataset2maxlen"][name], config["dataset2prompt"][name], name, "cpu", called, {called: ""}, out)
    pred.get_pred(0, 1, rows, limit, *options)
    assert [sample.ids.tolist() for sample in samples] == [asked["input_ids"][0].tolist() for asked in recorder.asked]
    assert {asked["max_new_tokens"] for asked in recorder.asked} == {task.max_new_tokens}
    for asked, sample in zip(recorder.asked, samples, strict=True):
        if "eos_token_id" in asked:
            assert set(asked["eos_token_id"]) == task.ends(make_llama())
        assert asked.get("min_length", 0) == (len(sample.ids) + 1 if task.min_new_tokens else 0)
    told = [json.loads(line) for line in out.read_text().splitlines()]
    scores = [task.score(answer["pred"], sample)[task.metric] for answer, sample in zip(told, samples, strict=True)]
    parts = [answer["pred"] for answer in told], [row["answers"] for row in rows], rows[0]["all_classes"]
    assert round(100 * sum(scores) / len(scores), 2) == official_module("eval").scorer(name, *parts)
