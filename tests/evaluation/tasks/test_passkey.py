import random
import re
from hashlib import sha256

import numpy as np
import pytest
import torch

from longrope.evaluation.data.prompts import STYLES
from longrope.evaluation.data.tokenized import TokenDocument, TokenizedDocuments, TokensInfo
from longrope.evaluation.tasks.passkey import ANSWER_TOKENS, ORDINALS, Passkey, PasskeyHard, is_correct

LENGTHS = [500, 777, 1024, 2048]
KEY = re.compile(r"The pass key is (\d{5})\. Remember it")
PUBLISHED = {  # of the prompts behind the numbers of version 0.1: length 1024, 5 depths, 2 trials, seed 3
    ("landmark", "filler"): "589ccfd0c3002716",
    ("landmark", "documents"): "a8faac80b3ef6ecd",
    ("comment", "filler"): "9e1946ea6fe108ad",
    ("comment", "documents"): "2a576e06bfc0539e",
}


@pytest.fixture
def code(texts, tokenizer):
    long_texts = [text.text * 4 for text in texts]
    documents = [TokenDocument(f"doc{i}", np.array(tokenizer.encode(text))) for i, text in enumerate(long_texts)]
    info = TokensInfo({}, "", 257, "", 3, sum(len(d.ids) for d in documents), "")
    return TokenizedDocuments(documents, info)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("haystack", ["filler", "documents"])
def test_prompts_have_the_exact_length_and_keep_key_and_question(tokenizer, code, length, style, haystack):
    data = None if haystack == "filler" else code
    for sample in Passkey(tokenizer, data=data, style=style, depths=5, trials=2).samples(length):
        text = tokenizer.decode(sample.ids, skip_special_tokens=True)
        assert len(sample.ids) + ANSWER_TOKENS == length
        assert sample.ids[0] == tokenizer.bos_token_id
        assert tokenizer.bos_token_id not in sample.ids[1:]
        assert KEY.findall(text) == list(sample.references)
        assert text.endswith("What is the pass key? The pass key is")


@pytest.mark.parametrize("haystack", ["filler", "documents"])
def test_depth_places_the_key(tokenizer, code, haystack):
    data = None if haystack == "filler" else code
    samples = Passkey(tokenizer, data=data, style="comment", depths=11).samples(2048)
    places = [tokenizer.decode(s.ids).index("The pass key is") / 2048 for s in samples]
    for sample, place in zip(samples, places, strict=True):
        assert place == pytest.approx(
            sample.labels["depth"], abs=0.11
        )  # a comment's length, and a line of the haystack
    assert places == sorted(places)


def test_needles_split_no_sentence_of_the_filler_and_no_line_of_a_document(tokenizer, code):
    for sample in Passkey(tokenizer, depths=7).samples(1000):
        before = tokenizer.decode(sample.ids).split(" The pass key")[0]
        assert before.endswith(("There and back again.", "information there."))
    whole_lines = {"import os", "", "def f(x):", "    return x + 1", "    return x + 1import os"}
    for sample in Passkey(tokenizer, data=code, style="comment", depths=7).samples(1000)[
        :-1
    ]:  # the last is at the very end
        lines = tokenizer.decode(sample.ids, skip_special_tokens=True).split("\n")
        assert {line for line in lines[1:-2] if not line.startswith("#")} <= whole_lines


def test_each_sample_has_a_prompt_of_its_own(tokenizer):
    samples = [s for length in (500, 501) for s in Passkey(tokenizer, depths=5, trials=3).samples(length)]
    assert len({sample.prompt_hash for sample in samples}) == 30
    assert len({sample.references for sample in samples}) > 25
    other = Passkey(tokenizer, depths=5, trials=3, seed=1).samples(500)
    assert not {s.prompt_hash for s in other} & {s.prompt_hash for s in samples}


@pytest.mark.parametrize(("style", "haystack"), PUBLISHED)
def test_prompts_are_those_of_the_published_numbers_in_any_process(tokenizer, code, style, haystack):
    data = None if haystack == "filler" else code
    samples = Passkey(tokenizer, data=data, style=style, depths=5, trials=2, seed=3).samples(1024)
    digest = sha256("".join(sample.prompt_hash for sample in samples).encode()).hexdigest()
    assert digest[:16] == PUBLISHED[style, haystack]


@pytest.mark.parametrize("task", [Passkey, PasskeyHard])
def test_a_length_without_room_says_how_much_is_enough(llama, tokenizer, task):
    with pytest.raises(ValueError, match=r"at least \d+ tokens for this needle and question, got 100") as caught:
        task(tokenizer, depths=1).check(llama, [100, 900])
    (enough,) = map(int, re.findall(r"at least (\d+)", str(caught.value)))
    names = 30 if task is PasskeyHard else 0  # they may be longer in another sample
    assert len(task(tokenizer, depths=1).samples(enough + names)[0].ids) == enough + names - ANSWER_TOKENS


