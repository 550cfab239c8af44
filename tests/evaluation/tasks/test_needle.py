import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from longrope.evaluation.data.haystack import Haystack, Hidden
from longrope.evaluation.data.prompts import STYLES, Needle
from longrope.evaluation.data.tokenized import TokenDocument, TokenizedDocuments, TokensInfo
from longrope.evaluation.tasks.needle import MultiNeedle, SingleNeedle, contains, needle_depths, recall

NEEDLE = re.compile(r"One of the special magic numbers for ([a-z-]+) is: (\d{7})\.")
SENTENCES = ["It rained all day.", 'He said "never!"', "Was it 3.14 or more?", "The sea was calm and wide."]
EMBEDDED = Path(__file__).parents[3] / "examples" / "tiny" / "model"


def tokenized(texts, tokenizer):
    documents = [TokenDocument(f"doc{i}", np.array(tokenizer.encode(text))) for i, text in enumerate(texts)]
    return TokenizedDocuments(documents, TokensInfo({}, "", len(tokenizer), "", len(texts), 0, ""))


@pytest.fixture(scope="module", params=["bytes", "embedded"])
def any_tokenizer(request, tokenizer):
    return tokenizer if request.param == "bytes" else AutoTokenizer.from_pretrained(EMBEDDED)


def prose(tokenizer, count=3):
    rng = random.Random(0)
    return tokenized([" ".join(rng.choices(SENTENCES, k=300)) for _ in range(count)], tokenizer)


def answering(tokenizer, answer):
    """A model that reads the prompt and answers by `answer(prompt)`."""

    def generate(ids, num_tokens):
        texts = [answer(tokenizer.decode(row)) for row in ids]
        tokens = [tokenizer.encode(text, add_special_tokens=False)[:num_tokens] for text in texts]
        return torch.tensor([row + [tokenizer.bos_token_id] * (num_tokens - len(row)) for row in tokens])

    return generate


def mean(task, model, length, metric):
    return np.mean([record.scores[metric] for record in task.ask(model, length)])


def oracle(tokenizer):
    return answering(tokenizer, lambda prompt: " " + ", ".join(value for _, value in NEEDLE.findall(prompt)) + ".")


def guesser(tokenizer):
    rng = random.Random(0)
    return answering(tokenizer, lambda prompt: f" {rng.randrange(10**6, 10**7)}, {rng.randrange(10**6, 10**7)}.")


@pytest.mark.parametrize("length", [700, 1001, 2048])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("haystack", ["filler", "documents"])
def test_a_prompt_has_its_exact_length_one_needle_and_the_whole_question(any_tokenizer, length, style, haystack):
    data = None if haystack == "filler" else prose(any_tokenizer)
    task = SingleNeedle(any_tokenizer, data=data, style=style, depths=4, trials=2)
    for sample in task.samples(length):
        text = any_tokenizer.decode(sample.ids, skip_special_tokens=True)
        assert len(sample.ids) + task.max_new_tokens == length
        ((key, value),) = NEEDLE.findall(text)
        assert (value,) == sample.references
        assert text.endswith(f"The special magic number for {key} mentioned in the provided text is")


def test_needles_in_prose_stand_between_sentences(any_tokenizer):
    data = prose(any_tokenizer)
    for sample in SingleNeedle(any_tokenizer, data=data, depths=9, trials=2).samples(1500):
        text = any_tokenizer.decode(sample.ids, skip_special_tokens=True)
        before, after = re.split(r" One of the special magic numbers for .*?\d{7}\.", text)
        if sample.labels["depth"] < 1:
            assert before.endswith((".", '!"', "?"))
            assert after.startswith(tuple(" " + sentence for sentence in SENTENCES))


def test_needles_in_code_stand_between_lines(tokenizer, texts):
    data = tokenized([text.text * 4 for text in texts], tokenizer)
    lines = set(texts[0].text.split("\n")) | {"    return x + 1import os"}
    for sample in SingleNeedle(tokenizer, data=data, style="comment", depths=9).samples(1200)[:-1]:
        found = tokenizer.decode(sample.ids, skip_special_tokens=True).split("\n")
        assert {line for line in found[1:-2] if not line.startswith("# ")} <= lines


def test_the_depth_grid_moves_the_needle_from_start_to_end(tokenizer):
    samples = SingleNeedle(tokenizer, data=prose(tokenizer), depths=6).samples(4000)
    places = [tokenizer.decode(s.ids).index("One of the special") / 4000 for s in samples]
    for sample, place in zip(samples, places, strict=True):
        assert place == pytest.approx(sample.labels["depth"], abs=0.09)
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("depth", "count", "depths"),
    [(0, 4, [0, 0.25, 0.5, 0.75]), (0.5, 2, [0.5, 0.75]), (0.4, 3, [0.4, 0.6, 0.8]), (1, 2, [1, 1])],
)
def test_needles_are_spread_from_the_first_ones_depth_to_the_end(depth, count, depths):
    assert needle_depths(depth, count) == pytest.approx(depths)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("needles", [2, 5])
def test_several_needles_of_one_key_stand_where_their_depths_say(any_tokenizer, style, needles):
    task = MultiNeedle(any_tokenizer, data=prose(any_tokenizer), style=style, depths=3, trials=2, needles=needles)
    for sample in task.samples(2048):
        text = any_tokenizer.decode(sample.ids, skip_special_tokens=True)
        found = NEEDLE.findall(text)
        assert len(sample.ids) + task.max_new_tokens == 2048
        assert tuple(value for _, value in found) == sample.references
        (key,) = {key for key, _ in found}
        assert text.endswith(f"The special magic numbers for {key} mentioned in the provided text are")
        assert sample.labels["needle_depths"] == needle_depths(sample.labels["depth"], needles)


