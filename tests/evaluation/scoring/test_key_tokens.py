import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longrope.evaluation.scoring.key_tokens import (
    KeyTokenRule,
    find_key_tokens,
    key_spans,
    model_losses,
    own_window_rule,
    paper_rule,
    places_in_spans,
)


class Oracle:
    """An evaluator whose tokens are their own places: a planted token is known if its clue is in the context."""

    def __init__(self, clues):
        self.clues = clues
        self.calls = []

    def __call__(self, ids):
        self.calls.append(tuple(ids.shape))
        losses = torch.full((ids.shape[0], ids.shape[1] - 1), 1.0)
        for row, own in enumerate(ids.tolist()):
            for place, token in enumerate(own[1:], start=1):
                if token in self.clues:
                    losses[row, place - 1] = 0.5 if self.clues[token] in own[:place] else 5.0
        return losses


RULE = KeyTokenRule(alpha=2.0, beta=-2.0, trunc_len=16, sliding_window=4)


def test_planted_key_tokens_are_found_exactly():
    clues = {
        20: 3,  # the block of 20 .. 23 sees 4 and later: key
        21: 4,  # seen by the short context
        35: 19,  # the block of 32 .. 35 sees 16 and later: the clue is in the short context
        36: 19,  # that of 36 .. 39 sees 20 and later: key
        15: 0,  # among the first trunc_len tokens: never key
        49: 31,  # in the last, shorter block, which sees 32 and later: key
    }
    oracle = Oracle(clues)
    assert find_key_tokens(oracle, torch.arange(50), RULE).tolist() == [20, 36, 49]
    assert max(rows * tokens for rows, tokens in oracle.calls) <= 50
    assert oracle.calls[0] == (1, 50) and oracle.calls[-1] == (1, 18)


def by_hand(losses, ids, rule):
    """The published definition, one block after the other (arXiv 2410.23771)."""
    long = [None, *losses(ids[None])[0].tolist()]
    key = []
    for start in range(0, len(ids) - rule.trunc_len, rule.sliding_window):
        block = ids[start : start + rule.trunc_len + rule.sliding_window]
        short = [None, *losses(block[None])[0].tolist()]
        for place in range(rule.trunc_len, len(block)):
            if short[place] - long[start + place] > rule.alpha and long[start + place] < -rule.beta:
                key.append(start + place)
    return key


@pytest.mark.parametrize("length", [16, 17, 20, 41, 64])
@pytest.mark.parametrize("rule", [KeyTokenRule(0.3, -4.0, 16, 4), KeyTokenRule(0.1, -5.0, 8, 7)])
def test_key_tokens_of_a_model_are_those_of_the_definition(llama, rule, length):
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 64, length))
    found = find_key_tokens(model_losses(llama), ids, rule).tolist()
    assert found == by_hand(model_losses(llama), ids, rule)
    assert found or length < 30


def test_key_tokens_of_a_cut_document_are_the_first_ones(llama):
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 64, 60))
    rule = KeyTokenRule(0.3, -4.0, 16, 4)
    whole = find_key_tokens(model_losses(llama), ids, rule).tolist()
    for length in (16, 30, 45):
        cut = find_key_tokens(model_losses(llama), ids[:length], rule).tolist()
        assert cut == [place for place in whole if place < length]


def test_losses_that_are_not_finite_are_refused():
    with pytest.raises(RuntimeError, match="finite losses"):
        find_key_tokens(lambda ids: torch.full((len(ids), ids.shape[1] - 1), float("nan")), torch.arange(30), RULE)


def test_the_rule_is_the_paper_s_and_shrinks_with_short_models():
    assert paper_rule(8192) == KeyTokenRule() == KeyTokenRule(2.0, -2.0, 4096, 1024)
    assert paper_rule(256) == KeyTokenRule(2.0, -2.0, 256, 64)
    with pytest.raises(ValueError, match="trunc_len must be at least 1 token, got 0"):
        KeyTokenRule(trunc_len=0)


