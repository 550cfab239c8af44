"""NoLiMa of an official checkout: of one that is written here, and of the real one where NOLIMA_CHECKOUT names it.

The real one is asked by its own `run_tests.py`, with a server that records what it is asked. Its data, which its
licence keeps out of this repository, is that of the checkout, or made here in the official format where there is none.
"""

import asyncio
import json
import os
import random
import runpy
import shutil
import sys
from copy import deepcopy
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from transformers import AutoTokenizer

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.evaluation.tasks.nolima_checkout import Checkout
from longrope.evaluation.tasks.nolima_official import OfficialNoLiMa

REAL = os.environ.get("NOLIMA_CHECKOUT")
EMBEDDED = Path(__file__).parents[3] / "examples" / "tiny" / "model"
DEPTHS = 5
HAYSTACK = """
class BookHaystack:
    def __init__(self, path):
        self.text = open(path).read()

    def generate_w_needle_placement(
        self, needle, token_count_func, encoding_func, decoding_func, context_length, depth
    ):
        tokens = encoding_func(self.text)
        assert context_length <= len(tokens)
        at = round(depth * context_length)
        before, after = decoding_func(tokens[:at]), decoding_func(tokens[at:context_length])
        return {"text": f"{before} {needle}\\n{after}"}
"""
CONNECTOR = """
if provider == "other":
    self.SYSTEM_PROMPT = "no"
elif provider == "vllm":
    self.SYSTEM_PROMPT = "Help, please"
"""
NEEDLE_SET = [
    {
        "id": "0401",
        "system_prompt": "",
        "task_template": "Of the book:\n{haystack}\nAsked: {question}",
        "needle": "Truly, {CHAR} lives beside the {1}.",
        "character_set": ["Ada", "Bo", "Cy"],
        "questions": {"onehop": "Who was in {2}?", "twohop": "Who was in {3}?"},
        "tests": {
            "T1": {"input_args": ["old harbour", "Porto", "Portugal"]},
            "T2": {"input_args": ["opera", "Sydney", "Australia"]},
        },
    },
    {
        "id": "0402inv",
        "system_prompt": "",
        "needle": "Beside the {1} lives {CHAR}.",
        "character_set": ["Di", "Ed"],
        "questions": {"onehop": "Who was in {2}, {CHAR} or another?"},
        "tests": {"T1": {"input_args": ["tower", "Pisa"]}},
    },
    {
        "id": "0403",
        "system_prompt": "",
        "needle": "The code is 77.",
        "questions": {"direct": "Which code?"},
        "tests": {"T1": {"input_args": [], "gold_answers": ["77", "seventy-seven"]}},
    },
]
WORDS = ("a", "river", "ran", "under", "the", "grey", "stone", "bridge", "all", "night")
CHAT = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def write_data(root: Path) -> None:
    """Write a needle set and books in the official format."""
    (root / "data/needlesets").mkdir(parents=True)
    (root / "data/needlesets/needle_set.json").write_text(json.dumps(NEEDLE_SET))
    books = root / "data/haystack/rand_shuffle"
    books.mkdir(parents=True)
    for number in (1, 2):
        rng = random.Random(number)
        lines = [" ".join(rng.choices(WORDS, k=12)) for _ in range(300)]
        (books / f"rand_book_{number}.txt").write_text("".join(f"{line}.\n" for line in lines))


