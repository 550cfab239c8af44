"""Rescale factors of three pieces, `dim_piece_mono` of the official code: 1, then free and rising, then s.

The breakpoints (alpha, beta) are read off the factors, so the genome needs no genes of their own: pairs below alpha
have the factor 1, pairs from beta on have s. Every rising set of factors is such a set; with beta = P the last piece is
empty.
"""

from numpy.random import Generator

from .operators import redraw, with_scalars
from .space import Genome, Space


def breakpoints(steps: tuple[int, ...], space: Space) -> tuple[int, int]:
    """Return (alpha, beta): how many leading pairs have the factor 1, and the first of the trailing ones that have s.

    Where all have s, both are 0, the official code's start. Where s = 1, alpha is 0.
    """
    beta = len(steps)
    while beta and steps[beta - 1] == space.scale_step:
        beta -= 1
    alpha = 0
    while alpha < beta and steps[alpha] == space.lower:
        alpha += 1
    return alpha, beta


def mutate_piecewise(parent: Genome, space: Space, rng: Generator, probability: float) -> Genome:
    """Return the parent with each gene redrawn with a probability: the breakpoints first, then as in `mutate`.

    A breakpoint is redrawn uniformly up to the other one or the end, which the official code leaves open. Pairs that
    leave the middle piece get the factor of their new piece; pairs that join it are drawn uniformly between the factors
    at its ends, in rising order. Then the middle piece is redrawn pair by pair.
    """
    steps = parent.steps
    alpha, beta = breakpoints(steps, space)
    if rng.random() < probability:
        steps = _move_alpha(steps, alpha, int(rng.integers(0, beta, endpoint=True)), space, rng)
        alpha, beta = breakpoints(steps, space)
    if rng.random() < probability:
        steps = _move_beta(steps, beta, int(rng.integers(alpha, len(steps), endpoint=True)), space, rng)
        alpha, beta = breakpoints(steps, space)
    upper = space.upper if beta == len(steps) else space.scale_step
    middle = redraw(steps[alpha:beta], space.lower, upper, rng, probability)
    return with_scalars(steps[:alpha] + middle + steps[beta:], parent, space, rng, probability)


def _move_alpha(steps: tuple[int, ...], old: int, new: int, space: Space, rng: Generator) -> tuple[int, ...]:
    if new >= old:
        return (space.lower,) * new + steps[new:]
    high = steps[old] if old < len(steps) else space.scale_step
    return steps[:new] + _rising(old - new, space.lower, high, rng) + steps[old:]


def _move_beta(steps: tuple[int, ...], old: int, new: int, space: Space, rng: Generator) -> tuple[int, ...]:
    if new <= old:
        # Factors above s, which only a middle piece that reaches the last pair has, fall to s.
        return tuple(min(step, space.scale_step) for step in steps[:new]) + (space.scale_step,) * (len(steps) - new)
    low = steps[old - 1] if old else space.lower
    high = space.upper if new == len(steps) else space.scale_step
    return steps[:old] + _rising(new - old, low, high, rng) + steps[new:]


def _rising(count: int, low: int, high: int, rng: Generator) -> tuple[int, ...]:
    return tuple(sorted(int(step) for step in rng.integers(low, high, size=count, endpoint=True)))
