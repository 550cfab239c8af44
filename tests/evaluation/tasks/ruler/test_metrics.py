"""Metrics against pencil and paper, and lm-eval where it is installed."""

import pytest

from longrope.evaluation.tasks.ruler.base import string_match_all, string_match_part

CASES = [
    # answer, references, all, part
    (" 1234567.", ["1234567"], 1, 1),
    ("It is 123456", ["1234567"], 0, 0),
    ("", ["a"], 0, 0),
    ("it is B", ["b", "c", "d"], 1 / 3, 1),
    ("C, d and b", ["b", "c", "d"], 1, 1),
    ("1. Oak 2. elm\n3. OAK", ["oak", "elm", "ash", "fir"], 0.5, 1),
    ("東京です", ["東京"], 1, 1),
]


@pytest.mark.parametrize(("predicted", "references", "every", "part"), CASES)
def test_string_matches_equal_rulers_definition(predicted, references, every, part):
    assert string_match_all(predicted, references) == pytest.approx(every)
    assert string_match_part(predicted, references) == part


def test_string_match_all_equals_lm_evals():
    theirs = pytest.importorskip("lm_eval.tasks.ruler.common_utils")
    for predicted, references, _, _ in CASES:
        assert theirs.string_match_all([predicted], [references]) == string_match_all(predicted, references)
