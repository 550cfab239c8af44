"""Variation operators of LongRoPE (arXiv 2402.13753, algorithm 1): pure functions of (parents, space, rng).

The paper names mutation and crossover under the constraint lambda_i <= lambda_{i+1} and gives no formula for either;
what is chosen here, and why, stands in each docstring.
"""

from collections.abc import Callable, Container

from numpy.random import Generator

from .space import Genome, Space


def mutate(parent: Genome, space: Space, rng: Generator, probability: float) -> Genome:
    """Return the parent with each gene redrawn with a probability.

    A rescale factor is redrawn uniformly on the grid between its neighbours, from left to right, so that the left
    neighbour may have moved already and the child is non-decreasing without repair. The last pair may rise to the bound
    of the space, the first may fall to 1. Start tokens are redrawn from their choices with the same probability; the
    authors' main code leaves them out, though they are in the paper's space. An attention factor, where it is a gene,
    likewise within its bounds.
    """
    steps = redraw(parent.steps, space.lower, space.upper, rng, probability)
    return with_scalars(steps, parent, space, rng, probability)


def with_scalars(steps: tuple[int, ...], parent: Genome, space: Space, rng: Generator, probability: float) -> Genome:
    """Return a genome of given steps with the parent's start tokens and attention factor, each maybe redrawn."""
    start_tokens = parent.start_tokens
    if rng.random() < probability:
        start_tokens = space.start_token_choices[int(rng.integers(len(space.start_token_choices)))]
    attention = parent.attention
    if attention is not None and rng.random() < probability:
        attention = int(rng.integers(space.attention_lower, space.attention_upper, endpoint=True))
    return Genome(steps, start_tokens, attention)


def redraw(steps: tuple[int, ...], lower: int, upper: int, rng: Generator, probability: float) -> tuple[int, ...]:
    """Return non-decreasing steps, each redrawn with a probability between its neighbours, at the ends the bounds."""
    drawn = list(steps)
    for pair in range(len(drawn)):
        if rng.random() < probability:
            low = drawn[pair - 1] if pair else lower
            high = drawn[pair + 1] if pair + 1 < len(drawn) else upper
            drawn[pair] = int(rng.integers(low, high, endpoint=True))
    return tuple(drawn)


def ntk_left(space: Space, critical: int, step: int) -> tuple[int, ...]:
    """Return the steps left of a critical pair whose own step is given: `lambda_c^(i/c)` (LongRoPE2, eq. 10)."""
    base = step / space.resolution
    return tuple(round(base ** (pair / critical) * space.resolution) for pair in range(critical))


def crossover(first: Genome, second: Genome, rng: Generator) -> Genome:
    """Return the head of one parent joined to the tail of the other at a uniform cut: on average half of each.

    The head is the first parent's unless that would make lambda fall at the cut; then the second's head with the
    first's tail cannot fall (`b[k-1] <= b[k] < a[k-1] <= a[k]`), so no child needs repair. Start tokens, and the
    attention factor where it is a gene, come from either parent with equal odds. The authors' code copies single pairs
    and stops at the first new vector, which changes about one pair; whole segments mix the parents.
    """
    cut = int(rng.integers(1, len(first.steps)))
    head, tail = (first, second) if first.steps[cut - 1] <= second.steps[cut] else (second, first)
    start_tokens = first.start_tokens if rng.random() < 0.5 else second.start_tokens
    attention = first.attention
    if attention is not None and rng.random() >= 0.5:
        attention = second.attention
    return Genome(head.steps[:cut] + tail.steps[cut:], start_tokens, attention)


def distinct(propose: Callable[[], Genome], seen: Container[Genome], attempts: int) -> Genome | None:
    """Return the first proposal not seen before, or None if all attempts gave known genomes."""
    proposals = (propose() for _ in range(attempts))
    return next((genome for genome in proposals if genome not in seen), None)
