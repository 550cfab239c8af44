"""Essays, questions and tokenizers made here, and a reader that answers a prompt from its text alone."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from longrope.evaluation.data.tokenized import TokenDocument, TokenizedDocuments, TokensInfo, fingerprint
from longrope.evaluation.tasks.ruler.tasks import build_ruler
from longrope.evaluation.tasks.ruler.vocabulary import ADJECTIVES, NOUNS

TINY = Path(__file__).parents[4] / "examples" / "tiny" / "model"


def make_essays(tokenizer) -> TokenizedDocuments:
    rng = random.Random(0)
    sentence = lambda: f"The {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} likes a {rng.choice(NOUNS)}, or\nso it says."  # noqa: E731
    texts = ["  ".join(sentence() for _ in range(100)) for _ in range(3)]
    documents = [
        TokenDocument(f"essay{i}", tokenizer(text, return_tensors="np").input_ids[0]) for i, text in enumerate(texts)
    ]
    return TokenizedDocuments(documents, TokensInfo({}, "none", 0, "none", 3, 0, fingerprint(documents)))


@pytest.fixture(scope="session")
def squad_file(tmp_path_factory):
    def paragraph(place):
        text = f"The keeper of {place} is {place[::-1].title()}. It stands on a hill above the sea, and few go there."
        question = {"question": f"Who is the keeper of {place}?", "is_impossible": False}
        answers = [{"text": place[::-1].title(), "answer_start": 0}] * 3
        hard = {"question": f"When did {place} fall?", "is_impossible": True, "answers": []}
        return {"context": text, "qas": [{**question, "answers": answers}, hard]}

    articles = [{"paragraphs": [paragraph(f"{noun}{i}") for i in range(5)]} for noun in NOUNS[:20]]
    path = tmp_path_factory.mktemp("squad") / "squad.json"
    path.write_text(json.dumps({"version": "v2.0", "data": articles}))
    return path


@pytest.fixture(scope="session")
def hotpot_file(tmp_path_factory):
    def entry(index):
        house, founder, town = f"{NOUNS[index]} house", f"{NOUNS[index + 50].title()} Smith", f"{NOUNS[index + 100]}ton"
        context = [[f"{noun} {index}", [f"The {noun} is a thing. ", "It is old."]] for noun in NOUNS[150:158]]
        context.insert(index % 8, [house, [f"The {house} was founded by {founder}. ", "It is large."]])
        context.insert(index % 5, [founder, [f"{founder} was born in {town}."]])
        facts = [[house, 0], [founder, 0]]
        question = f"Where was the founder of the {house} born?"
        return {"question": question, "answer": town, "supporting_facts": facts, "context": context}

    path = tmp_path_factory.mktemp("hotpot") / "hotpot.json"
    path.write_text(json.dumps([entry(index) for index in range(40)]))
    return path


@pytest.fixture(scope="session")
def tiny_tokenizer():
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="session", params=["byte", "tiny"])
def either_tokenizer(request, tokenizer, tiny_tokenizer):
    return tokenizer if request.param == "byte" else tiny_tokenizer


@pytest.fixture(scope="session")
def make_task(squad_file, hotpot_file, tiny_tokenizer):
    """Build a task with all its data, for the embedded model's tokenizer unless told otherwise."""
    files = {"ruler_qa_1": squad_file, "ruler_qa_2": hotpot_file}

    def make(name, tokenizer=tiny_tokenizer, samples=3, **changes):
        data = {"essays": make_essays(tokenizer), "qa_file": files.get(name)}
        return build_ruler(name, tokenizer, samples=samples, **{**data, **changes})

    return make


def read_needles(text):
    """Key to values, of all needles of a prompt."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"One of the special magic \w+ for (\S+) is: ([\w-]+)\.", text):
        found.setdefault(key, []).append(value)
    return found


def asked_keys(text):
    query = re.search(r"What (?:is|are all) the special magic \w+ for (.+) mentioned in the provided text\?", text)
    assert query is not None
    return re.split(r", and |, ", query[1])


def read_assignments(text):
    """Variable to the value or variable that it gets, of the last exercise of a prompt."""
    return dict(re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", text.rpartition("follow it.")[2]))


def read_list(text):
    """The words of the last numbered list of a prompt."""
    words = re.findall(r"\d+\. (\S+)", text.rpartition("Memorize those")[2].partition("\nQuestion")[0])
    return Counter(words)


def read_codes(text):
    return Counter(text.partition("most frequent ones. ")[2].partition("\nQuestion")[0].split())


def _variables(text):
    assignments = read_assignments(text)
    value = re.findall(r"assigned the value (\d+)", text)[-1]

    def resolve(variable):
        while variable in assignments:
            variable = assignments[variable]
        return variable

    return [variable for variable in assignments if resolve(variable) == value]


def _first(pattern, text):
    found = re.search(pattern, text)
    assert found is not None
    return found[1]


def solve(name, text):
    """Answer a prompt by reading it."""
    if "niah" in name:
        needles = read_needles(text)
        return [value for key in asked_keys(text) for value in needles[key]]
    if name == "ruler_vt":
        return _variables(text)
    if name == "ruler_cwe":
        return [word for word, _ in read_list(text).most_common(10)]
    if name == "ruler_fwe":
        return [word for word, _ in read_codes(text).most_common(4) if word != "..."]
    if name == "ruler_qa_1":
        place = _first(r"Who is the keeper of (\S+)\?", text)
        return [_first(rf"The keeper of {place} is (\w+)\.", text)]
    house = _first(r"the founder of (the .+ house) born\?", text)
    founder = _first(rf"[Tt]{house[1:]} was founded by ([\w ]+)\.", text)
    return [_first(rf"{founder} was born in (\w+)\.", text)]