def test_the_rule_of_an_unmodified_model_keeps_it_inside_its_own_window():
    assert own_window_rule(8192) == KeyTokenRule(2.0, -2.0, 1024, 1024, 8192)
    assert own_window_rule(256, trunc_len=100, sliding_window=7) == KeyTokenRule(2.0, -2.0, 100, 7, 256)
    with pytest.raises(ValueError, match="fewer tokens together than the 256 that the evaluator sees, got 200 and 56"):
        own_window_rule(256, trunc_len=200, sliding_window=56)


WINDOW = KeyTokenRule(alpha=2.0, beta=-2.0, trunc_len=16, sliding_window=4, long_len=32)


def test_an_evaluator_of_limited_window_judges_any_length_and_never_sees_more():
    clues = {
        20: 3,  # inside the window from the start, before the short context: key
        33: 5,  # the block of 32 .. 35 sees 4 and later: key
        36: 5,  # that of 36 .. 39 sees 8 and later: beyond the window, so not known to be key
        60: 35,  # the block of 60 .. 63 sees 32 and later, and 44 and later in the short context: key
        61: 45,  # seen by the short context
    }
    oracle = Oracle(clues)
    assert find_key_tokens(oracle, torch.arange(70), WINDOW).tolist() == [20, 33, 60]
    assert max(tokens for _, tokens in oracle.calls) == 32
    assert max(rows * tokens for rows, tokens in oracle.calls) <= 70


def in_window_by_hand(losses, ids, rule):
    """One forward for each token and context, straight from the definition."""

    def loss(place, context):
        block = max(context, place - (place - context) % rule.sliding_window)
        return losses(ids[None, max(0, block - context) : place + 1])[0, -1].item()

    key = []
    for place in range(rule.trunc_len, len(ids)):
        long, short = loss(place, rule.long_len - rule.sliding_window), loss(place, rule.trunc_len)
        if short - long > rule.alpha and long < -rule.beta:
            key.append(place)
    return key


@pytest.mark.parametrize("length", [16, 20, 27, 28, 41, 64])
@pytest.mark.parametrize("rule", [KeyTokenRule(0.3, -4.0, 8, 4, 28), KeyTokenRule(0.2, -5.0, 5, 3, 32)])
def test_key_tokens_inside_a_window_are_those_of_the_definition(llama, rule, length):
    ids = torch.from_numpy(np.random.default_rng(2).integers(0, 64, length))
    found = find_key_tokens(model_losses(llama), ids, rule).tolist()
    assert found == in_window_by_hand(model_losses(llama), ids, rule)
    assert found or length < 30
    for cut in (length // 2, length - 1):
        assert find_key_tokens(model_losses(llama), ids[:cut], rule).tolist() == [p for p in found if p < cut]


def test_adjacent_spans_are_merged_and_a_token_must_lie_entirely_inside_one():
    offsets = [(0, 0), (0, 4), (4, 6), (6, 9), (9, 12), (13, 20)]
    spans = key_spans(offsets, [1, 2, 4])
    assert spans == [(0, 6), (9, 12)]
    others = [(0, 0), (0, 3), (3, 6), (6, 7), (8, 10), (9, 10), (10, 12), (11, 13)]
    assert places_in_spans(others, spans) == [1, 2, 5, 6]


cuts = st.lists(st.integers(1, 6), min_size=1, max_size=12)


@given(cuts, cuts, st.data())
def test_a_token_is_inside_if_all_its_characters_are_key(first, second, data):
    def offsets(lengths):
        ends = np.cumsum(lengths).tolist()
        return list(zip([0, *ends], ends, strict=False))

    evaluator, evaluated = offsets(first), offsets(second)
    places = sorted(data.draw(st.sets(st.integers(0, len(evaluator) - 1))))
    characters = {c for place in places for c in range(*evaluator[place])}
    expected = [i for i, (start, end) in enumerate(evaluated) if set(range(start, end)) <= characters]
    assert places_in_spans(evaluated, key_spans(evaluator, places)) == expected
