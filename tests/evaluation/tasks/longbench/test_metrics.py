"""The metrics on cases worked out by hand from the official definitions."""

import sys

import pytest

from longrope.evaluation.tasks.longbench import metrics
from longrope.evaluation.tasks.longbench.metrics import (
    classification,
    count,
    edit_similarity,
    first_line,
    qa_f1,
    qa_f1_zh,
    retrieval,
    retrieval_zh,
    rouge_l,
    rouge_l_zh,
    token_f1,
)

EXTRA = "needs packages: pip install jieba rouge"


@pytest.mark.parametrize(
    ("predicted", "reference", "expected"),
    [
        ("The cat sat.", "cat sat", 1.0),
        ("a dog", "the dog", 1.0),
        ("U.S.", "us", 1.0),
        ("It was Paris, France", "Paris", 2 * (1 / 4) / (5 / 4)),
        ("red red blue", "red blue blue", 2 / 3),
        ("theatre", "the atre", 0.0),
        ("the", "a", 0.0),
        ("", "dog", 0.0),
        ("dog", "", 0.0),
        ("一 二", "一", 2 / 3),
    ],
)
def test_token_f1_ignores_case_punctuation_and_articles(predicted, reference, expected):
    assert qa_f1(predicted, reference) == pytest.approx(expected)


def test_token_f1_of_bags_of_words():
    assert token_f1(["a", "a", "b"], ["a", "c"]) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))


@pytest.mark.parametrize(
    ("predicted", "reference", "expected"),
    [
        ("我在北京大学学习", "北京大学", 2 * (1 / 4) / (5 / 4)),  # four words
        ("北京大学。", "北京大学", 1.0),
        ("答案：“北京大学”！", "北京大学", 2 * (1 / 2) / (3 / 2)),
        ("《红楼梦》", "红楼梦", 2 / 3),  # the official list of punctuation lacks the opening mark
        ("GPU", "gpu", 1.0),
        ("上海", "北京大学", 0.0),
        ("", "北京大学", 0.0),
        ("。", "。", 0.0),
    ],
)
def test_chinese_f1_counts_segmented_words(predicted, reference, expected):
    pytest.importorskip("jieba", reason=EXTRA)
    assert qa_f1_zh(predicted, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predicted", "reference", "overlap", "words", "reference_words"),
    [
        ("the cat sat on a mat", "the cat sat on a mat", 6, 6, 6),
        ("the cat sat", "the cat ate fish", 2, 3, 4),
        ("cat the", "the cat", 1, 2, 2),  # order matters
        ("cat cat cat", "cat dog", 1, 1, 2),  # words count once
        ("w1 w2 w6 w7 w8. w1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 4, 8, 5),  # Lin 2004, union over sentences
    ],
)
def test_rouge_l_is_the_f_of_the_longest_common_subsequence(predicted, reference, overlap, words, reference_words):
    pytest.importorskip("rouge", reason=EXTRA)
    precision, recall = overlap / words, overlap / reference_words
    assert rouge_l(predicted, reference) == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-7)


@pytest.mark.parametrize(("predicted", "reference"), [("", "a"), ("a", ""), ("...", "a"), ("b", "a"), ("", "")])
def test_rouge_l_without_common_words_or_without_words_is_zero(predicted, reference):
    pytest.importorskip("rouge", reason=EXTRA)
    assert rouge_l(predicted, reference) == 0.0


