"""Pass keys of an official checkout: of one written here, and of the real one where LONGROPE_CHECKOUT names it."""

import importlib.util
import os
import random
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType

import pytest
from transformers import AutoTokenizer

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.evaluation.tasks.passkey_official import Checkout, OfficialPasskey

REAL = os.environ.get("LONGROPE_CHECKOUT")
EMBEDDED = Path(__file__).parents[3] / "examples" / "tiny" / "model"
SCRIPT = """
import random, not_a_package

def generate_prompt(letters):
    start, key = random.randint(0, letters), random.randint(1, 50000)
    return "x" * start + f"\\nIt is {key}. \\n" + "y" * (letters - start) + "\\nWhat is it? It is", key

def calc_str_length(tokens, letters_per_token=0.5):
    return int(tokens * letters_per_token)
"""


@pytest.fixture
def standin(tmp_path):
    (tmp_path / "LongRoPE/evaluation").mkdir(parents=True)
    (tmp_path / "LongRoPE/evaluation/passkey.py").write_text(SCRIPT)
    return tmp_path / "LongRoPE"


@pytest.fixture
def make(standin, tokenizer):
    def build(model_tokenizer=tokenizer, **options):
        return OfficialPasskey(model_tokenizer, checkout=Checkout(standin), **options)

    return build


def test_prompts_are_those_of_the_script_under_its_seed(make, tokenizer):
    random.seed(42)
    expected = []
    for _ in range(10):
        start, key = random.randint(0, 150), random.randint(1, 50000)
        text = "x" * start + f"\nIt is {key}. \n" + "y" * (150 - start) + "\nWhat is it? It is"
        expected.append((tokenizer(text).input_ids, (str(key),)))
    state = random.getstate()
    assert [(sample.ids.tolist(), sample.references) for sample in make().samples(300)] == expected
    assert random.getstate() == state
    assert [sample.ids.tolist() for sample in make(num_samples=3).samples(300)] == [ids for ids, _ in expected[:3]]


def test_in_a_chat_template_the_stem_follows_the_generation_prompt(make, tokenizer):
    chosen = deepcopy(tokenizer)
    chosen.chat_template = "<s>[{{ messages[0].content }}]"
    task = make(chosen, chat=True)
    for sample in task.samples(300):
        assert chosen.decode(sample.ids).endswith("\nWhat is it?] It is")
    assert task.protocol()["template"] == {"before": "<s>[", "after": "]", "strips": False}


def test_prompts_longer_than_the_length_are_refused(make):
    with pytest.raises(ValueError, match=r"whose letters this tokenizer makes \d+ tokens of, and 10 for the answer"):
        make().samples(60)


@pytest.mark.parametrize(
    ("predicted", "right"), [(" 00123.", 1), ("123", 1), (" it is 123 or 4", 1), ("1234", 0), ("4, 123", 0), ("no", 0)]
)
def test_the_first_integer_counts(make, predicted, right):
    task = make()
    sample = task.samples(300)[0]
    told = predicted.replace("123", sample.references[0], 1)
    assert task.score(told, sample) == {"accuracy": right}


def test_other_folders_and_other_scripts_are_refused(standin, tmp_path):
    with pytest.raises(ValueError, match="must be a checkout of the official LongRoPE, got .* without evaluation/"):
        Checkout(tmp_path)
    (standin / "evaluation/passkey.py").write_text("def generate_prompt(): ...")
    with pytest.raises(ValueError, match="must have the functions generate_prompt and calc_str_length, got "):
        Checkout(standin)


def test_evaluate_runs_it_by_its_name(standin, model_folder, tmp_path, capsys):
    command = ["evaluate", "--model", str(model_folder), "--output-dir", str(tmp_path / "out"), "--methods", "none"]
    command += ["--lengths", "200", "--tasks", "official_passkey", "--passkey-samples", "3"]
    assert main(command) == 2
    assert "longrope_checkout must be a checkout of the official LongRoPE" in capsys.readouterr().err
    assert main([*command, "--longrope-checkout", str(standin)]) == 0
    (row,) = read_results(tmp_path / "out" / "results.json").rows
    assert (row.task, row.metric, row.n) == ("official_passkey", "accuracy", 3)


@pytest.mark.skipif(REAL is None, reason="LONGROPE_CHECKOUT names no checkout of github.com/microsoft/LongRoPE")
@pytest.mark.parametrize("length", [4096, 8192])
def test_prompts_and_scores_equal_those_of_the_official_checkout(length, monkeypatch):
    stub = ModuleType("rope")
    stub.load_model = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rope", stub)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script adds to it
    spec = importlib.util.spec_from_file_location("official_passkey", f"{REAL}/evaluation/passkey.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.set_seed()
    theirs = [script.generate_prompt(script.calc_str_length(length)) for _ in range(20)]
    checkout, tokenizer = Checkout(str(REAL)), AutoTokenizer.from_pretrained(EMBEDDED)
    made = checkout.prompts(length, 20)
    assert [(prompt.encode(), key) for prompt, key in made] == [(prompt.encode(), str(key)) for prompt, key in theirs]
    task = OfficialPasskey(tokenizer, checkout=checkout)
    samples = [task._sample(place, *pair, 10**6) for place, pair in enumerate(made)]  # its tokens have fewer letters
    assert [sample.ids.tolist() for sample in samples] == [tokenizer(prompt).input_ids for prompt, _ in theirs]
    for (prompt, key), sample in zip(theirs, samples, strict=True):
        for answer in (f" {key}.", f"\n0{key} is", f" {key}1", " none", f"1 {key}"):
            limits = []

            def pipe(text, num_return_sequences, max_new_tokens, answer=answer, limits=limits):
                limits.append(max_new_tokens)
                return [{"generated_text": text + answer}]

            right = script.generate_answer(pipe, prompt) == key
            assert task.score(answer, sample) == {"accuracy": float(right)}
            assert limits == [10]
