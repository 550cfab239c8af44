"""What holds for all thirteen tasks: length, determinism, and what a model that reads or guesses scores."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longrope.evaluation.tasks.ruler.base import largest_fit
from longrope.evaluation.tasks.ruler.tasks import RULER, build_ruler

from .conftest import read_codes, read_list, read_needles, solve

LENGTHS = (512, 1024, 2048, 3072, 4096, 6144, 8192, 12288)
NEW_TOKENS = {"niah": 128, "vt": 30, "cwe": 120, "fwe": 50, "qa": 32}

RECORDED = {
    "ruler_niah_single_3": "d6cfbcea6c2e",
    "ruler_niah_multikey_2": "0b757e93aace",
    "ruler_vt": "86147e01271a",
    "ruler_cwe": "5648257bf79e",
    "ruler_fwe": "cf2e3b007289",
    "ruler_qa_1": "60ce5a9ec569",
    "ruler_qa_2": "6db27948c1b7",
}
"""First four digits of the prompt hashes of three samples at 2048 tokens."""


def text_of(task, sample):
    return task.tokenizer.decode(sample.ids, skip_special_tokens=True)


def shortest(task):
    return next(length for length in LENGTHS if task.fits(length))


def test_there_are_thirteen_tasks_in_four_categories():
    categories = [task.category for task in RULER.values()]
    assert len(RULER) == 13
    assert {name: categories.count(name) for name in categories} == {
        "retrieval": 8,
        "multi_hop": 1,
        "aggregation": 2,
        "qa": 2,
    }


@pytest.mark.parametrize("name", RULER)
def test_new_tokens_and_metric_are_rulers(make_task, name):
    task = make_task(name)
    assert task.name == name
    assert task.max_new_tokens == NEW_TOKENS[name.split("_")[1]]
    assert task.metric == ("string_match_part" if "_qa_" in name else "string_match_all")
    assert task.protocol()["scoring"] == task.metric


@pytest.mark.parametrize("name", RULER)
def test_prompt_and_answer_fill_the_length_to_the_unit(make_task, name, either_tokenizer):
    task = make_task(name, either_tokenizer, samples=2)
    lengths = [length for length in LENGTHS if task.fits(length)][:4]
    assert len(lengths) == 4
    for length in lengths:
        for place, sample in enumerate(task.samples(length)):
            text = text_of(task, sample)
            assert sample.ids.tolist() == either_tokenizer.encode(text)
            assert len(sample.ids) + task.max_new_tokens <= length
            longer = task._prompt(length, place, sample.labels["units"] + 1)
            assert len(either_tokenizer.encode(longer.text + longer.stem)) + task.max_new_tokens > length


@pytest.mark.parametrize("name", RULER)
def test_a_length_without_room_is_refused_and_the_next_one_with_room_named(make_task, name):
    task = make_task(name)
    enough = task.smallest_length(128)
    assert not task.fits(128)
    assert task.fits(enough)
    assert len(task.samples(enough)) == 3
    with pytest.raises(ValueError, match=f"{name}, got 128 tokens; the next length with room is about {enough}"):
        task.samples(128)


@pytest.mark.parametrize("name", RULER)
def test_a_model_that_reads_the_prompt_scores_one(make_task, name, either_tokenizer):
    task = make_task(name, either_tokenizer, samples=4)

    def generate(ids, n):
        rows = []
        for row in ids:
            answer = solve(name, task.tokenizer.decode(row, skip_special_tokens=True))
            tokens = task.tokenizer.encode(" ".join(answer), add_special_tokens=False)
            assert len(tokens) <= n
            rows.append(tokens)
        width = max(map(len, rows))
        space = task.tokenizer.encode(" ", add_special_tokens=False)[-1:]
        return torch.tensor([row + space * (width - len(row)) for row in rows])

    length = shortest(task)
    assert [record.scores[task.metric] for record in task.ask(generate, length)] == [1.0] * 4


@pytest.mark.parametrize("name", RULER)
def test_a_model_of_random_tokens_scores_next_to_nothing(make_task, name):
    task = make_task(name, samples=4)
    draws = torch.Generator().manual_seed(0)
    records = task.ask(
        lambda ids, n: torch.randint(2, len(task.tokenizer), (len(ids), n), generator=draws), shortest(task)
    )
    assert [record.error for record in records] == [None] * 4
    assert np.mean([record.scores[task.metric] for record in records]) < 0.05


@pytest.mark.parametrize(
    ("name", "candidates", "guesses", "right"),
    [
        ("ruler_niah_multikey_1", read_needles, 1, 1),
        ("ruler_niah_multikey_2", read_needles, 1, 1),
        ("ruler_niah_multikey_3", read_needles, 1, 1),
        ("ruler_niah_multiquery", read_needles, 1, 4),
        ("ruler_cwe", read_list, 10, 10),
        ("ruler_fwe", read_codes, 3, 3),
    ],
)
def test_a_model_that_guesses_among_the_candidates_scores_chance(make_task, name, candidates, guesses, right):
    task, rng, trials = make_task(name), random.Random(0), 400
    for sample in task.samples(2048):
        found = candidates(text_of(task, sample))
        pool = [value[0] for value in found.values()] if "niah" in name else sorted(set(found) - {"..."})
        scores = [task.score(" ".join(rng.sample(pool, guesses)), sample)[task.metric] for _ in range(trials)]
        chance = guesses / len(pool)  # each of the `right` references is among the guesses with this probability
        assert len(sample.references) == right
        assert np.mean(scores) == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / trials) + 1e-9)


@pytest.mark.parametrize("name", RULER)
def test_samples_repeat_with_the_seed_and_differ_otherwise(make_task, name):
    length = shortest(make_task(name))

    def hashes(**changes):
        return [sample.prompt_hash for sample in make_task(name, **changes).samples(length)]

    first = hashes(seed=1)
    assert len(set(first)) == 3
    assert hashes(seed=1) == first
    assert not set(hashes(seed=2)) & set(first)


def test_samples_are_the_same_in_every_process(make_task):
    """Recorded once: nothing of a prompt may depend on the process, on `hash`, or on the order of a set."""
    for name, recorded in RECORDED.items():
        assert "".join(sample.prompt_hash[:4] for sample in make_task(name).samples(2048)) == recorded


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 1500))
def test_largest_fit_equals_trying_each_number(steps, least, room):
    def tokens(units):
        return sum(steps[:units]) + 60 * max(0, units - len(steps))

    fitting = [units for units in range(least, 200) if tokens(units) <= room]
    assert largest_fit(tokens, least, room) == max(fitting, default=least - 1)


def test_tasks_without_their_data_are_refused(tokenizer):
    for name in ("ruler_niah_single_2", "ruler_niah_multiquery"):
        with pytest.raises(ValueError, match="essays must be documents"):
            build_ruler(name, tokenizer)
    with pytest.raises(ValueError, match=r"SQuAD 2\.0 JSON file or `hub` for ruler_qa_1, got None"):
        build_ruler("ruler_qa_1", tokenizer)
    with pytest.raises(ValueError, match="did you mean ruler_vt"):
        build_ruler("ruler_v", tokenizer)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        build_ruler("ruler_vt", tokenizer, samples=0)
