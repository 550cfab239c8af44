import random
import re

import numpy as np
import pytest
import torch

from longrope.evaluation.data.prompts import STYLES
from longrope.evaluation.data.tokenized import TokenDocument, TokenizedDocuments, TokensInfo
from longrope.evaluation.tasks.nolima import (
    FACTS,
    NAMES,
    NoLiMa,
    all_pairs,
    base_score,
    content_words,
    effective_length,
)

NAME = re.compile(r"\b(" + "|".join(NAMES) + r")\b")


def answering(tokenizer, answer):
    """A model that reads the prompt and answers by `answer(prompt)`."""

    def generate(ids, num_tokens):
        texts = [answer(tokenizer.decode(row)) for row in ids]
        tokens = [tokenizer.encode(text, add_special_tokens=False)[:num_tokens] for text in texts]
        return torch.tensor([row + [tokenizer.bos_token_id] * (num_tokens - len(row)) for row in tokens])

    return generate


def documents(tokenizer, text):
    ids = np.array(tokenizer.encode(text))
    return TokenizedDocuments([TokenDocument("doc", ids)], TokensInfo({}, "", 257, "", 1, len(ids), ""))


@pytest.mark.parametrize("pair", all_pairs(), ids=lambda pair: pair.name)
def test_needle_and_question_share_no_content_words(pair):
    needle, question = content_words(pair.statement), content_words(f"The person who {pair.predicate} is")
    assert needle
    assert len(question) >= 2
    assert not needle & question
    stems = {word[:5] for word in needle} & {word[:5] for word in question}
    assert not stems  # nor do they share a word in another form


def test_there_are_facts_of_one_and_of_two_hops_in_both_orders():
    pairs = all_pairs()
    assert len(FACTS) >= 16
    assert sum(fact.two_hop is not None for fact in FACTS) >= 8
    assert (
        len({pair.name for pair in pairs}) == len(pairs) == 2 * (len(FACTS) + sum(f.two_hop is not None for f in FACTS))
    )
    assert len({pair.statement for pair in pairs}) == 2 * len(FACTS)
    for fact in FACTS:
        assert fact.default.startswith("{name} ")
        assert fact.inverted.endswith("{name}.")


def test_content_words_leave_out_function_words_the_name_and_case():
    assert content_words("{name} runs a kiosk next to The Sagrada Familia.") == {
        *("runs", "kiosk", "next", "sagrada", "familia"),
    }


@pytest.mark.parametrize("style", STYLES)
def test_prompts_have_the_exact_length_one_name_and_the_whole_question(tokenizer, style):
    task = NoLiMa(tokenizer, style=style, depths=2, trials=2, pairs=20)
    samples = task.samples(900)
    assert len(samples) == 80
    assert len({sample.item for sample in samples}) == 80
    for sample in samples:
        text = tokenizer.decode(sample.ids, skip_special_tokens=True)
        pair = next(pair for pair in all_pairs() if pair.name == sample.labels["pair"])
        assert len(sample.ids) + task.max_new_tokens == 900
        assert pair.statement.format(name=sample.references[0]) in text
        assert text.endswith(f"The person who {pair.predicate} is")
        assert NAME.findall(text) == list(sample.references)


def test_names_of_the_haystack_are_not_asked_for(tokenizer):
    taken = NAMES[:-1]
    data = documents(tokenizer, "\n".join(f"{name} was there." for name in taken) * 3)
    assert {sample.references for sample in NoLiMa(tokenizer, data=data, depths=2, pairs=5).samples(900)} == {
        (NAMES[-1],)
    }
    everyone = documents(tokenizer, "\n".join(f"{name} was there." for name in NAMES) * 3)
    with pytest.raises(ValueError, match="documents must lack at least one of the names"):
        NoLiMa(tokenizer, data=everyone).samples(1000)


def test_an_oracle_scores_everything_and_a_guesser_one_in_the_number_of_names(tokenizer):
    task = NoLiMa(tokenizer, batch_size=20, depths=3, trials=3, pairs=40)
    rng = random.Random(0)
    oracle = answering(tokenizer, lambda prompt: f" {NAME.findall(prompt)[0]}.")
    guesser = answering(tokenizer, lambda prompt: f" {rng.choice(NAMES)}.")
    assert all(record.scores == {"accuracy": 1.0} for record in task.ask(oracle, 700))
    chance = np.mean([record.scores["accuracy"] for record in task.ask(guesser, 700)])
    assert chance == pytest.approx(1 / len(NAMES), abs=0.03)  # 360 draws: 3 standard deviations are 0.028


@pytest.mark.parametrize("pairs", [0, 1000])
def test_numbers_of_pairs_that_do_not_exist_are_refused(llama, tokenizer, pairs):
    with pytest.raises(ValueError, match=f"pairs must be from 1 to {len(all_pairs())}, got {pairs}"):
        NoLiMa(tokenizer, pairs=pairs).check(llama, [900])


def record(pair, length, accuracy, error=None):
    return {"pair": pair, "length": length, "scores": {} if error else {"accuracy": accuracy}, "error": error}


def test_the_base_score_is_the_mean_over_pairs_of_the_best_short_length():
    records = [
        *(record("a", 250, score) for score in (1.0, 0.0)),  # mean 0.5
        *(record("a", 1000, score) for score in (1.0, 1.0, 0.0, 1.0)),  # mean 0.75: the best of a
        record("b", 250, 0.0),
        record("b", 500, None, "logits are not finite"),
        record("b", 4096, 1.0),  # no short length
    ]
    assert base_score(records) == (0.75 + 0.0) / 2
    assert base_score(records, longest=5000) == (0.75 + 1.0) / 2
    with pytest.raises(ValueError, match="at 200 tokens or less"):
        base_score(records, longest=200)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({1024: 0.8, 2048: 0.68, 4096: 0.67}, 2048),
        ({1024: 0.8, 2048: 0.5, 4096: 0.7}, 4096),
        ({1024: 0.1}, None),
        ({}, None),
    ],
)
def test_the_effective_length_is_the_longest_with_85_per_cent_of_the_base(scores, expected):
    assert effective_length(scores, base=0.8) == expected
