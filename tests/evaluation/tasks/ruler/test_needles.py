"""The retrieval tasks against RULER's own definitions (scripts/synthetic.yaml, niah.py)."""

import re
import uuid

import numpy as np
import pytest

from longrope.evaluation.data.prompts import FILLER
from longrope.evaluation.tasks.ruler.needles import DEPTHS
from longrope.evaluation.tasks.ruler.vocabulary import ADJECTIVES, ENGLISH, NOUNS

from .conftest import asked_keys, read_needles

NIAH = {
    # haystack, key type, value type, keys, values, queries
    "ruler_niah_single_1": ("noise", "words", "numbers", 1, 1, 1),
    "ruler_niah_single_2": ("essay", "words", "numbers", 1, 1, 1),
    "ruler_niah_single_3": ("essay", "words", "uuids", 1, 1, 1),
    "ruler_niah_multikey_1": ("essay", "words", "numbers", 4, 1, 1),
    "ruler_niah_multikey_2": ("needle", "words", "numbers", 1, 1, 1),
    "ruler_niah_multikey_3": ("needle", "uuids", "uuids", 1, 1, 1),
    "ruler_niah_multivalue": ("essay", "words", "numbers", 1, 4, 1),
    "ruler_niah_multiquery": ("essay", "words", "numbers", 4, 1, 4),
}


def is_of(kind, text):
    if kind == "numbers":
        return re.fullmatch(r"[1-9]\d{6}", text) is not None
    if kind == "uuids":
        return str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4
    adjective, _, noun = text.partition("-")
    return adjective in ADJECTIVES and noun in NOUNS


@pytest.mark.parametrize("name", NIAH)
def test_keys_values_and_queries_are_as_many_and_of_the_kind_that_ruler_says(make_task, name):
    haystack, key_kind, value_kind, keys, values, queries = NIAH[name]
    task = make_task(name)
    for sample in task.samples(1024):
        text = task.tokenizer.decode(sample.ids, skip_special_tokens=True)
        needles, asked = read_needles(text), asked_keys(text)
        distractors = sample.labels["units"] if haystack == "needle" else 0
        assert len(needles) == keys + distractors
        assert all(len(found) == (values if key in asked else 1) for key, found in needles.items())
        assert all(is_of(key_kind, key) and all(is_of(value_kind, v) for v in found) for key, found in needles.items())
        assert len(asked) == queries
        assert sorted(sample.references) == sorted(value for key in asked for value in needles[key])


@pytest.mark.parametrize("name", NIAH)
def test_haystack_is_of_the_kind_that_ruler_says(make_task, name):
    task = make_task(name)
    sample = task.samples(1024)[0]
    text = task.tokenizer.decode(sample.ids, skip_special_tokens=True)
    units, haystack = sample.labels["units"], NIAH[name][0]
    inner = text.partition("afterwards.\n")[2].rpartition("\nWhat")[0]
    rest = re.sub(r"One of the special magic \w+ for \S+ is: [\w-]+\.", "", inner)
    if haystack == "noise":
        assert rest.split("\n").count(FILLER) == units == len(inner.split("\n")) - 1
    elif haystack == "needle":
        assert not rest.strip()
        assert len(inner.split("\n")) == units + 1
    else:
        essays = task.tokenizer.decode(np.concatenate([d.ids[1:] for d in task.essays.documents]))
        assert len(rest.split()) == units
        assert " ".join(rest.split()) in " ".join((essays + " " + essays).split())
        assert "\n" not in inner


@pytest.mark.parametrize("name", NIAH)
def test_question_and_answer_stem_are_singular_for_one_value_and_plural_for_more(make_task, name):
    _, _, kind, _, values, queries = NIAH[name]
    task = make_task(name, samples=1)
    text = task.tokenizer.decode(task.samples(1024)[0].ids, skip_special_tokens=True)
    keys = asked_keys(text)
    query = keys[0] if queries == 1 else f"{', '.join(keys[:-1])}, and {keys[-1]}"
    ask, noun, verb = ("What is the", kind[:-1], "is") if values * queries == 1 else ("What are all the", kind, "are")
    topic = f"special magic {noun} for {query} mentioned in the provided text"
    assert text.endswith(f"\n{ask} {topic}? The {topic} {verb}")


def test_depths_are_the_forty_of_ruler():
    assert len(DEPTHS) == len(set(DEPTHS)) == 40
    assert (DEPTHS[0], DEPTHS[1], DEPTHS[-2], DEPTHS[-1]) == (0, 3, 97, 100)


@pytest.mark.parametrize("name", ["ruler_niah_single_1", "ruler_niah_single_2", "ruler_niah_multikey_2"])
def test_the_needle_is_anywhere_and_its_depth_is_recorded(make_task, name):
    task = make_task(name, samples=24)
    depths = [sample.labels["depths"][0] for sample in task.samples(1024)]
    sample = task.samples(1024)[0]
    text = task.tokenizer.decode(sample.ids, skip_special_tokens=True)
    assert depths[0] == pytest.approx(text.index(sample.references[0]) / len(text), abs=1e-3)
    assert min(depths) < 0.3
    assert max(depths) > 0.6


def test_a_short_corpus_is_repeated_for_a_long_haystack(make_task):
    task = make_task("ruler_niah_single_2", samples=1)
    sample = task.samples(16384)[0]
    words = sum(len(task.tokenizer.decode(d.ids, skip_special_tokens=True).split()) for d in task.essays.documents)
    assert sample.labels["units"] > words


def test_no_english_word_is_part_of_another():
    assert not [(a, b) for a in ENGLISH for b in ENGLISH if a != b and a in b]
