"""What a search asked for and the scores it got, in memory; `RunFolder` has the same on disk."""

from collections.abc import Sequence

from .budget import Budget
from .history import HistoryRow, ScoreKey
from .proposals import LoggedProposal, standing
from .space import Genome
from .strategies import Evaluation, Proposal, Request, Strategy


class SearchRecord:
    """Scores and generations of one search.

    Args:
        rows: scores there are already.
        lines: generations asked for already.
    """

    def __init__(self, rows: Sequence[HistoryRow] = (), lines: Sequence[LoggedProposal] = ()) -> None:
        self._rows: dict[ScoreKey, HistoryRow] = {}
        self._first_loss: dict[tuple[int, bool], int] = {}
        self._genomes: set[Genome] = set()
        self._scored_tokens = 0
        self._take(rows)
        self._lines = list(lines)
        self._current: Proposal | None = None

    @property
    def rows(self) -> Sequence[HistoryRow]:
        """Every score, in the order it was made."""
        return tuple(self._rows.values())

    @property
    def candidates(self) -> int:
        """Distinct candidates with a score."""
        return len(self._genomes)

    @property
    def scored_tokens(self) -> int:
        """Tokens sent through the model, backward passes counted twice."""
        return self._scored_tokens

    @property
    def last(self) -> LoggedProposal | None:
        """The generation asked for last."""
        return self._lines[-1] if self._lines else None

    @property
    def standing(self) -> list[Proposal]:
        """The generations that the search went through, without the final one."""
        return standing(self._lines)

    def missing(self, requests: Sequence[Request]) -> dict[tuple[int, bool], dict[Genome, str]]:
        """Return what the requests need and nobody has scored: (document, with gradient) to genomes to origin."""
        calls: dict[tuple[int, bool], dict[Genome, str]] = {}
        for request in requests:
            for document in request.documents:
                if (request.genome, document, request.gradient) not in self._rows:
                    calls.setdefault((document, request.gradient), {}).setdefault(request.genome, request.origin)
        return calls

    def evaluation(self, request: Request, generation: int) -> Evaluation:
        """Return the answer to a request whose documents are all scored.

        A document on which every candidate failed up to then tells nothing of this one, and is left out of the answer;
        all are in it if there is no other.

        Args:
            request: what was asked for.
            generation: in which it was asked for.
        """
        asked = [self._rows[request.genome, document, request.gradient] for document in request.documents]
        rows = [row for row in asked if self._first_loss.get(row.key[1:], generation + 1) <= generation] or asked
        left_out = frozenset(request.documents) - {row.document for row in rows}
        if errors := [row.error for row in rows if row.error is not None]:
            return Evaluation(request, error=errors[0], left_out=left_out)
        nats, tokens = tuple(row.nats or 0.0 for row in rows), tuple(row.tokens for row in rows)
        gradients = tuple(row.gradient for row in rows if row.gradient is not None)
        return Evaluation(request, nats, tokens, gradients=gradients, left_out=left_out)

    def append(self, rows: Sequence[HistoryRow]) -> None:
        """Add the rows of one unit."""
        self._take(rows)

    def _take(self, rows: Sequence[HistoryRow]) -> None:
        """Add rows; of one that is there already the later one counts, and it was paid for once."""
        for row in rows:
            known = self._rows.get(row.key)
            self._scored_tokens += row.forwarded - (0 if known is None else known.forwarded)
            self._rows[row.key] = row
            self._genomes.add(row.genome)
            if row.error is None:
                first = self._first_loss.get(row.key[1:], row.generation)
                self._first_loss[row.key[1:]] = min(first, row.generation)

    def propose(self, strategy: Strategy, budget: Budget) -> None:
        """Record what the strategy asks for, unless it was recorded before."""
        asked = tuple(strategy.ask())
        now, current = (strategy.generation, strategy.final, asked), self._current
        if current is not None and now == (current.generation, current.final, current.requests):
            return
        line = LoggedProposal(Proposal(*now, strategy.state()), budget)
        self._log(line)
        self._lines.append(line)
        self._current = line.proposal

    def restore(self, strategy: Strategy, proposal: Proposal) -> None:
        """Bring a strategy to where a generation was asked for; it is told of those before it that have all scores."""
        earlier = [one for one in self.standing if one.generation < proposal.generation]
        scored = [one for one in earlier if not self.missing(one.requests)]
        told = [[self.evaluation(request, one.generation) for request in one.requests] for one in scored]
        strategy.restore(proposal, told)
        self._current = proposal

    def _log(self, line: LoggedProposal) -> None:
        """Keep a line where it outlives the process, if there is such a place."""
