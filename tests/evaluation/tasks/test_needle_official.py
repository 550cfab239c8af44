"""The needle test of an official checkout: of one written here, and of the real one where NIAH_CHECKOUT names it."""

import asyncio
import glob
import importlib
import os
import sys
from copy import deepcopy
from dataclasses import fields
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from transformers import AutoTokenizer

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.evaluation.tasks.needle_checkout import Checkout
from longrope.evaluation.tasks.needle_official import OfficialNeedle

REAL = os.environ.get("NIAH_CHECKOUT")
EMBEDDED = Path(__file__).parents[3] / "examples" / "tiny" / "model"
CHAT = (
    "<s>{% for message in messages %}[{{ message.role }}: {{ message.content }}]{% endfor %}"
    "{% if add_generation_prompt %}[assistant: {% endif %}"
)
RUN = """
from dataclasses import dataclass
import not_a_package

@dataclass
class CommandArgs():
    provider: str = "openai"
    needle: str = "\\nThe cat of Ulm sleeps on a red roof.\\n"
    haystack_dir: str = "Essays"
    retrieval_question: str = "Where does the cat of Ulm sleep?"
    document_depth_percent_intervals: int = 3
    final_context_length_buffer: int = 200
"""
TESTER = '''
import glob, os, not_a_package
import numpy as np

class LLMNeedleHaystackTester:
    """Of a few lines."""
    def __init__(self, model_to_test: ModelProvider = None, evaluator: Evaluator = None, needle = None,
                 haystack_dir = "", retrieval_question = None, context_lengths = None,
                 document_depth_percent_intervals = 5, final_context_length_buffer = 9):
        self.model, self.needle, self.folder = model_to_test, needle, haystack_dir
        self.kept = final_context_length_buffer
        grid = np.linspace(0, 100, document_depth_percent_intervals)
        self.document_depth_percents = np.round(grid).astype(int)

    def read_context_files(self):
        base = os.path.abspath(os.path.dirname(__file__))
        files = glob.glob(os.path.join(base, self.folder, "*.txt"))
        return "".join(open(file).read() for file in files)

    def encode_and_trim(self, context, length):
        return self.model.decode_tokens(self.model.encode_text_to_tokens(context), length)

    def insert_needle(self, context, percent, length):
        tokens, needle = self.model.encode_text_to_tokens(context), self.model.encode_text_to_tokens(self.needle)
        tokens = tokens[: length - self.kept - len(needle)]
        at = int(len(tokens) * percent / 100)
        while at and percent < 100 and tokens[at - 1] not in self.model.encode_text_to_tokens("."):
            at -= 1
        return self.model.decode_tokens(tokens[:at] + needle + tokens[at:])
'''
MESSAGES = """
import not_a_package

class OpenAI(Unknown):
    def generate_prompt(self, context: str, retrieval_question: str) -> str | list[dict[str, str]]:
        said = [("system", "Be short"), ("user", context), ("user", f"{retrieval_question} No more")]
        return [{"role": role, "content": content} for role, content in said]
"""
JUDGE = 'class OpenAIEvaluator(Unknown):\n    CRITERIA = {"accuracy": "Score 1: no. Score 10: yes."}\n'
TEXT = "Be short\n\nHuman: <c>{context}</c> {retrieval_question}\n\nAssistant: It says:"
ESSAYS = {"b.txt": "Second essay. It has words.\n" * 30, "a.txt": "An essay is here. So be it.\n" * 20}
NEEDLE, QUESTION = "\nThe cat of Ulm sleeps on a red roof.\n", "Where does the cat of Ulm sleep?"


@pytest.fixture
def standin(tmp_path):
    package = tmp_path / "Needle" / "needlehaystack"
    files = {"run.py": RUN, "llm_needle_haystack_tester.py": TESTER, "providers/openai.py": MESSAGES}
    files |= {"evaluators/openai.py": JUDGE, "providers/Anthropic_prompt.txt": TEXT}
    for name, text in (files | {f"Essays/{name}": text for name, text in ESSAYS.items()}).items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return package.parent