@pytest.fixture
def standin(tmp_path):
    root = tmp_path / "NoLiMa"
    files = {
        "evaluation/run_tests.py": "DEFAULT_TASK_TEMPLATE = 'By default: {haystack} Asked: {question}'\n",
        "evaluation/async_api_connector.py": CONNECTOR,
        "evaluation/model_configs/llama_3.3_70b.json": '{"max_tokens": 9}',
        "data/book_haystack.py": HAYSTACK,
        "evaluation/run_config/a.yaml": f"context_length: 250\ndocument_depth_percent_intervals: {DEPTHS}\n",
        "evaluation/run_config/b.yaml": f"context_length: 1000\ndocument_depth_percent_intervals: {DEPTHS}\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    write_data(root)
    return root


@pytest.fixture
def make(standin, tokenizer):
    def build(**options):
        return OfficialNoLiMa(options.pop("model_tokenizer", tokenizer), checkout=Checkout(standin), **options)

    return build


def test_each_needle_is_asked_for_by_each_question_in_each_book_at_each_depth(make, tokenizer):
    samples = make().samples(1200)
    assert len(samples) == 2 * (4 + 1 + 1) * DEPTHS
    texts = [tokenizer.decode(sample.ids, skip_special_tokens=True) for sample in samples]
    first = texts[:DEPTHS]
    assert all(text.startswith("Of the book:\n") and text.endswith("\nAsked: Who was in Porto?") for text in first)
    for text, sample in zip(first, samples, strict=False):
        assert text.count(f" Truly, {sample.references[0]} lives beside the old harbour.\n") == 1
    places = [text.index("Truly") for text in first]
    assert places == sorted(places) and len(set(places)) == DEPTHS
    assert [sample.labels["pair"] for sample in samples[::DEPTHS][:6]] == [
        *("0401_T1_onehop", "0401_T2_onehop", "0401_T1_twohop", "0401_T2_twohop"),
        *("0402inv_T1_onehop", "0403_T1_direct"),
    ]
    assert texts[4 * DEPTHS].startswith("By default: ")
    assert texts[4 * DEPTHS].endswith(f"Asked: Who was in Pisa, {samples[4 * DEPTHS].references[0]} or another?")
    assert samples[5 * DEPTHS].references == ("77", "seventy-seven")
    assert {sample.labels["book"] for sample in samples} == {"rand_book_1", "rand_book_2"}
    assert len({sample.item for sample in samples}) == len(samples)


def test_prompt_and_answer_fit_and_snippets_have_an_official_length_where_one_is_near(make):
    for length, context in ((1200, 1000), (1120, 1000), (900, None)):
        task = make()
        samples = task.samples(length)
        assert max(len(sample.ids) for sample in samples) + task.max_new_tokens <= length
        (found,) = {sample.labels["context_tokens"] for sample in samples}
        assert found == context or (context is None and 900 - 9 - 130 < found < 900 - 9)
    with pytest.raises(ValueError, match=r"lengths must be at least \d+ tokens for official_nolima"):
        make().samples(60)
    with pytest.raises(ValueError, match="books must have .* tokens after every depth"):
        make().samples(10**6)


def test_an_answer_counts_where_it_contains_a_right_one_letter_by_letter(make):
    task = make()
    sample = task.samples(1200)[5 * DEPTHS]
    told = {"It's 77!": 1.0, "seventy-seven": 1.0, "Seventy-Seven": 0.0, "7 7": 0.0, "": 0.0}
    assert {answer: task.score(answer, sample)["accuracy"] for answer in told} == told
    assert task.max_new_tokens == 9


def test_in_a_chat_template_the_official_system_prompt_comes_first(make, tokenizer):
    chosen = deepcopy(tokenizer)
    chosen.chat_template = CHAT
    task = make(model_tokenizer=chosen, chat=True)
    text = chosen.decode(task.samples(1200)[0].ids)
    assert text.startswith("<system>Help, please</><user>Of the book:\n")
    assert text.endswith("Asked: Who was in Porto?</><assistant>")
    chosen.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('none of it') }}{% endif %}"
    with pytest.raises(ValueError, match="must take a system prompt and a message of the user, got none of it"):
        make(model_tokenizer=chosen, chat=True).protocol()


def test_fewer_samples_are_a_seeded_selection_in_order(make):
    whole = [sample.prompt_hash for sample in make().samples(1200)]
    some = [sample.prompt_hash for sample in make(num_samples=20).samples(1200)]
    assert len(some) == 20
    assert [found for found in whole if found in set(some)] == some
    assert [sample.prompt_hash for sample in make(num_samples=20, seed=1).samples(1200)] != some
    assert make().protocol()["samples"] == len(whole)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        make(num_samples=0).samples(1200)


def test_the_protocol_changes_with_the_data(make, standin):
    protocol = make().protocol()
    (standin / "data/haystack/rand_shuffle/rand_book_2.txt").write_text("Another.\n" * 500)
    assert make().protocol()["files_sha256"] != protocol["files_sha256"]


def test_other_folders_and_missing_or_damaged_data_are_refused(standin, make, tmp_path):
    with pytest.raises(ValueError, match="must be a checkout of the official NoLiMa, got .* without evaluation/"):
        Checkout(tmp_path / "none")
    needles = standin / "data/needlesets/needle_set.json"
    for content in ("[{}]", "{", '[{"id": "x"}]', "[3]"):
        needles.write_text(content)
        with pytest.raises(ValueError, match="must be in the official format, got .*; download it again"):
            make().samples(1200)
    needles.unlink()
    with pytest.raises(ValueError, match="run `bash download_NoLiMa_data.sh` in its folder data"):
        Checkout(standin)


