"""The generations of a search one by one: what is asked is recorded, budgets hold, and a record is gone on from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .budget import Budget, Price, cost_of, cost_of_reserve
from .record import SearchRecord
from .strategies import Evaluation, Proposal, Request, Strategy


@dataclass(frozen=True)
class Loop:
    """Iterates over the generations whose scores are wanted: number and requests.

    Whoever iterates puts the scores that are missing of a generation into the record before taking the next one; the
    strategy is told of them then.

    Raises:
        ValueError: the budget does not pay for the first generation, or not for the choice among the finalists, of
            which scores were lost or failed.
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
            if not self._affords(requests):
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

        So are the failed scores of a choice that all finalists failed in. The record stands at the generation asked for
        last, but if that is the final one and the budget has grown since and pays for more, at the one before it.
        """
        last, standing = self.record.last, self.record.standing
        if last is None:
            return
        if last.proposal.final:
            self.record.ask_again(last.proposal)
            self._check_choice(last.proposal.requests)
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
        """Whether the budget allows requests and the final generation after them; that one is scored or refused."""
        record, generation, price, reserved = self.record, self.strategy.generation, self.price, self.strategy.reserved
        if self.strategy.final:
            self._check_choice(requests)
            return True
        if self.budget.allows(record.rows, record.scored_tokens, generation, requests, reserved, price):
            return True
        if generation == 0:
            least = record.scored_tokens + self._unpaid(requests) + cost_of_reserve(reserved, price)
            raise ValueError(
                f"max_scored_tokens must be at least {least} for the first and the last "
                f"generation, got {self.budget.max_scored_tokens}; raise it and continue with --resume, or choose "
                "smaller hyper-parameters in a new folder"
            )
        return False

    def _check_choice(self, requests: Sequence[Request]) -> None:
        """Refuse a choice among finalists that was paid for and is to be paid for again, if the budget can't."""
        limit, planned = self.budget.max_scored_tokens, self._unpaid(requests)
        if limit is not None and planned and (least := self.record.scored_tokens + planned) > limit:
            raise ValueError(
                f"max_scored_tokens must be at least {least} for the choice among the finalists, of which scores were "
                f"lost or failed, got {limit}; raise it and continue with --resume"
            )

    def _unpaid(self, requests: Sequence[Request]) -> int:
        """Return the tokens that the missing scores of requests cost at most."""
        return cost_of(requests, self.price, {row.key for row in self.record.rows})


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