def test_documents_are_joined_where_none_is_long_enough(tokenizer):
    data = prose(tokenizer)
    longest = max(len(document.ids) for document in data.documents)
    (sample,) = SingleNeedle(tokenizer, data=data, depths=1).samples(longest + 2000)
    assert len(sample.ids) + 16 == longest + 2000
    assert len(NEEDLE.findall(tokenizer.decode(sample.ids))) == 1
    with pytest.raises(ValueError, match="documents must have at least .* together"):
        SingleNeedle(tokenizer, data=data).samples(4 * longest)


@pytest.mark.parametrize("style", STYLES)
def test_an_oracle_scores_everything(any_tokenizer, style):
    single = SingleNeedle(any_tokenizer, batch_size=4, style=style, depths=3, trials=2)
    multi = MultiNeedle(any_tokenizer, batch_size=4, style=style, depths=3, trials=2)
    for task, metrics in ((single, ("accuracy", "exact_match")), (multi, ("recall", "accuracy"))):
        for metric in metrics:
            assert mean(task, oracle(any_tokenizer), 1000, metric) == 1


def test_random_numbers_score_chance(tokenizer):
    for task in (SingleNeedle, MultiNeedle):
        records = task(tokenizer, batch_size=20, depths=5, trials=10).ask(guesser(tokenizer), 800)
        assert all(value == 0 for record in records for value in record.scores.values())  # chance: 1 in 4,500,000


def test_a_model_that_finds_one_needle_of_three_has_a_recall_of_a_third(tokenizer):
    first = answering(tokenizer, lambda prompt: " " + NEEDLE.findall(prompt)[0][1])
    task = MultiNeedle(tokenizer, depths=3, needles=3)
    assert mean(task, first, 1000, "recall") == pytest.approx(1 / 3)
    assert mean(task, first, 1000, "accuracy") == 0


def test_a_needle_of_ones_own_is_the_same_in_every_prompt(tokenizer):
    own = Needle("The best dish in Lyon is quenelles by the river.", "What is the best dish in Lyon?", "quenelles")
    task = SingleNeedle(tokenizer, data=prose(tokenizer), depths=3, needle=own)
    for sample in task.samples(900):
        text = tokenizer.decode(sample.ids)
        assert text.count(own.statement) == 1
        assert text.endswith(own.question)
    chatty = answering(tokenizer, lambda prompt: " It is Quenelles!")
    assert mean(task, chatty, 900, "accuracy") == 1
    assert mean(task, chatty, 900, "exact_match") == 0
    assert task.protocol()["needle"]["answer"] == "quenelles"


@pytest.mark.parametrize(
    ("predicted", "value", "found"),
    [
        (" 1234567.", "1234567", True),
        ("(1234567)", "1234567", True),
        ("12345678", "1234567", False),
        ("a1234567", "1234567", False),
        ("123 4567", "1234567", False),
        ("", "1234567", False),
        ("The Sandwich, please", "sandwich", True),
        ("sandwiches", "sandwich", False),
        ("c++ it is", "c++", True),
    ],
)
def test_values_are_found_as_whole_words(predicted, value, found):
    assert contains(predicted, value) is found
    assert recall(predicted, [value, "missing"]) == found / 2


@pytest.mark.parametrize(
    ("predicted", "exact"),
    [(" 1234567.\n# next", 1), ("1234567", 1), (" 1234567 is it", 0), ("it is 1234567", 0), ("", 0), ("\n1234567", 1)],
)
def test_an_exact_match_is_the_first_line_and_nothing_else(tokenizer, predicted, exact):
    task = SingleNeedle(tokenizer, depths=1)
    (sample,) = task.samples(800)
    answer = predicted.replace("1234567", sample.references[0])
    assert task.score(answer, sample)["exact_match"] == exact


def test_rouge_is_scored_against_the_answer_where_asked_for(llama, tokenizer):
    pytest.importorskip("rouge")
    own = Needle("The cure is three drops of dew.", "What is the cure?", "three drops of dew")
    task = SingleNeedle(tokenizer, depths=1, needle=own, rouge=True)
    task.check(llama, [600])
    (sample,) = task.samples(600)
    assert task.score("three drops of dew", sample)["rouge_l"] == pytest.approx(1)
    half = task.score("three drops of mead and honey", sample)  # 3 words in order of 4 and 6: F = 2 * 3 / 10
    assert (half["accuracy"], half["rouge_l"]) == (0, pytest.approx(0.6, abs=1e-4))
    assert task.score("nothing", sample)["rouge_l"] == 0


def test_one_needle_is_no_multi_needle(llama, tokenizer):
    with pytest.raises(ValueError, match="needles must be at least 2, got 1; one needle is the task niah"):
        MultiNeedle(tokenizer, needles=1).check(llama, [800])


def test_each_sample_has_a_needle_and_a_prompt_of_its_own(tokenizer):
    samples = [s for length in (800, 801) for s in SingleNeedle(tokenizer, depths=4, trials=3).samples(length)]
    assert len({sample.prompt_hash for sample in samples}) == 24
    assert len({sample.references for sample in samples}) == 24


def test_needles_at_one_depth_keep_their_order(tokenizer):
    hidden = [Hidden(0.5, "One."), Hidden(0.5, "Two."), Hidden(0.1, "Zero.")]
    ids = Haystack(tokenizer).prompt(hidden, "Which?", 600, 8, random.Random(0))
    places = [tokenizer.decode(ids).index(text) for text in ("Zero.", "One.", "Two.")]
    assert places == sorted(places)