def test_rouge_l_of_long_sentences_is_scored_and_the_recursion_limit_comes_back():
    pytest.importorskip("rouge", reason=EXTRA)
    limit = sys.getrecursionlimit()
    texts = [" ".join(["start", *(f"{letter}{i}" for i in range(limit // 2 + 100))]) for letter in "xy"]
    assert rouge_l(*texts) == pytest.approx(1 / (limit // 2 + 101), rel=1e-4)
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize(
    ("predicted", "reference", "overlap", "words", "reference_words"),
    [
        ("我在北京大学学习", "北京大学", 1, 4, 1),
        ("北京大学", "北京大学", 1, 1, 1),
        ("今天天气很好", "今天天气不好", 1, 3, 2),
    ],
)
def test_chinese_rouge_l_is_over_segmented_words(predicted, reference, overlap, words, reference_words):
    jieba = pytest.importorskip("jieba", reason=EXTRA)
    pytest.importorskip("rouge", reason=EXTRA)
    assert (len(jieba.lcut(predicted)), len(jieba.lcut(reference))) == (words, reference_words)
    precision, recall = overlap / words, overlap / reference_words
    assert rouge_l_zh(predicted, reference) == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-7)
    assert rouge_l_zh("", reference) == 0.0


@pytest.mark.parametrize(
    ("predicted", "reference", "classes", "expected"),
    [
        ("Person", "Person", ["Person", "Place"], 1.0),
        ("It is a Person.", "Person", ["Person", "Place"], 1.0),
        ("Person or Place", "Person", ["Person", "Place"], 1 / 2),
        ("person", "Person", ["Person", "Place"], 0.0),
        ("Place", "Person", ["Person", "Place"], 0.0),
        ("", "Person", ["Person", "Place"], 0.0),
        ("Group of Person", "Group of Person", ["Person", "Group of Person"], 1.0),  # a name inside the right one
        ("Group of Person", "Person", ["Person", "Group of Person"], 1 / 2),  # the right one inside a name
        ("abc", "abc", ["a", "x", "bc", "abc"], 1 / 2),  # the official walk skips the name after a removed one
        ("体育", "体育", ["体育", "财经"], 1.0),
    ],
)
def test_classification_shares_the_point_among_the_names_found(predicted, reference, classes, expected):
    assert classification(predicted, reference, classes) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [("7", 1.0), ("There are 7.", 1.0), ("7 7 8", 2 / 3), ("17", 0.0), ("07", 0.0), ("seven", 0.0), ("", 0.0)],
)
def test_count_is_the_share_of_printed_numbers_that_are_right(predicted, expected):
    assert count(predicted, "7") == pytest.approx(expected)
    assert retrieval(predicted, "Paragraph 7") == pytest.approx(expected)
    assert retrieval_zh(predicted, "段落7") == pytest.approx(expected)


def test_a_reference_without_its_paragraph_is_refused():
    with pytest.raises(ValueError, match="answers must hold a paragraph like .* got '12'; restore"):
        retrieval("Paragraph 12", "12")


@pytest.mark.parametrize(
    ("predicted", "reference", "expected"),
    [
        ("    return x", "    return x", 1.0),
        ("\n\nreturn x\nreturn y", "return x", 1.0),
        ("# first\n```python\nreturn x\n```", "return x", 1.0),
        ("// first\nreturn x;", "return x;", 1.0),
        ("abcd", "bcde", 0.75),
        ("abc", "abd", 0.67),
        ("x = 1  # one", "x = 1", 0.0),  # a line with a comment is no code
        ("return x\n", "", 0.0),
        ("", "return x", 0.0),
        ("", "", 1.0),
        ("x = foo(bar, baz)", "x = baz(foo, bar)", 0.71),
        (" + y( + ", "xya, bx", 0.13),  # python-Levenshtein would say 0.27
    ],
)
def test_edit_similarity_is_of_the_first_line_of_code(predicted, reference, expected):
    assert edit_similarity(predicted, reference) == expected


def test_the_first_line_is_the_one_after_leading_line_breaks():
    assert [first_line(text) for text in ("\n\nFood\nType: Date", "Food", " \nFood", "")] == ["Food", "Food", " ", ""]


def test_the_best_reference_counts():
    assert metrics.F1.best("blue whale", ["shark", "whale", "blue whale"]) == 1.0
    assert metrics.F1.best("blue whale", ["shark"]) == 0.0


@pytest.mark.parametrize("metric", [metrics.F1_ZH, metrics.ROUGE_L, metrics.ROUGE_L_ZH], ids=lambda m: m.rule)
def test_a_missing_package_is_named(monkeypatch, metric):
    for package in metric.packages:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match="got none installed; pip install (jieba|rouge)"):
        metric.check_packages()
    with pytest.raises(ValueError, match="pip install (jieba|rouge)"):
        metric.best("a", ["a"])
