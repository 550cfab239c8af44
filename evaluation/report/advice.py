"""Which configuration of a sweep to take at each length: chosen on some documents, tested on others.

The best of hundreds of configurations is partly lucky on the documents that chose it. So the best of each method
goes on to documents and prompts that chose nothing, and the best of all is compared there with the best of each other
method. The number of comparisons is corrected for; that of configurations needs no correction, as the choice is made.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..comparison.results import ResultRow
from .document import Entry, Table, plain_row
from .metrics import format_interval, format_value, lower_is_better, measure, task_title
from .points import finalists
from .ranking import Contrast, compare_with, scored
from .runs import Evaluation
from .verdict import difference_text, p_text, unprovable


class Advice(NamedTuple):
    """The choice of one task, metric and length, and its test."""

    chosen: list[ResultRow]
    """Best configuration of each method on the documents that choose, the best of all first."""
    tested: dict[str, ResultRow]
    """The same configurations on other documents or prompts, by configuration; empty where there were none."""
    contrasts: list[Contrast]
    """The best of all, first, against each other there."""

    @property
    def best(self) -> ResultRow:
        """The choice, as the documents that chose it have it."""
        return self.chosen[0]

    @property
    def clear(self) -> bool:
        """Whether the choice is better than the best of every other method, on documents that did not choose it."""
        others = len(self.chosen) - 1
        return others > 0 and len(self.contrasts) == others and all(self.beats(one) for one in self.contrasts)

    def beats(self, contrast: Contrast) -> bool:
        """Tell whether the choice is proven better than the other of a contrast."""
        value = contrast.difference.value
        return contrast.significant and (value < 0 if lower_is_better(self.best.metric) else value > 0)

    def loses(self, contrast: Contrast) -> bool:
        """Tell whether the choice is proven worse than the other of a contrast."""
        return contrast.significant and not self.beats(contrast)

    @property
    def rival(self) -> Contrast | None:
        """The contrast that decides: with the best of the others on the documents of the test."""
        sign = 1 if lower_is_better(self.best.metric) else -1
        return max(self.contrasts, key=lambda one: sign * one.difference.value, default=None)


def advise(
    tuning: Evaluation,
    held_out: Evaluation | None,
    task: str,
    metric: str,
    length: int,
    ranked_by: tuple[str, str],
    seed: int,
) -> Advice:
    """Return the choice of one task and metric at one length, tested on what did not choose.

    Items of the test that the choice was made on, too, as in tasks with a fixed set of questions, are left out of it.

    Args:
        tuning: every configuration on the documents that choose.
        held_out: the best of each method on others; None: there is no test.
        task: name of the task.
        metric: its metric.
        length: in tokens.
        ranked_by: task and metric that decide between equal configurations.
        seed: of the resampling.
    """
    chosen = finalists(tuning.rows, task, metric, length, ranked_by)
    names = {row.method for row in chosen}
    seen = scored(chosen, tuning.rows, tuning.records)
    known = {item for found in seen.values() for item in found}
    rows = [] if held_out is None else held_out.rows
    tested = [row for row in rows if (row.task, row.metric, row.length) == (task, metric, length)]
    tested = [row for row in tested if row.method in names]
    records = {} if held_out is None else held_out.records
    behind = {
        name: {item: score for item, score in found.items() if item not in known}
        for name, found in scored(tested, rows, records).items()
    }
    new = {row.method: row for row in tested if behind.get(row.method)}
    contrasts = compare_with(chosen[0].method, behind, length, seed) if chosen[0].method in new else []
    return Advice(chosen, new, contrasts)


def sentence(advice: Advice) -> str:
    """Return in one sentence what to take at a length, and how sure that is."""
    best = advice.best
    where = f"{task_title(best.task)} at {best.length:,} tokens"
    if not lower_is_better(best.metric) and best.value == 0:
        return f"{where}: no clear winner, because no configuration gets above 0 %."
    value = format_value(best.metric, best.value)
    rival = advice.rival
    if rival is None or best.method not in advice.tested:
        return (
            f"{where}: no clear winner, because the choice was not tested on other {things(best.metric)}; "
            f"{best.method} has the best {measure(best.task, best.metric)} on those that chose it, {value}, which is "
            "optimistic."
        )
    evidence = _evidence(advice, rival)
    if advice.clear:
        return f"{where}: take {best.method}: {evidence}."
    return f"{where}: no clear winner: {best.method}, which was chosen, has {evidence}.{_remark(advice, rival)}"


def things(metric: str) -> str:
    """Return what values of a metric are averages over."""
    return "documents" if lower_is_better(metric) else "samples"


def _evidence(advice: Advice, rival: Contrast) -> str:
    """Return the value of the choice in the test, and its difference to the best of the others there."""
    row, other = advice.tested[advice.best.method], advice.tested[rival.second]
    interval = format_interval(row)
    value = f"{format_value(row.metric, row.value)}{f' ({interval})' if interval else ''}"
    difference, ends = difference_text(row.metric, rival)
    proof = "not tested" if rival.p is None else f"corrected {p_text(rival.p)}"
    against = f"{rival.second} with {format_value(other.metric, other.value)}"
    numbers = f"{difference}{f', {ends}' if ends else ''}; {proof}"
    verdict = "not told apart from"
    if advice.clear:
        verdict = "better than the best of each other method, of which the next is"
    elif rival.significant:
        verdict = "worse than" if advice.loses(rival) else "better than"
    return f"{value} on {rival.difference.n} other {things(row.metric)}, {verdict} {against} ({numbers})"


def _remark(advice: Advice, rival: Contrast) -> str:
    """Say why nothing could be proven, or else what was."""
    if unprovable(len(advice.contrasts), rival.difference.n):
        few = f"{rival.difference.n} {things(advice.best.metric)}"
        return f" With {few} no difference between {len(advice.chosen)} methods can be proven."
    untested = [row.method for row in advice.chosen if row.method not in advice.tested]
    if untested:
        return f" {', '.join(untested)} has no score there."
    beaten = [one.second.partition(":")[0] for one in advice.contrasts if advice.beats(one)]
    return f" It is better than the best of {', '.join(beaten)}." if beaten else ""


def advice_table(advice: Advice, folded: bool) -> Table:
    """Return the best configuration of each method: where it was chosen, where it was tested, and the test."""
    contrasts = {one.second: one for one in advice.contrasts}
    lines = []
    for row in advice.chosen:
        tested = advice.tested.get(row.method)
        value = Entry("–") if tested is None else Entry(format_value(row.metric, tested.value), format_interval(tested))
        first = row is advice.best
        value = value._replace(mark="best" if first and advice.clear else "tie" if first else "")
        contrast = contrasts.get(row.method)
        if contrast is None:
            lines.append(
                [Entry(row.method), *plain_row(format_value(row.metric, row.value)), value, *plain_row(*"–––")]
            )
            continue
        difference, interval = difference_text(row.metric, contrast)
        p = "–" if contrast.p is None else p_text(contrast.p)
        lines.append(
            [
                Entry(row.method),
                Entry(format_value(row.metric, row.value)),
                value,
                Entry(difference, interval),
                *plain_row(p, contrast.difference.n),
            ]
        )
    best = advice.best
    caption = f"{task_title(best.task)} at {best.length:,} tokens: the best configuration of each method"
    header = ["configuration", "where chosen", "where tested", "choice against it", "corrected p", "n"]
    return Table(caption, header, lines, folded=folded)


def advice_rows(advices: Sequence[Advice]) -> list[dict[str, object]]:
    """Return every choice and its test, as a CSV holds them."""
    return [
        {
            "task": row.task,
            "metric": row.metric,
            "length": row.length,
            "configuration": row.method,
            "chosen": row is advice.best,
            "clear_winner": row is advice.best and advice.clear,
            "tuning_value": row.value,
            "test_value": advice.tested[row.method].value if row.method in advice.tested else None,
            "difference": next((c.difference.value for c in advice.contrasts if c.second == row.method), None),
            "p_holm": next((c.p for c in advice.contrasts if c.second == row.method), None),
        }
        for advice in advices
        for row in advice.chosen
    ]
