import re
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from longrope.evaluation.data.tokenized import TokenDocument
from longrope.evaluation.objectives.needle import NeedleObjective, NeedleOptions, needle_window
from longrope.evaluation.scoring.loss import token_nats
from longrope.rope import install

from .test_windows import candidates

LENGTH = 1024
"""Bytes: room for four needles and four questions."""


@pytest.fixture
def data(make_data, tokenizer):
    """Three texts of 30 to 36 lines without a digit, tokenized."""
    ids = [
        np.array(tokenizer.encode("\n".join(["lorem ipsum dolor sit amet, consetetur sadip"] * n)))
        for n in (30, 33, 36)
    ]
    return replace(make_data([1]), documents=[TokenDocument(f"text{i}", row) for i, row in enumerate(ids)])


@pytest.fixture
def byte_llama(make_llama, tokenizer):
    return make_llama(vocab_size=len(tokenizer), max_position_embeddings=512)


def piece(data, number=0):
    return replace(data, documents=[data.documents[number]])


ASKED = {
    "passkey": r"What is the pass key\? The pass key is (\d{5})",
    "named_passkey": r"What is the pass key of (\S+)\? The pass key of \1 is (\d{5})",
    "key_value": r"What is the special magic number for (\S+) mentioned in the provided text\? "
    r"The special magic number for \1 mentioned in the provided text is (\d{7})",
}
STATED = {
    "passkey": r"The pass key is (\d{5})\. Remember it",
    "named_passkey": r"The pass key of (\S+) is (\d{5})\. Remember it",
    "key_value": r"One of the special magic numbers for (\S+) is: (\d{7})\.",
}


@pytest.mark.parametrize("style", ["landmark", "comment"])
def test_the_scored_tokens_are_the_digits_of_the_answers_to_what_was_hidden(tokenizer, data, style):
    ids, places = needle_window(tokenizer, piece(data), LENGTH, NeedleOptions(style), 0)
    text = str(tokenizer.decode(ids, skip_special_tokens=True))
    assert len(ids) == LENGTH and ids[0] == tokenizer.bos_token_id
    start = text.index("What is the")
    body, tail = text[:start], text[start:]
    stated = {kind: set(re.findall(pattern, body)) for kind, pattern in STATED.items()}
    asked = {kind: set(re.findall(pattern, tail)) for kind, pattern in ASKED.items()}
    assert stated == asked
    assert {kind: len(found) for kind, found in stated.items()} == {"passkey": 1, "named_passkey": 2, "key_value": 1}
    scored = "".join(re.findall(r"\d+", tail))
    assert str(tokenizer.decode(ids[places])) == scored and len(places) == 5 + 5 + 5 + 7
    assert int(places[-1]) == LENGTH - 1  # the window ends with an answer


def test_needles_stand_on_lines_of_their_own_spread_over_the_document(tokenizer, data):
    ids, _ = needle_window(tokenizer, piece(data), LENGTH, NeedleOptions("comment", questions=3, distractors=1), 0)
    lines = str(tokenizer.decode(ids, skip_special_tokens=True)).split("\n")
    hidden = [i for i, line in enumerate(lines) if line.startswith("# ") and "What" not in line]
    assert len(hidden) == 4 and sum("What" in line for line in lines) == 3
    whole = [line for line in lines[1 : hidden[-1]] if line and not line.startswith("#")]  # the first may be cut
    assert set(whole) == {"lorem ipsum dolor sit amet, consetetur sadip"}
    shares = [i / len(lines[:-3]) for i in hidden]
    assert shares[0] < 0.4 and shares[-1] > 0.6


def test_a_window_depends_on_seed_document_and_number_alone(tokenizer, data):
    def ids(number, seed, window):
        options = NeedleOptions("comment", seed=seed)
        return tuple(needle_window(tokenizer, piece(data, number), LENGTH, options, window)[0].tolist())

    first = ids(0, 0, 0)
    assert ids(0, 0, 0) == first
    assert len({first, ids(1, 0, 0), ids(0, 1, 0), ids(0, 0, 1)}) == 4


@pytest.mark.parametrize("batch_size", [1, 3])
def test_scores_are_the_losses_of_the_answers_of_each_candidate_alone(byte_llama, tokenizer, data, batch_size):
    with install(byte_llama) as installation:
        options = NeedleOptions("comment")
        objective = NeedleObjective(byte_llama, installation, tokenizer, data, LENGTH, batch_size, 2, options)
        assert len(objective.windows) == 6
        scores = objective.score(candidates(3), document=4)
        ids, places = objective.windows[4]
        assert "lorem" in str(tokenizer.decode(ids))
        for candidate, score in zip(candidates(3), scores, strict=True):
            installation.set([candidate])
            expected = token_nats(byte_llama, ids[None])[0][places - 1].sum().item()
            assert (score.tokens, score.forwarded) == (22, LENGTH)
            assert score.nats == pytest.approx(expected, rel=1e-5)
    assert len({score.nats for score in scores}) == 3


def test_windows_are_numbered_like_those_of_perplexity_and_begin_where_they_begin(byte_llama, tokenizer, data):
    marked = [d.ids.copy() for d in data.documents]
    for number, ids in enumerate(marked):
        ids[1:] = number + 180  # no byte of a needle
        ids[LENGTH + 1 :] += 20  # only the second window reaches that far
    documents = [TokenDocument(f"text{i}", ids) for i, ids in enumerate(marked)]
    options = NeedleOptions("comment", ("passkey",), questions=1)
    with install(byte_llama) as installation:
        data = replace(data, documents=documents)
        objective = NeedleObjective(byte_llama, installation, tokenizer, data, LENGTH, 1, 2, options)
    found = [
        (number in ids, number + 20 in ids)
        for number, (ids, _) in zip((180, 181, 182) * 2, objective.windows, strict=True)
    ]
    assert found == [(True, False)] * 3 + [(True, True)] * 3


def test_a_tokenizer_with_several_digits_per_token_is_scored_on_those_tokens(data):
    text = "\n".join(f"line of words {i}" for i in range(400))
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator([text], trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet))
    inner.decoder = decoders.ByteLevel()
    merging = PreTrainedTokenizerFast(tokenizer_object=inner)
    document = TokenDocument("text", np.array(merging.encode("some words in a line\n" * 300)))
    ids, places = needle_window(merging, replace(data, documents=[document]), LENGTH, NeedleOptions("comment"), 0)
    answers = "".join(re.findall(r" is (\d+)$", str(merging.decode(ids)), re.MULTILINE))
    assert str(merging.decode(ids[places])).replace(" ", "") == answers
    assert len(places) < len(answers)  # else the test shows nothing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "prose"}, "style must be one of landmark, comment, got 'prose'"),
        ({"kinds": ("magic",)}, "kinds must be among passkey, named_passkey, key_value, each once, got magic"),
        ({"kinds": ("key_value", "key_value")}, "each once"),
        ({"questions": 0}, "questions must be at least 1"),
        ({"questions": 10, "distractors": 7}, "at most 16 together"),
        ({"kinds": ("passkey",)}, "got passkey alone for 4; add named_passkey or key_value"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NeedleOptions(**options)


def test_windows_without_room_for_the_questions_are_refused(tokenizer, data):
    with pytest.raises(ValueError, match=r"at least \d+ tokens .* got 200"):
        needle_window(tokenizer, piece(data), 200, NeedleOptions(), 0)


def test_short_documents_are_refused_by_name(byte_llama, tokenizer, data):
    with install(byte_llama) as installation, pytest.raises(ValueError, match="got text0 with"):
        NeedleObjective(byte_llama, installation, tokenizer, data, 5000, 1)
