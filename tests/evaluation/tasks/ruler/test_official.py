"""Tasks of an official checkout: against a stand-in, and against the real one where RULER_CHECKOUT names it.

The real one is asked twice: by us through its `prepare.py`, and here by its generators themselves, with arguments that
this test puts together from its constants. It needs the generators' packages and the data files they read.
"""

import json
import os
import runpy
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.evaluation.tasks.ruler import checkout as module
from longrope.evaluation.tasks.ruler.checkout import Checkout
from longrope.evaluation.tasks.ruler.official import OFFICIAL, OfficialRuler

from .conftest import TINY
from .standin import make_checkout

REAL = os.environ.get("RULER_CHECKOUT")
CASES = ((4096, False), (8192, False), (4096, True))
"""Lengths, and whether prompts stand in a chat template."""
TEMPLATE = "<|user|>\nThese are some answers: {{ messages[0].content }}<|end|>\n<|assistant|>"
SAMPLES = 2
GENERATORS = """
import json, runpy, sys
sys.path[:0] = [sys.argv[1] + "/scripts/data/synthetic"]
for script, arguments in json.load(sys.stdin):
    sys.argv[:] = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture
def standin(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ())
    return make_checkout(tmp_path / "RULER")


@pytest.fixture
def make(standin, tmp_path, tokenizer):
    def build(task="vt", model_tokenizer=tokenizer, **changes):
        options = {"checkout": Checkout(standin), "folder": tmp_path / "prompts", "num_samples": 2, **changes}
        return OfficialRuler(model_tokenizer, task=task, **options)

    return build


def test_prompts_are_input_and_answer_prefix_with_the_answers_of_the_generator(make, tokenizer):
    samples = make().samples(100)
    texts = [f"vt of {len(tokenizer)}\né {index}? It is" for index in range(2)]
    assert [sample.ids.tolist() for sample in samples] == [tokenizer(text).input_ids for text in texts]
    assert {sample.references for sample in samples} == {("Ab", "cd")}
    assert [sample.labels for sample in samples] == [{"official_tokens": 100}, {"official_tokens": 99}]


def test_in_a_chat_template_the_answer_prefix_follows_it_and_its_tokens_are_left_free(make, tokenizer):
    chosen = deepcopy(tokenizer)
    chosen.chat_template = '{{ bos_token }}[{{ messages[0].content }}]"$HOME"{x}'
    task, after = make(model_tokenizer=chosen, chat=True), ']"$HOME"{x}'
    texts = [f"<s>[vt of {len(tokenizer)}\né {index}?{after} It is" for index in range(2)]
    samples = task.samples(120)
    assert [tokenizer.decode(sample.ids) for sample in samples] == texts
    taken = len("<s>[" + after)
    assert [sample.labels["official_tokens"] for sample in samples] == [120 - taken, 119 - taken]
    assert task.protocol()["template"] == {"before": "<s>[", "after": after, "strips": False}
    assert [sample.labels["official_tokens"] for sample in make().samples(120)] == [120, 119]  # made anew


def test_answers_are_as_long_and_scored_as_the_checkout_says(make):
    task, questions = make(), make("qa_1")
    (sample, _), (question, _) = task.samples(100), questions.samples(100)
    assert task.max_new_tokens == 5
    assert task.score("\n ab, no\tmore", sample) == {"string_match_all": 0.5}
    assert questions.score("ab", question) == {"string_match_part": 1.0}


def test_the_score_is_that_of_an_answer_without_control_characters(make):
    task = make()
    sample = replace(task.samples(100)[0], references=("a\nb", "c "))
    assert task.score("x a\tb c \x00", sample) == {"string_match_all": 0.5}  # the last reference is stripped away


def test_the_protocol_names_the_commit_and_the_data(make, standin):
    protocol = make("qa_1").protocol()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=standin, capture_output=True, text=True).stdout.strip()
    assert protocol["definition"] == f"official RULER, checkout commit {commit}"
    (standin / "scripts/data/synthetic/json/squad.json").write_text("[]")
    changed = make("qa_1").protocol()
    assert changed["definition"].endswith("-dirty")
    assert changed["data_sha256"] != protocol["data_sha256"]
    assert make("vt").protocol()["data_sha256"] is None
    (standin / "scripts/data/synthetic/constants.py").write_text("")
    definition = module.Definition("vt", 5, "string_match_all", None)
    assert Checkout(standin).describe(definition)["generators_sha256"] != protocol["generators_sha256"]


def test_the_generator_runs_once_for_each_length_until_something_of_it_changes(make, standin):
    for _ in range(2):
        for length in (100, 200):
            make().samples(length)
    runs = standin / "scripts/data/runs.txt"
    assert runs.read_text().splitlines() == ["vt 100", "vt 200"]
    make(num_samples=3).samples(100)
    script = standin / "scripts/data/prepare.py"
    script.write_text(script.read_text().replace("It is", "They are"))
    assert make().tokenizer.decode(make().samples(100)[0].ids).endswith("They are")
    assert len(runs.read_text().splitlines()) == 4


def test_a_generator_that_fails_or_never_ends_is_refused_with_its_reason(make, monkeypatch):
    with pytest.raises(ValueError, match="of vt must make prompts of 99 tokens, got an error; .*: KeyError: 'no' such"):
        make().samples(99)
    monkeypatch.setattr(module, "SECONDS", 0.5)
    with pytest.raises(ValueError, match="it never ends where its smallest prompt is longer; take longer lengths"):
        make().samples(49)


@pytest.mark.parametrize("task", ["niah_single_2", "cwe"])
def test_missing_data_is_named_with_what_gets_it(make, task):
    with pytest.raises(ValueError, match="missing or not fetched by Git LFS; run `git lfs pull`"):
        make(task).samples(100)


def test_other_folders_and_missing_packages_are_refused(standin, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"must be a checkout of the official RULER, got .* without scripts/data/prep"):
        Checkout(tmp_path)
    with pytest.raises(ValueError, match="task must be one of niah_single_1, .*, got niah"):
        Checkout(standin).definition("niah")
    monkeypatch.setattr(module, "PACKAGES", ("yaml", "no_such_package"))
    with pytest.raises(ValueError, match="got none of no_such_package; pip install no_such_package"):
        Checkout(standin)


def test_a_metric_that_is_not_known_here_and_no_samples_are_refused(make, standin):
    with pytest.raises(ValueError, match="samples must be at least 1"):
        make(num_samples=0)
    scoring = standin / "scripts/eval/synthetic/constants.py"
    scoring.write_text(scoring.read_text().replace("string_match_all", "other"))
    with pytest.raises(ValueError, match="metric of vt must be one of string_match_all, string_match_part, got other"):
        make()


def test_evaluate_runs_them_and_averages_them_beside_ours(standin, model_folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", "--model", str(model_folder), "--output-dir", str(out), "--methods", "none", "--lengths"]
    command += ["700", "--ruler-samples", "2", "--tasks", "official_ruler", "ruler_fwe"]
    assert main(command) == 2
    assert "ruler_checkout must be a checkout of the official RULER" in capsys.readouterr().err
    assert main([*command, "--ruler-checkout", str(standin)]) == 0
    results = read_results(out / "results.json")
    without = {"official_ruler_cwe", *(name for name, task in OFFICIAL.items() if task == "niah_single_2")}
    assert {entry.task for entry in results.left_out} == without
    means = {row.task: row.n for row in results.rows if row.metric.startswith("mean_of")}
    assert means == {"official_ruler": 2 * 11, "ruler": 2}
    assert {row.task for row in results.rows} == {*OFFICIAL, "official_ruler", "ruler", "ruler_fwe"} - without
    assert "official_ruler at 700" in (out / "table.md").read_text()


@pytest.fixture(scope="module")
def by_generators(tmp_path_factory):
    """Rows of the real checkout's generators by task, length and template, asked for without `prepare.py`."""
    root, folder = Path(str(REAL)).resolve(), tmp_path_factory.mktemp("generated")
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    constants = runpy.run_path(str(root / "scripts/data/synthetic/constants.py"))["TASKS"]
    calls = []
    for task, config in yaml.safe_load((root / "scripts/synthetic.yaml").read_text()).items():
        base = constants[config["task"]]
        for length, chat in CASES:
            taken = tokenizer.tokenize(TEMPLATE.replace("{{ messages[0].content }}", "{task_template}")) if chat else []
            options = config["args"] | {
                "model_template_token": len(taken),
                "save_dir": folder / f"{length}-{chat}",
                "save_name": task,
                "tokenizer_path": TINY,
                "tokenizer_type": "hf",
                "max_seq_length": length,
                "tokens_to_generate": base["tokens_to_generate"],
                "num_samples": SAMPLES,
                "template": base["template"] + base["answer_prefix"],
            }
            script = str(root / "scripts/data/synthetic" / f"{config['task']}.py")
            calls.append((script, [f"--{name}={value}" for name, value in options.items()]))
    subprocess.run([sys.executable, "-c", GENERATORS, str(root)], input=json.dumps(calls), text=True, check=True)
    files = {path.parts[-3:-1]: path.read_text().splitlines() for path in folder.rglob("validation.jsonl")}
    return {(task, case): [json.loads(line) for line in lines] for (case, task), lines in files.items()}