@pytest.fixture
def make(standin, tokenizer):
    def build(model_tokenizer=tokenizer, **options):
        return OfficialNeedle(model_tokenizer, checkout=Checkout(standin), **options)

    return build


def chatting(tokenizer):
    chosen = deepcopy(tokenizer)
    chosen.chat_template = CHAT
    return chosen


def context(length: int, percent: int) -> str:
    """The official rule on characters, written down again: the byte tokenizer has one token for each."""
    text = (ESSAYS["a.txt"] + ESSAYS["b.txt"])[: length - 200 - len(NEEDLE)]
    at = len(text) if percent == 100 else text[: int(len(text) * percent / 100)].rfind(".") + 1
    return text[:at] + NEEDLE + text[at:]


def test_prompts_are_the_text_for_completion_models_at_the_official_depths(make, tokenizer):
    samples = make().samples(700)
    for sample, percent in zip(samples, (0, 50, 100), strict=True):
        text = f"Be short\n\nHuman: <c>{context(700, percent)}</c> {QUESTION}\n\nAssistant: It says:"
        assert sample.ids.tolist() == tokenizer(text).input_ids
        assert sample.labels["depth"] == percent / 100
    assert [sample.labels["depth"] for sample in make(depths=2).samples(700)] == [0, 1]


def test_in_a_chat_template_the_question_is_a_second_message_of_the_user(make, tokenizer):
    chosen = chatting(tokenizer)
    task = make(chosen, chat=True)
    for sample, percent in zip(task.samples(700), (0, 50, 100), strict=True):
        text = f"<s>[system: Be short][user: {context(700, percent)}][user: {QUESTION} No more][assistant: "
        assert chosen.decode(sample.ids) == text
    chosen.chat_template = "{{ raise_exception('one message only') if messages[2] }}{{ messages[1].content }}"
    with pytest.raises(
        ValueError, match="must take a system prompt and two messages of the user, got one message only"
    ):
        make(chosen, chat=True).samples(700)


def test_prompt_and_answer_fit_the_length_and_others_are_refused(make):
    task = make()
    assert 0 < task.max_new_tokens == 200 - 16 - len(task.samples(700)[0].ids) + 500
    assert all(len(sample.ids) + task.max_new_tokens <= 700 for sample in task.samples(700))
    with pytest.raises(ValueError, match="lengths must be more than the 200 tokens that the official contexts leave"):
        task.samples(200)


@pytest.mark.parametrize(
    ("predicted", "share"),
    [(" It SLEEPS on a red roof.", 1), ("a roof", 0.4), ("the cat of Ulm", 0), ("sleeps red, on red", 0.6)],
)
def test_the_score_is_the_share_of_the_words_that_the_question_does_not_have(make, predicted, share):
    task = make()
    assert task.score(predicted, task.samples(700)[0]) == {"recall": pytest.approx(share)}


def test_the_protocol_says_what_the_judge_is_given(make, standin):
    protocol = make().protocol()
    expected = {"criteria": "Score 1: no. Score 10: yes.", "question": QUESTION, "reference": NEEDLE}
    assert protocol["judge"] == expected
    assert "not official" in protocol["scoring"]
    (standin / "needlehaystack/Essays/a.txt").write_text("Other. " * 99)
    assert make().protocol()["files_sha256"] != protocol["files_sha256"]


def test_other_folders_and_other_definitions_are_refused(standin, tmp_path):
    with pytest.raises(ValueError, match="must be a checkout of the official needle test, got .* without needlehay"):
        Checkout(tmp_path)
    (standin / "needlehaystack/run.py").write_text("class CommandArgs:\n    needle: str = 'a'\n")
    with pytest.raises(ValueError, match="must have defaults of .* got none of haystack_dir, retrieval_question"):
        Checkout(standin)
    (standin / "needlehaystack/run.py").write_text("def main(): ...")
    with pytest.raises(ValueError, match="must define CommandArgs, got none; take an earlier commit"):
        Checkout(standin)


