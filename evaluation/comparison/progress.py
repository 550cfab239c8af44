"""Progress of a comparison on the terminal, with the time left as the cells that ended let expect it."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tqdm import tqdm

BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} tok, {elapsed} gone{postfix}"


class Work(NamedTuple):
    """What a cell has to do: it takes as long with one method as with another."""

    task: str
    lengths: tuple[int, ...]


class Pace:
    """Tells how long some work will take from how long other work took.

    The same work takes what it took before; until some of it has ended, a token takes what it took in the task's other
    cells, and before those what it took in any cell.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[Work, int, float]] = []

    def learn(self, work: Work, tokens: int, seconds: float) -> None:
        """Take note of work that ended."""
        self.seen.append((work, tokens, seconds))

    def seconds(self, work: Work, tokens: int) -> float | None:
        """Return the seconds that work of so many tokens will take, None before anything is known."""
        if alike := [seconds for seen, _, seconds in self.seen if seen == work]:
            return sum(alike) / len(alike)
        known = [entry for entry in self.seen if entry[0].task == work.task] or self.seen
        counted = sum(tokens for _, tokens, _ in known)
        return tokens * sum(seconds for _, _, seconds in known) / counted if counted else None


class ComparisonBar:
    """A bar over tokens; the time left follows the `Pace` of the cells, since a token costs more at longer lengths."""

    def __init__(
        self,
        todo: Sequence[Work],
        tokens: Mapping[Work, int],
        before: Iterable[tuple[Work, float]] = (),
        at_once: int = 1,
    ) -> None:
        """Start the bar.

        Args:
            todo: the cells to run, in their order.
            tokens: tokens that a cell has to process.
            before: cells that ended in earlier calls, and their seconds.
            at_once: cells that run at the same time.
        """
        self.pace, self.waiting, self.tokens, self.at_once = Pace(), list(todo), tokens, at_once
        total = sum(tokens[work] for work in todo)
        for work, seconds in before:
            if work in self.waiting:
                self.pace.learn(work, self.tokens[work], seconds)
        self.bar = tqdm(total=total, unit_scale=True, bar_format=BAR, dynamic_ncols=True, disable=None)
        self.started, self.ended = time.monotonic(), 0
        self.expected: list[float | None] = []

    def __enter__(self) -> "ComparisonBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def start(self, method: str, work: Work) -> None:
        """Show which cell was begun last."""
        self.waiting.remove(work)
        self.waiting.insert(0, work)
        self.started = time.monotonic()
        self._expect()
        self.bar.set_description(f"{method} {work.task}", refresh=False)
        self.advance(0)

    def advance(self, tokens: int) -> None:
        """Count tokens of the cell that runs."""
        if not self.bar.disable:
            left = self.left()
            self.bar.set_postfix_str("" if left is None else f"{tqdm.format_interval(left)} left", refresh=False)
            self.bar.update(tokens)

    def end(self, method: str, work: Work, seconds: float, finished: bool) -> None:
        """Count a cell that ended as whole; one that failed says nothing about the others' time."""
        self.waiting.remove(work)
        if finished:
            self.pace.learn(work, self.tokens[work], seconds)
        self._count(work)
        if self.bar.disable:
            self._log(method, work, seconds, finished)

    def skip(self, work: Work, seconds: float | None) -> None:
        """Count a cell that another process ended, in so many seconds if it finished."""
        self.waiting.remove(work)
        if seconds is not None:
            self.pace.learn(work, self.tokens[work], seconds)
        self._count(work)

    def _count(self, work: Work) -> None:
        self.ended += self.tokens[work]
        self.bar.update(self.ended - self.bar.n)

    def _expect(self) -> None:
        self.expected = [self.pace.seconds(one, self.tokens[one]) for one in self.waiting]

    def _log(self, method: str, work: Work, seconds: float, finished: bool) -> None:
        """Write a line per cell where there is no terminal: a run of hours must show in a log."""
        self._expect()
        self.started = time.monotonic()
        left = self.left()
        rest = f", {len(self.waiting)} cells" + ("" if left is None else f" and {tqdm.format_interval(left)}") + " left"
        lengths = "/".join(map(str, work.lengths))
        outcome = "" if finished else " failed after"
        print(f"{method} {work.task} {lengths}:{outcome} {seconds:.1f} s{rest}", file=sys.stderr, flush=True)

    def left(self) -> float | None:
        """Return the seconds until the last cell ends, None before anything is known."""
        known = [seconds for seconds in self.expected if seconds is not None]
        if len(known) < len(self.expected) or not known:
            return None
        return (max(0.0, known[0] - (time.monotonic() - self.started)) + sum(known[1:])) / self.at_once