def test_documents_too_short_for_the_haystack_are_refused(make_llama, tokenizer, code):
    with pytest.raises(ValueError, match="documents must have at least"):
        Passkey(tokenizer, data=code, style="comment").check(make_llama(vocab_size=257), [500, 100_000])


def test_documents_of_another_vocabulary_are_refused(llama, tokenizer, code):
    with pytest.raises(ValueError, match="vocabulary size 64"):
        Passkey(tokenizer, data=code).check(llama, [500])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"style": "poem"}, "landmark, comment, got 'poem'"),
        ({"depths": 0}, "at least 1"),
        ({"trials": 0}, "at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(llama, tokenizer, settings, message):
    with pytest.raises(ValueError, match=message):
        Passkey(tokenizer, **settings).check(llama, [600])


def answering(tokenizer, answer):
    """A model that reads the prompt and answers by `answer(prompt)`."""

    def generate(ids, num_tokens):
        texts = [answer(tokenizer.decode(row)) for row in ids]
        tokens = [tokenizer.encode(text, add_special_tokens=False)[:num_tokens] for text in texts]
        return torch.tensor([row + [tokenizer.bos_token_id] * (num_tokens - len(row)) for row in tokens])

    return generate


def accuracy(task, model, length):
    return np.mean([record.scores["accuracy"] for record in task.ask(model, length)])


@pytest.mark.parametrize("style", STYLES)
def test_an_oracle_scores_everything(tokenizer, style):
    oracle = answering(tokenizer, lambda prompt: f" {KEY.findall(prompt)[0]}.")
    assert accuracy(Passkey(tokenizer, batch_size=3, style=style, depths=5, trials=4), oracle, 600) == 1


def test_random_digits_score_chance(tokenizer):
    rng = random.Random(0)
    guesser = answering(tokenizer, lambda prompt: f" {rng.randrange(10_000, 100_000)}.")
    assert accuracy(Passkey(tokenizer, batch_size=50, depths=10, trials=20), guesser, 400) <= 1 / 200  # 1 in 90,000


@pytest.mark.parametrize(
    ("predicted", "correct"),
    [
        (" 12345.", True),
        ("12345", True),
        (": 12345 is", True),
        (" 123456", False),
        (" 1234", False),
        (" 54321 12345", False),
        (" 1 2 3 4 5", False),
        ("", False),
        (" the key", False),
    ],
)
def test_only_the_exact_digits_count(predicted, correct):
    assert is_correct(predicted, "12345") is correct


NAMED = re.compile(r"The pass key of ([a-z-]+) is (\d{5})\. Remember it")
ORDINAL = re.compile(r"The ([a-z]+) pass key is (\d{5})\. Remember it")
ASKED = {"name": re.compile(r"The pass key of ([a-z-]+) is$"), "ordinal": re.compile(r"The ([a-z]+) pass key is$")}


@pytest.mark.parametrize("told_by", ["name", "ordinal"])
@pytest.mark.parametrize("style", STYLES)
def test_a_hard_prompt_holds_every_key_once_and_asks_for_the_one_at_its_depth(tokenizer, told_by, style):
    task = PasskeyHard(tokenizer, style=style, depths=5, trials=3, keys=4, told_by=told_by)
    for sample in task.samples(1500):
        text = tokenizer.decode(sample.ids, skip_special_tokens=True)
        found = (NAMED if told_by == "name" else ORDINAL).findall(text)
        assert len(sample.ids) + ANSWER_TOKENS == 1500
        assert [key for _, key in found] == sample.labels["keys"]
        assert len(dict(found)) == 4
        (asked,) = ASKED[told_by].findall(text)
        assert asked == sample.labels["asked"]
        assert dict(found)[asked] == sample.references[0]
        if told_by == "ordinal":
            assert [name for name, _ in found] == list(ORDINALS[:4])
        place = text.index(f" {sample.references[0]}") / 1500
        assert place == pytest.approx(sample.labels["depth"], abs=0.3)  # the other keys take 0.27 of the prompt


@pytest.mark.parametrize("told_by", ["name", "ordinal"])
def test_naming_some_key_of_the_text_scores_one_in_keys(tokenizer, told_by):
    task = PasskeyHard(tokenizer, batch_size=50, depths=10, trials=20, keys=4, told_by=told_by)
    rng = random.Random(0)
    pattern = NAMED if told_by == "name" else ORDINAL
    oracle = answering(tokenizer, lambda p: " " + dict(pattern.findall(p))[ASKED[told_by].findall(p)[0]])
    reader = answering(tokenizer, lambda p: " " + rng.choice(pattern.findall(p))[1])
    assert accuracy(task, oracle, 1000) == 1
    assert accuracy(task, reader, 1000) == pytest.approx(1 / 4, abs=0.1)  # 200 draws: 3 standard deviations are 0.09


@pytest.mark.parametrize("keys", [1, 11])
def test_numbers_of_keys_that_cannot_be_told_apart_are_refused(llama, tokenizer, keys):
    with pytest.raises(ValueError, match=f"keys must be from 2 to 10, got {keys}"):
        PasskeyHard(tokenizer, keys=keys).check(llama, [2000])