@pytest.mark.skipif(REAL is None, reason="RULER_CHECKOUT names no checkout of github.com/NVIDIA/RULER")
@pytest.mark.parametrize(("length", "chat"), CASES)
@pytest.mark.parametrize("task", OFFICIAL.values())
def test_prompts_answers_and_scores_equal_those_of_the_official_checkout(task, length, chat, by_generators, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(TINY, chat_template=TEMPLATE)
    options = {"checkout": Checkout(str(REAL)), "folder": tmp_path, "num_samples": SAMPLES, "chat": chat}
    ours = OfficialRuler(tokenizer, task=task, **options)
    theirs, samples = by_generators[task, f"{length}-{chat}"], ours.samples(length)
    parts = [(row["input"], row["answer_prefix"]) for row in theirs]
    assert [(row.message.encode(), row.stem.encode()) for row in ours.rows(length)] == [
        (message.encode(), stem.encode()) for message, stem in parts
    ]
    before, after = TEMPLATE.split("{{ messages[0].content }}") if chat else ("", "")
    prompts = [before + message + after + stem for message, stem in parts]
    encoded = [tokenizer(prompt, add_special_tokens=not chat).input_ids for prompt in prompts]
    assert [sample.ids.tolist() for sample in samples] == encoded
    if chat:
        assert max(map(len, encoded)) + ours.max_new_tokens <= length
    assert [list(sample.references) for sample in samples] == [row["outputs"] for row in theirs]
    official = runpy.run_path(f"{REAL}/scripts/eval/synthetic/constants.py")["TASKS"]
    kind = yaml.safe_load(Path(f"{REAL}/scripts/synthetic.yaml").read_text())[task]["task"]
    answers = [" ".join(row["outputs"][: 1 + place]).upper() for place, row in enumerate(theirs)]
    scores = [sum(ours.score(*pair).values()) for pair in zip(answers, samples, strict=True)]
    expected = official[kind]["metric_fn"](answers, [row["outputs"] for row in theirs])
    assert round(100 * sum(scores) / len(scores), 2) == expected
