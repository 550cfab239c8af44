"""Racing: candidates share documents, so that paired differences tell early which of them can't win."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def p_value_of_worse(losses: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the p-value of the one-sided paired t test that the losses are above those of a reference.

    Args:
        losses: mean nats per token on each document, shape (D,).
        reference: of another candidate on the same documents, shape (D,).

    Returns:
        Near 0 where the losses are surely worse; 1 for a single document or failed scores, which prove nothing.
    """
    if len(losses) < 2 or not (np.all(np.isfinite(losses)) and np.all(np.isfinite(reference))):
        return 1.0
    differences = losses - reference
    rounding = 1e-9 * float(np.abs(losses).max())
    if np.ptp(differences) <= rounding:
        return 0.0 if differences[0] > rounding else 1.0
    result: Any = stats.ttest_1samp(differences, 0.0, alternative="greater")
    return float(result.pvalue)


def survivors(losses: Sequence[Sequence[float]], num_parents: int, significance: float) -> list[int]:
    """Return which candidates may still be among the best `num_parents`, best first.

    Args:
        losses: of each candidate on each document, shape (C, D), infinite where a score failed.
        num_parents: places to be won.
        significance: level of the test below which a candidate is dropped.

    Returns:
        Indices of the candidates whose loss is not significantly above that of the last one to win a place; those that
        failed on a document are dropped.
    """
    table = np.asarray(losses, dtype=np.float64)
    finite = [index for index in range(len(table)) if np.all(np.isfinite(table[index]))]
    ranked = sorted(finite, key=lambda index: float(table[index].mean()))
    if len(ranked) <= num_parents:
        return ranked
    last = table[ranked[num_parents - 1]]
    return [
        index
        for place, index in enumerate(ranked)
        if place < num_parents or p_value_of_worse(table[index], last) > significance
    ]
