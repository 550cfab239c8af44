"""The verdict in sentences: which method is best, by how much, and whether that is proven; all from the numbers."""

import math

from ..comparison.results import ResultRow
from ..comparison.statistics import SIGNIFICANCE
from .metrics import format_interval, format_value, lower_is_better, measure, task_title
from .ranking import Contrast, Ranking, Standing

ALIKE = 1e-9
"""Values that differ by less than this, relatively, are called alike."""


def verdict(ranking: Ranking, length: int) -> str:
    """Return in a sentence or two who is best at a length, with interval and difference to the runner-up."""
    standings = ranking.standings[length]
    best = standings[0].row
    where, measured = f"At {length:,} tokens", measure(best.task, best.metric)
    if _worthless(best):
        return f"{where} no method gets above 0 % of {measured}."
    value = f"{format_value(best.metric, best.value)}{_interval(best, '95 % interval ')}"
    if len(alike := _alike(standings)) > 1:
        return f"{where} {_listed(alike)} have the same best {measured}, {value}."
    first = f"{where} {best.method} has the best {measured}, {value}"
    return f"{first}." if len(standings) == 1 else f"{first}{_runner_up(ranking, standings)}"


def short_verdict(ranking: Ranking, length: int) -> str:
    """Return the verdict in one line, for lists."""
    standings = ranking.standings[length]
    best = standings[0].row
    where = f"{task_title(best.task)}, {length:,} tokens"
    if _worthless(best):
        return f"{where}: no method gets above 0 %"
    value = f"{format_value(best.metric, best.value)}{_interval(best)}"
    if len(alike := _alike(standings)) > 1:
        return f"{where}: {_listed(alike)} alike with {value}"
    if len(standings) == 1:
        return f"{where}: {best.method} {value}"
    second = standings[1].row
    contrast = ranking.contrast(length, best.method, second.method)
    proof = "not tested"
    if contrast is not None and contrast.p is not None:
        proof = f"{'' if contrast.significant else 'not '}significantly worse ({p_text(contrast.p)})"
    runner_up = f"{second.method} {format_value(second.metric, second.value)}"
    return f"{where}: {best.method} {value}; runner-up {runner_up}, {proof}"


def difference_text(metric: str, contrast: Contrast) -> tuple[str, str]:
    """Return how much the first method differs from the second, and the 95 % interval of that, empty if there is none.

    Perplexities differ by per cent of the second's, shares by points of per cent.
    """
    d = contrast.difference
    unit = "%" if lower_is_better(metric) else "points"
    value, low, high = (None if one is None else _amount(metric, one) for one in (d.value, d.low, d.high))
    interval = "" if low is None or high is None else f"{_signed(low)} to {_signed(high)}"
    return f"{_signed(value)} {unit}", interval


def unprovable(comparisons: int, num_items: int) -> bool:
    """Tell whether so few items can't prove any difference, even if all differences have one sign."""
    return comparisons * 2.0 ** (1 - num_items) >= SIGNIFICANCE


def p_text(p: float) -> str:
    """Write a p-value."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _runner_up(ranking: Ranking, standings: list[Standing]) -> str:
    best, second = standings[0].row, standings[1].row
    contrast = ranking.contrast(best.length, best.method, second.method)
    runner_up = f"the runner-up {second.method} with {format_value(second.metric, second.value)}"
    if contrast is None or contrast.p is None:
        return f"; {runner_up} follows, and too little is recorded to test the difference."
    value, interval = difference_text(best.metric, contrast)
    proof = f"{value} ({interval}), corrected {p_text(contrast.p)}"
    if contrast.significant:
        return f", significantly better than {runner_up}: {proof}."
    return f", not significantly better than {runner_up}: {proof}.{_remark(standings, contrast.difference.n)}"


def _remark(standings: list[Standing], num_items: int) -> str:
    """Say why nothing could be proven, or else how many share the first rank."""
    if unprovable(len(standings) - 1, num_items):
        return f" With {num_items} documents or samples no difference between {len(standings)} methods can be proven."
    tied = [one.row.method for one in standings if one.rank == 1]
    return f" {_listed(tied)} share the first rank." if len(tied) > 2 else ""


def _worthless(best: ResultRow) -> bool:
    return not lower_is_better(best.metric) and best.value == 0


def _alike(standings: list[Standing]) -> list[str]:
    best = standings[0].row.value
    return [one.row.method for one in standings if math.isclose(one.row.value, best, rel_tol=ALIKE)]


def _interval(row: ResultRow, introduction: str = "") -> str:
    interval = format_interval(row)
    return f" ({introduction}{interval})" if interval else ""


def _signed(value: float | None) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _amount(metric: str, difference: float) -> float:
    return 100 * (math.expm1(difference) if lower_is_better(metric) else difference)


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
