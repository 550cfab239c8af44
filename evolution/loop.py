"""The generations of a search one by one: what is asked is recorded, budgets hold, and a record is gone on from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .budget import Budget, Price, cost_of
from .record import SearchRecord
from .strategies import Evaluation, Proposal, Request, Strategy


@dataclass(frozen=True)
class Loop:
    """Iterates over the generations whose scores are wanted: number and requests.

    Whoever iterates puts the scores that are missing of a generation into the record before taking the next one; the
    strategy is told of them then.

    Raises:
        ValueError: the budget does not pay for the first generation.
        RuntimeError: no candidate of the first generation could be scored, or none of the last.
    """

    strategy: Strategy
    """Fresh, as it was built for what is in the record."""
    record: SearchRecord
    budget: Budget
    price: Price
    """Tokens of a score at most."""
    on_told: Callable[[int, Sequence[Request]], None] = lambda generation, requests: None
    """Called after the strategy was told of a generation."""

    def __iter__(self) -> Iterator[tuple[int, Sequence[Request]]]:
        strategy = self.strategy
        yield from self._resume()
        while not strategy.done:
            requests = strategy.ask()
            self.record.propose(strategy, self.budget)
            if not strategy.final and not self._affords(requests):
                strategy.finish()
                continue
            yield strategy.generation, requests
            if strategy.done or strategy.ask() != requests:  # it was finished meanwhile
                continue
            evaluations = [self.record.evaluation(request, strategy.generation) for request in requests]
            check_first(evaluations, strategy.generation)
            strategy.tell(evaluations)
            self.on_told(strategy.generation - 1, requests)

    def _resume(self) -> Iterator[tuple[int, Sequence[Request]]]:
        """Bring the strategy to where the record stands; scores that were lost are wanted again.

        That is the generation asked for last, but if it is the final one and the budget has grown since and pays for
        more, the one before it.
        """
        last, standing = self.record.last, self.record.standing
        if last is None:
            return
        for proposal in standing:
            if proposal.generation < last.proposal.generation:
                yield proposal.generation, proposal.requests
        if last.proposal.final and standing and self.budget.exceeds(last.budget) and self._goes_on(standing[-1]):
            return
        self._restore(last.proposal)

    def _restore(self, proposal: Proposal) -> None:
        """Bring the strategy to where a generation was asked for."""
        self.record.restore(self.strategy, proposal)

    def _goes_on(self, proposal: Proposal) -> bool:
        """Go back to a generation, which may have its scores; return whether the budget pays for what follows."""
        self._restore(proposal)
        requests = self.strategy.ask()
        if not any(self.record.missing(requests).values()):
            self.strategy.tell([self.record.evaluation(request, proposal.generation) for request in requests])
            requests = self.strategy.ask()
        return not self.strategy.final and self._affords(requests)

    def _affords(self, requests: Sequence[Request]) -> bool:
        """Whether the budget allows the generation asked for and the final one after it."""
        generation, price, reserved = self.strategy.generation, self.price, self.strategy.reserved
        if self.budget.allows(self.record.rows, generation, requests, reserved, price):
            return True
        if generation == 0:
            least = cost_of(requests, price) + sum(price(document, False) for document in reserved)
            raise ValueError(
                f"max_scored_tokens must be at least {least} for the first and the last "
                f"generation, got {self.budget.max_scored_tokens}; raise it and continue with --resume, or choose "
                "smaller hyper-parameters in a new folder"
            )
        return False


def check_first(evaluations: Sequence[Evaluation], generation: int) -> None:
    """Refuse a first generation of failures.

    Raises:
        RuntimeError: the generation is number 0, and none of its candidates could be scored.
    """
    if generation == 0 and all(evaluation.failed for evaluation in evaluations):
        raise RuntimeError(
            f"the first generation must hold a candidate that can be scored, got {len(evaluations)} failures, of "
            f"which the first: {evaluations[0].error}; mend that and start in a new run folder"
        )
