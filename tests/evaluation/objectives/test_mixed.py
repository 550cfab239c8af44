from typing import Any

import pytest

from longrope.evaluation.objectives.base import WindowScore
from longrope.evaluation.objectives.mixed import MixedObjective
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.rope import install

from .test_windows import candidates


class Fixed:
    """Gives the same scores whatever it is asked."""

    def __init__(self, *scores: WindowScore) -> None:
        self.scores, self.asked = list(scores), []

    def score(self, candidates, document):
        self.asked.append((len(candidates), document))
        return self.scores


def mixed_of(*parts: tuple[Any, float]) -> MixedObjective:
    return MixedObjective(list(parts))


def mean(score: WindowScore) -> float:
    assert score.nats is not None
    return score.nats / score.tokens


def test_the_loss_is_the_weighted_mean_of_the_losses_and_the_cost_is_the_sum():
    short = Fixed(WindowScore(20.0, 10, forwarded=11), WindowScore(30.0, 10, forwarded=11))
    long = Fixed(WindowScore(100.0, 100, forwarded=101), WindowScore(300.0, 100, forwarded=101))
    scores = mixed_of((short, 3.0), (long, 1.0)).score(candidates(2), 7)
    assert [mean(score) for score in scores] == [(3 * 2 + 1) / 4, (3 * 3 + 3) / 4]
    assert {(score.tokens, score.forwarded, score.error) for score in scores} == {(110, 112, None)}
    assert short.asked == long.asked == [(2, 7)]


def test_a_candidate_that_fails_in_one_part_has_no_score_but_its_cost():
    good = Fixed(WindowScore(20.0, 10, forwarded=11), WindowScore(20.0, 10, forwarded=11))
    bad = Fixed(WindowScore(None, 5, "loss is nan", forwarded=6), WindowScore(5.0, 5, forwarded=6))
    failed, sound = mixed_of((good, 1.0), (bad, 1.0)).score(candidates(2), 0)
    assert (failed.nats, failed.error, failed.forwarded) == (None, "loss is nan", 17)
    assert mean(sound) == 1.5


def test_lengths_of_one_model_are_mixed(llama, random_data):
    with install(llama) as installation:
        parts = [PerplexityObjective(llama, installation, random_data.documents, n, 2, 2) for n in (16, 48)]
        mixed = MixedObjective([(parts[0], 0.3), (parts[1], 0.7)]).score(candidates(3), 6)
        short, long = (part.score(candidates(3), 6) for part in parts)
    for one, a, b in zip(mixed, short, long, strict=True):
        assert mean(one) == pytest.approx(0.3 * mean(a) + 0.7 * mean(b), rel=1e-12)
        assert one.forwarded == 64


@pytest.mark.parametrize("weights", [[], [1.0, 0.0], [float("nan")]])
def test_weights_that_weigh_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be finite and above 0"):
        mixed_of(*((Fixed(), weight) for weight in weights))