def test_evaluate_runs_it_by_its_name(standin, model_folder, tmp_path, capsys):
    command = ["evaluate", "--model", str(model_folder), "--output-dir", str(tmp_path / "out"), "--methods", "none"]
    command += ["--lengths", "500", "--tasks", "official_niah", "--niah-depths", "2"]
    assert main(command) == 2
    assert "niah_checkout must be a checkout of the official needle test" in capsys.readouterr().err
    assert main([*command, "--niah-checkout", str(standin)]) == 0
    (row,) = read_results(tmp_path / "out" / "results.json").rows
    assert (row.task, row.metric, row.n) == ("official_niah", "recall", 2)


class Anything(ModuleType):
    """A package that is not installed: whatever is imported from it is a class that takes everything."""

    def __init__(self, name):
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name):
        return type(name, (), {"__init__": lambda self, *args, **options: None, "__class_getitem__": lambda item: item})


class Services(MetaPathFinder, Loader):
    """Finds the packages of the services that the checkout talks to."""

    packages = ("anthropic", "cohere", "dotenv", "jsonargparse", "langsmith", "openai", "pkg_resources", "pydantic")

    def find_spec(self, fullname, path, target=None):
        package = fullname.split(".")[0]
        known = package in self.packages or package.startswith("langchain") or package == "tiktoken"
        return ModuleSpec(fullname, self, is_package=True) if known else None

    def create_module(self, spec):
        return Anything(spec.name)

    def exec_module(self, module):
        pass


@pytest.fixture
def official(monkeypatch):
    """Import from the real checkout, without the services that it talks to."""
    before = dict(sys.modules)
    for name in [name for name in before if name.split(".")[0] in Services.packages]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Services(), *sys.meta_path])
    monkeypatch.setattr(sys, "path", [str(REAL), *sys.path])
    yield importlib.import_module
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


@pytest.mark.skipif(REAL is None, reason="NIAH_CHECKOUT names no checkout of github.com/gkamradt/LLMTest_Needle..")
@pytest.mark.parametrize("length", [1000, 16000])
def test_prompts_equal_those_of_the_official_checkout(length, official, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    tester_module = official("needlehaystack.llm_needle_haystack_tester")
    monkeypatch.setattr(tester_module, "glob", SimpleNamespace(glob=lambda pattern: sorted(glob.glob(pattern))))
    openai = official("needlehaystack.providers.openai").OpenAI
    anthropic = official("needlehaystack.providers.anthropic").Anthropic
    chat_provider, text_provider = openai.__new__(openai), anthropic.__new__(anthropic)
    text_provider.prompt_structure = (Path(str(REAL)) / "needlehaystack/providers/Anthropic_prompt.txt").read_text()
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    vars(chat_provider).update(model_name="m", tokenizer=SimpleNamespace(encode=encode, decode=tokenizer.decode))
    told = {field.name: field.default for field in fields(official("needlehaystack.run").CommandArgs)}
    del told["needles"]
    told |= {"context_lengths": [length], "model_to_test": chat_provider, "evaluator": None}
    tester = tester_module.LLMNeedleHaystackTester(**told)
    checkout = Checkout(str(REAL))
    plain = OfficialNeedle(tokenizer, checkout=checkout).samples(length)
    chat_tokenizer = chatting(tokenizer)
    chat = OfficialNeedle(chat_tokenizer, checkout=checkout, chat=True).samples(length)
    assert len(plain) == len(chat) == 35
    for place in (0, 8, 17, 25, 34):
        context = asyncio.run(tester.generate_context(length, tester.document_depth_percents[place]))
        assert tester.needle in context
        text = text_provider.generate_prompt(context, tester.retrieval_question)
        assert plain[place].ids.tolist() == tokenizer(text).input_ids
        messages = chat_provider.generate_prompt(context, tester.retrieval_question)
        said = chat_tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert chat[place].ids.tolist() == said
    criteria = official("needlehaystack.evaluators.openai").OpenAIEvaluator.CRITERIA
    assert checkout.criteria == criteria["accuracy"]
