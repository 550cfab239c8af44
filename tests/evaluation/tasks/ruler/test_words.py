"""The aggregation tasks against RULER's definitions (common_words_extraction.py, freq_words_extraction.py)."""

import random
import re
from collections import Counter

import numpy as np
import pytest
from scipy.special import zeta

from longrope.evaluation.tasks.ruler.vocabulary import ENGLISH
from longrope.evaluation.tasks.ruler.words import FEWEST_DRAWS, word_list

from .conftest import read_codes, read_list


def text_of(task, sample):
    return task.tokenizer.decode(sample.ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("length", "common", "other", "example_words", "example_common", "example_other"),
    [(2048, 6, 1, 20, 3, 1), (3072, 6, 1, 20, 3, 1), (8192, 30, 3, 40, 10, 3)],
)
def test_ten_words_are_common_in_list_and_example(
    make_task, length, common, other, example_words, example_common, example_other
):
    task = make_task("ruler_cwe", samples=2)
    for sample in task.samples(length):
        text = text_of(task, sample)
        found = read_list(text)
        assert {word for word, count in found.items() if count == common} == set(sample.references)
        assert Counter(found.values()) == {common: 10, other: sample.labels["units"] - 10}
        listed, solution = text.split("\nThe numbered list")[0].split("list are: ")
        example = Counter(re.findall(r"\d+\. (\S+)", listed.partition("\nQuestion")[0]))
        assert Counter(example.values()) == {example_common: 10, example_other: example_words - 10}
        answer = re.findall(r"\d+\. (\S+)", solution)
        assert {word for word, count in example.items() if count == example_common} == set(answer)
        assert text.endswith("Answer: The top 10 words that appear most often in the list are:")


def test_lists_are_numbered_through(make_task):
    task = make_task("ruler_cwe", samples=1)
    text = text_of(task, task.samples(2048)[0]).rpartition("Memorize those")[2]
    numbers = [int(number) for number in re.findall(r"(\d+)\. \S", text.partition("\nQuestion")[0])]
    assert numbers == list(range(1, len(numbers) + 1))


def test_long_lists_have_made_up_words_among_common_and_other_ones():
    text, common = word_list(random.Random(0), 2 * len(ENGLISH), 6, 1)
    found = Counter(re.findall(r"\d+\. (\S+)", text.partition("\nQuestion")[0]))
    assert len(found) == 2 * len(ENGLISH)
    assert set(ENGLISH) < set(found)
    assert 0 < len(set(common) - set(ENGLISH)) < 10


@pytest.mark.parametrize("length", [512, 1024, 2048, 4096])
def test_coded_words_follow_the_zeta_distribution_with_dots_on_top(make_task, length):
    task = make_task("ruler_fwe")
    for sample in task.samples(length):
        found = read_codes(text_of(task, sample))
        size = (length - 50) // 50
        expected = [int(sample.labels["units"] * rank**-2.0 / zeta(2.0)) for rank in range(1, size + 1)]
        assert sorted(found.values(), reverse=True) == [count for count in expected if count]
        assert found["..."] == expected[0]
        assert [found[word] for word in sample.references] == expected[1:4]
        assert all(re.fullmatch("[a-z]{6}", word) for word in found if word != "...")


def test_the_third_word_asked_for_is_always_more_frequent_than_the_next():
    def count(draws, rank):
        return int(draws * rank**-2.0 / zeta(2.0))

    assert all(count(draws, 4) > count(draws, 5) for draws in range(FEWEST_DRAWS, 5000))
    assert np.any([count(draws, 4) == count(draws, 5) for draws in range(1, FEWEST_DRAWS)])
