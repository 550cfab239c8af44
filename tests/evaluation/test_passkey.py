import hashlib
import random
import re
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from longrope.evaluation import passkey as passkey_module
from longrope.evaluation.generation import NOT_FINITE, greedy
from longrope.evaluation.passkey import ANSWER_TOKENS, Passkey, PasskeyPrompts, ask, is_correct
from longrope.evaluation.prompts import STYLES
from longrope.evaluation.tokenized import TokenDocument, TokenizedDocuments, TokensInfo
from longrope.rope import install
from longrope.rope.methods import NTK

LENGTHS = [500, 777, 1024, 2048]
KEY = re.compile(r"The pass key is (\d{5})\. Remember it")


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
    for sample in Passkey(tokenizer, data, style, depths=5, trials=2).samples(length):
        text = tokenizer.decode(sample.ids, skip_special_tokens=True)
        assert len(sample.ids) + ANSWER_TOKENS == length
        assert sample.ids[0] == tokenizer.bos_token_id
        assert tokenizer.bos_token_id not in sample.ids[1:]
        assert KEY.findall(text) == [sample.expected]
        assert text.endswith("What is the pass key? The pass key is")


@pytest.mark.parametrize("haystack", ["filler", "documents"])
def test_depth_places_the_key(tokenizer, code, haystack):
    data = None if haystack == "filler" else code
    samples = Passkey(tokenizer, data, "comment", depths=11).samples(2048)
    places = [tokenizer.decode(s.ids).index("The pass key is") / 2048 for s in samples]
    for sample, place in zip(samples, places, strict=True):
        assert place == pytest.approx(sample.depth, abs=0.11)  # a comment's length, and a line of the haystack
    assert places == sorted(places)


def test_needles_split_no_sentence_of_the_filler_and_no_line_of_a_document(tokenizer, code):
    for sample in Passkey(tokenizer, None, "landmark", depths=7).samples(1000):
        before = tokenizer.decode(sample.ids).split(" The pass key")[0]
        assert before.endswith(("There and back again.", "information there."))
    whole_lines = {"import os", "", "def f(x):", "    return x + 1", "    return x + 1import os"}
    for sample in Passkey(tokenizer, code, "comment", depths=7).samples(1000)[:-1]:  # the last is at the very end
        lines = tokenizer.decode(sample.ids, skip_special_tokens=True).split("\n")
        assert {line for line in lines[1:-2] if not line.startswith("#")} <= whole_lines


def test_each_sample_has_a_prompt_of_its_own(tokenizer):
    samples = [s for length in (500, 501) for s in Passkey(tokenizer, depths=5, trials=3).samples(length)]
    assert len({sample.prompt_hash for sample in samples}) == 30
    assert len({sample.expected for sample in samples}) > 25
    other = Passkey(tokenizer, depths=5, trials=3, seed=1).samples(500)
    assert not {s.prompt_hash for s in other} & {s.prompt_hash for s in samples}


def test_the_same_seed_gives_the_same_prompts_in_another_process(tokenizer):
    program = (
        "from conftest import byte_tokenizer; from longrope.evaluation.passkey import Passkey; "
        "print([s.prompt_hash for s in Passkey(byte_tokenizer(), depths=3, trials=2, seed=7).samples(600)])"
    )
    command = [sys.executable, "-c", program]
    folder = Path(__file__).parent.parent
    printed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str([s.prompt_hash for s in Passkey(tokenizer, depths=3, trials=2, seed=7).samples(600)])


def test_prompt_hash_is_of_the_tokens(tokenizer):
    sample = PasskeyPrompts(tokenizer).sample(0, 500, 0.5, 0)
    expected = hashlib.sha256(b"".join(int(i).to_bytes(8, "little") for i in sample.ids)).hexdigest()
    assert sample.prompt_hash == expected


def test_a_length_without_room_says_how_much_is_needed(llama, tokenizer):
    with pytest.raises(ValueError, match=r"at least (\d+) tokens for a pass key, got 100") as caught:
        Passkey(tokenizer).check(llama, [100, 500])
    smallest = int(re.findall(r"least (\d+)", str(caught.value))[0])
    assert len(PasskeyPrompts(tokenizer).sample(0, smallest, 0.5, 0).ids) == smallest - ANSWER_TOKENS


def test_documents_too_short_for_the_haystack_are_refused(make_llama, tokenizer, code):
    with pytest.raises(ValueError, match="documents must have at least"):
        Passkey(tokenizer, code, "comment").check(make_llama(vocab_size=257), [500, 100_000])


def test_an_unknown_style_lists_the_known_ones(tokenizer):
    with pytest.raises(ValueError, match="landmark, comment, got 'poem'"):
        PasskeyPrompts(tokenizer, "poem")


def answering(tokenizer, answer):
    """A model that reads the prompt and answers by `answer(prompt)`."""

    def generate(ids, num_tokens):
        texts = [answer(tokenizer.decode(row)) for row in ids]
        tokens = [tokenizer.encode(text, add_special_tokens=False)[:num_tokens] for text in texts]
        return torch.tensor([row + [tokenizer.bos_token_id] * (num_tokens - len(row)) for row in tokens])

    return generate


@pytest.mark.parametrize("style", STYLES)
def test_an_oracle_scores_everything(tokenizer, style):
    samples = Passkey(tokenizer, style=style, depths=5, trials=4).samples(600)
    oracle = answering(tokenizer, lambda prompt: f" {KEY.findall(prompt)[0]}.")
    assert all(record.correct for record in ask(oracle, tokenizer, samples, batch_size=3))


def test_random_digits_score_chance(tokenizer):
    samples = Passkey(tokenizer, depths=10, trials=20).samples(400)
    rng = random.Random(0)
    guesser = answering(tokenizer, lambda prompt: f" {rng.randrange(10_000, 100_000)}.")
    records = ask(guesser, tokenizer, samples, batch_size=50)
    assert len(records) == 200
    assert sum(record.correct for record in records) <= 1  # chance is 1 in 90,000


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


def test_failed_samples_are_neither_right_nor_wrong(llama, tokenizer, monkeypatch):
    calls = count()

    def generate(model, ids, num_tokens):
        tokens = answering(tokenizer, lambda prompt: KEY.findall(prompt)[0])(ids, num_tokens)
        if next(calls) == 3:
            tokens[0, 2] = NOT_FINITE
        return tokens

    monkeypatch.setattr(passkey_module, "greedy", generate)
    cell = Passkey(tokenizer, depths=5, trials=4).run(llama, [400], lambda tokens: None)
    (measurement,) = cell.measurements
    assert (measurement.estimate.value, measurement.estimate.n) == (1.0, 19)
    (failure,) = cell.failures
    assert "not finite" in failure.error
    assert [record["error"] is None for record in cell.records].count(False) == 1


def test_greedy_decoding_with_a_cache_equals_rereading_everything(llama):
    ids = torch.randint(0, 64, (3, 40), generator=torch.Generator().manual_seed(0))
    with install(llama) as installation:
        installation.set([NTK(factor=2.0).factors(installation.geometry)])
        tokens = greedy(llama, ids, 6)
        whole = ids
        with torch.no_grad():
            for _ in range(6):
                following = llama(input_ids=whole, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
                whole = torch.cat([whole, following], dim=1)
    assert torch.equal(tokens, whole[:, 40:])


def test_logits_that_are_not_finite_are_marked_and_no_guess(llama):
    ids = torch.zeros(1, 5, dtype=torch.long)
    with torch.no_grad():
        llama.lm_head.weight[3] = float("nan")
    assert greedy(llama, ids, 2).tolist() == [[NOT_FINITE, NOT_FINITE]]
