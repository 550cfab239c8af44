import math

import numpy as np
import pytest

from longrope.evaluation.scoring.estimates import (
    accuracy,
    document_weighted_perplexity,
    perplexity,
    perplexity_change,
    token_weighted_perplexity,
)


@pytest.mark.parametrize("loss", [-800.0, 0.0, 2.5, 709.78, 709.79, 1e300])
def test_a_perplexity_is_exp_of_the_loss_and_infinite_beyond_floats(loss: float):
    if loss < 709.785:
        assert (perplexity(loss), perplexity_change(loss)) == (math.exp(loss), math.expm1(loss))
    else:
        assert perplexity(loss) == perplexity_change(loss) == math.inf


def test_two_unequal_documents_by_pencil_and_paper():
    # a: 3 tokens, 6 nats (2 per token); b: 1 token, 1 nat. Tokens: 7 / 4. Documents: (2 + 1) / 2.
    assert token_weighted_perplexity([6.0, 1.0], [3, 1], seed=0).value == pytest.approx(math.exp(7 / 4))
    assert document_weighted_perplexity([6.0, 1.0], [3, 1], seed=0).value == pytest.approx(math.exp(3 / 2))


def test_ninety_five_percent_intervals_cover_a_known_perplexity_about_that_often():
    rng = np.random.default_rng(0)
    tokens = np.full(40, 100)
    covered = 0
    for trial in range(60):
        nats = rng.normal(2.0, 0.3, 40) * tokens
        estimate = token_weighted_perplexity(nats.tolist(), tokens.tolist(), seed=trial)
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= math.exp(2.0) <= estimate.high
    assert 50 <= covered <= 60  # binomial(60, 0.95) is below 50 once in 4000


def test_the_bootstrap_resamples_whole_documents_with_their_token_counts():
    # every document has 2 nats per token, whatever its length: no resample can differ
    estimate = token_weighted_perplexity([2.0, 20.0, 200.0], [1, 10, 100], seed=0)
    assert estimate.low == pytest.approx(estimate.high) == pytest.approx(math.exp(2))


def test_intervals_are_repeatable():
    nats, tokens = [5.0, 7.0, 9.5, 3.0], [3, 3, 3, 3]
    assert token_weighted_perplexity(nats, tokens, 1) == token_weighted_perplexity(nats, tokens, 1)


def test_one_document_has_a_value_and_no_interval():
    assert token_weighted_perplexity([3.0], [3], seed=0) == (pytest.approx(math.e), None, None, 1)


def test_wilson_interval_has_its_textbook_value():
    z, n = 1.959964, 10  # all right: low = n / (n + z^2), high = 1
    estimate = accuracy([True] * n)
    assert (estimate.value, estimate.n) == (1.0, n)
    assert estimate.low == pytest.approx(n / (n + z**2), rel=1e-6)
    assert estimate.high == pytest.approx(1.0)


@pytest.mark.parametrize(
    "empty", [lambda: accuracy([]), lambda: token_weighted_perplexity([], [], 0)], ids=["accuracy", "perplexity"]
)
def test_nothing_is_no_number(empty):
    with pytest.raises(ValueError, match="got none"):
        empty()
