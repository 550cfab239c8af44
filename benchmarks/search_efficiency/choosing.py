"""The choice among many candidates with a budget of scores, by successive halving on shared windows."""

import math
from collections.abc import Sequence

import numpy as np

from longrope.evaluation.objectives.gradients import GradientObjective
from longrope.rope import RescaleFactors

from .searching import Outcome

MOST = 1 / 3
"""Share of the scores that the first round, one window for each, may take; of more candidates some are drawn."""


def halve(
    objective: GradientObjective, candidates: Sequence[RescaleFactors], windows: Sequence[int], scores: int, seed: int
) -> Outcome:
    """Return the candidate that is left when the worse half of the rest leaves round by round.

    All that are left have been scored on the same windows, of which each round has new ones, as many as an equal share
    of the scores pays for. The mean over all windows so far decides.

    Args:
        objective: scores candidates.
        candidates: to choose from; the first one is never left out.
        windows: of the objective, in the order of their use, and from the start again.
        scores: budget.
        seed: of the draw of candidates, where there are too many for the budget.
    """
    left = _drawn(candidates, max(2, int(MOST * scores)), seed)
    totals = np.zeros(len(left))
    used = tokens = spent = 0
    while len(left) > 1 and scores - spent >= len(left):
        rounds = math.ceil(math.log2(len(left)))
        for _ in range(max(1, (scores - spent) // (rounds * len(left)))):
            found = objective.score(left, windows[used % len(windows)])
            totals += [math.inf if one.nats is None else one.nats / one.tokens for one in found]
            tokens += sum(one.forwarded for one in found)
            used, spent = used + 1, spent + len(left)
        best = np.argsort(totals, kind="stable")[: math.ceil(len(left) / 2)]
        left, totals = [left[place] for place in best], totals[best]
    return Outcome(left[0], tokens, spent)


def _drawn(candidates: Sequence[RescaleFactors], most: int, seed: int) -> list[RescaleFactors]:
    if len(candidates) <= most:
        return list(candidates)
    drawn = np.random.default_rng(seed).choice(np.arange(1, len(candidates)), most - 1, replace=False)
    return [candidates[0], *(candidates[place] for place in sorted(drawn))]
