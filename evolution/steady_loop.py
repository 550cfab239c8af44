"""The candidates of a steady-state search one by one: the next is bred while those before it are being scored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .loop import Loop, check_first
from .space import Genome
from .strategies import Proposal, Request, SteadyStrategy


@dataclass(frozen=True)
class SteadyLoop(Loop):
    """Iterates over the generations whose scores are wanted, as `Loop`, but does not wait for one before the next.

    Whoever iterates takes the next generation as soon as a device is free. One that comes a second time is waited for:
    all of its scores are in the record before the one that follows is taken. No candidate is told before the first
    generation is, which decides on which documents they are compared.
    """

    strategy: SteadyStrategy
    open: dict[int, Sequence[Request]] = field(default_factory=dict, init=False)
    """Generations that were asked for and not told yet, by number."""

    def __iter__(self) -> Iterator[tuple[int, Sequence[Request]]]:
        strategy = self.strategy
        yield from self._resume()
        unlogged = self.record.unlogged()
        while not strategy.done:
            requests = self._ask(unlogged)
            if strategy.final and self.open:
                yield from list(self.open.items())
                self._tell_scored()
                strategy.finish()  # so that the choice is among all of them
                continue
            self.record.propose(strategy, self.budget)
            pending = [request for one in (*self.open.values(), requests) for request in one]
            if not self._affords(pending):
                strategy.finish()
                continue
            asked = strategy.generation, requests
            yield asked
            if strategy.final:
                yield asked
                self._tell(*asked)
            else:
                self._put_off(*asked)
                self._tell_scored()

    def _ask(self, unlogged: dict[int, dict[Genome, str]]) -> list[Request]:
        """Return the next generation: where its log was cut the one that was scored then, and no new child."""
        requests = self.strategy.ask()
        scored = unlogged.pop(self.strategy.generation, {})
        if not self.strategy.final and not any(request.genome in scored for request in requests):
            self.strategy.recall(scored)
        return self.strategy.ask()

    def _resume(self) -> Iterator[tuple[int, Sequence[Request]]]:
        for asked in super()._resume():
            yield asked
            if asked[0] == 0:
                yield asked

    def _restore(self, proposal: Proposal) -> None:
        super()._restore(proposal)
        self.open.clear()
        for one in self.record.standing:
            if one.generation < proposal.generation and self.record.missing(one.requests):
                self._put_off(one.generation, one.requests)

    def _put_off(self, generation: int, requests: Sequence[Request]) -> None:
        self.strategy.put_off(requests)
        self.open[generation] = requests

    def _tell_scored(self) -> None:
        """Tell the strategy of those whose scores are there, of none before the first generation."""
        if self.record.missing(self.open.get(0, ())):
            return
        for generation, requests in list(self.open.items()):
            if not self.record.missing(requests):
                del self.open[generation]
                self._tell(generation, requests)

    def _tell(self, generation: int, requests: Sequence[Request]) -> None:
        evaluations = [self.record.evaluation(request, generation) for request in requests]
        check_first(evaluations, generation)
        self.strategy.tell(evaluations)
        self.on_told(generation, requests)