def test_evaluate_runs_it_by_its_name(standin, model_folder, tmp_path, capsys):
    command = ["evaluate", "--model", str(model_folder), "--output-dir", str(tmp_path / "out"), "--methods", "none"]
    command += ["--lengths", "400", "--tasks", "official_nolima", "--nolima-samples", "3"]
    assert main(command) == 2
    assert "nolima_checkout must be a checkout of the official NoLiMa" in capsys.readouterr().err
    assert main([*command, "--nolima-checkout", str(standin)]) == 0
    (row,) = read_results(tmp_path / "out" / "results.json").rows
    assert (row.task, row.metric, row.n) == ("official_nolima", "accuracy", 3)


@pytest.fixture
def official(tmp_path, monkeypatch):
    """The real checkout with data, and a function that runs its `run_tests.py`: prompts, and results by test."""
    root = tmp_path / "official"
    shutil.copytree(str(REAL), root, ignore=shutil.ignore_patterns(".git"))
    if not (root / "data/needlesets").is_dir():
        write_data(root)

    def run(tokenizer, context: int):
        asked: list[tuple[str, str]] = []

        class Connector:
            SYSTEM_PROMPT = "not asked for"

            def __init__(self, **options): ...

            def encode(self, text):
                return tokenizer(text, add_special_tokens=False)["input_ids"]

            def decode(self, tokens):
                return tokenizer.decode(tokens)

            def token_count(self, text):
                return len(self.encode(text))

            async def generate_response(self, system_prompt, user_prompt, **options):
                asked.append((user_prompt, options["max_tokens"]))
                return {"response": "Ada, Ed or 77?"}

        stub = ModuleType("async_api_connector")
        stub.APIConnector = Connector  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "async_api_connector", stub)
        for imported in ("async_evaluate", "data", "data.book_haystack"):
            monkeypatch.delitem(sys.modules, imported, raising=False)
        monkeypatch.syspath_prepend(str(root))
        monkeypatch.syspath_prepend(str(root / "evaluation"))
        seconds = count(10**9)
        monkeypatch.setattr("time.time", lambda: next(seconds))  # results are named by the second
        listed = os.listdir
        monkeypatch.setattr("os.listdir", lambda *place: sorted(listed(*place)))
        settings = yaml.safe_load((root / "evaluation/run_config/multi_test_config_book_4K.yaml").read_text())
        settings |= {
            "model_name": "llama_3.3_70b",
            "context_length": context,
            "parent_results_dir": str(tmp_path / "r"),
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
        monkeypatch.setattr(sys, "argv", ["run_tests.py", "--config", str(tmp_path / "config.yaml")])
        monkeypatch.chdir(root / "evaluation")
        asyncio.set_event_loop(asyncio.new_event_loop())
        runpy.run_path("run_tests.py", run_name="__main__")
        files = sorted((tmp_path / "r").rglob("*.json"), key=lambda file: int(file.stem.rpartition("_")[2]))
        return asked, [result["metric"] for file in files for result in json.loads(file.read_text())["results"]]

    return root, run


@pytest.mark.skipif(REAL is None, reason="NOLIMA_CHECKOUT names no checkout of github.com/adobe-research/NoLiMa")
@pytest.mark.parametrize("length", [1300, 2300])
def test_prompts_and_scores_equal_those_of_the_official_checkout(official, length):
    (root, run), tokenizer = official, AutoTokenizer.from_pretrained(EMBEDDED)
    task = OfficialNoLiMa(tokenizer, checkout=Checkout(root), num_samples=10**6)
    samples = task.samples(length)
    asked, scores = run(tokenizer, samples[0].labels["context_tokens"])
    assert len(samples) == len(asked) == len(scores)
    assert [sample.ids.tolist() for sample in samples] == [tokenizer(text).input_ids for text, _ in asked]
    assert {tokens for _, tokens in asked} == {task.max_new_tokens}
    assert [task.score("Ada, Ed or 77?", sample)["accuracy"] for sample in samples] == scores
    assert {0.0, 1.0} == set(scores)
