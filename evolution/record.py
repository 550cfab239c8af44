"""What a search asked for and the scores it got, in memory; `RunFolder` has the same on disk."""

from collections.abc import Sequence
from dataclasses import replace

from .budget import Budget
from .history import HistoryRow, ScoreKey
from .proposals import LoggedProposal, standing
from .space import Genome
from .strategies import Evaluation, Proposal, Request, Strategy
from .strategies.base import PROBE

ASKED_AGAIN = "asked for again"
"""Error of a row that takes a failed score back: it is missing until a later row has it."""


class SearchRecord:
    """Scores and generations of one search.

    Args:
        rows: scores there are already.
        lines: generations asked for already.
    """

    def __init__(self, rows: Sequence[HistoryRow] = (), lines: Sequence[LoggedProposal] = ()) -> None:
        self._rows: dict[ScoreKey, HistoryRow] = {}
        self._found: dict[tuple[int, bool], dict[int, dict[Genome, HistoryRow]]] = {}
        """The rows of a document, without or with derivatives, by generation."""
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
        """Tokens sent through the model, backward passes counted twice, those of scores made again each time."""
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

        A document on which everybody fails tells nothing of anybody, and is left out of the answer; all are in it if
        there is no other. Which documents these are is decided once for the whole run, so that candidates of different
        generations are compared on the same: by the first generation of the search, or for documents that it has no
        scores of by the first with two candidates there. Where none of them had a loss there, the document stays left
        out. Until it is decided, as where gradients or probes alone were scored, one loss up to then is enough. Scores
        of later generations never matter, so that a resumed run tells the same.

        Args:
            request: what was asked for.
            generation: in which it was asked for.
        """
        asked = [self._rows[request.genome, document, request.gradient] for document in request.documents]
        rows = [row for row in asked if self._usable(row, generation)] or asked
        left_out = frozenset(request.documents) - {row.document for row in rows}
        if errors := [row.error for row in rows if row.error is not None]:
            return Evaluation(request, error=errors[0], left_out=left_out)
        nats, tokens = tuple(row.nats or 0.0 for row in rows), tuple(row.tokens for row in rows)
        gradients = tuple(row.gradient for row in rows if row.gradient is not None)
        return Evaluation(request, nats, tokens, gradients=gradients, left_out=left_out)

    def _usable(self, row: HistoryRow, generation: int) -> bool:
        """Whether the document of a row counts in a generation."""
        found = self._found[row.key[1:]]
        first = found.get(0, {})
        if any(one.origin != PROBE and not one.differentiated for one in first.values()):
            chosen = [first]
        else:
            several = min((n for n, own in found.items() if n <= generation and len(own) > 1), default=None)
            early = [own for n, own in found.items() if n <= generation]
            chosen = early if several is None else [found[several]]
        return any(one.error is None for own in chosen for one in own.values())

    def append(self, rows: Sequence[HistoryRow]) -> None:
        """Add the rows of one unit."""
        self._take(rows)

    def ask_again(self, proposal: Proposal) -> None:
        """Take the failed scores of a choice back if all its candidates failed, so that they are missing.

        What was the matter may be mended, such as workers that were lost. That they are taken back is recorded, all at
        once: however a run ends that makes them again, the next one makes those that are left.
        """
        if self.missing(proposal.requests):
            return
        if not all(self.evaluation(request, proposal.generation).failed for request in proposal.requests):
            return
        keys = [(one.genome, document, one.gradient) for one in proposal.requests for document in one.documents]
        failed = [self._rows[key] for key in dict.fromkeys(keys) if self._rows[key].error is not None]
        parts = zip(failed, reversed(range(len(failed))), strict=True)
        self.append([replace(row, error=ASKED_AGAIN, forwarded=0, seconds=0.0, rows_left=left) for row, left in parts])

    def unlogged(self) -> dict[int, dict[Genome, str]]:
        """Return candidates with scores that no generation on record asks for, with origins, by generation.

        There are some where the log of generations was cut.
        """
        logged = {request.genome for line in self._lines for request in line.proposal.requests}
        found: dict[int, dict[Genome, str]] = {}
        for row in self._rows.values():
            if row.genome not in logged:
                found.setdefault(row.generation, {})[row.genome] = row.origin
        return found

    def _take(self, rows: Sequence[HistoryRow]) -> None:
        """Add rows; of one that is there already the later one counts."""
        for row in rows:
            self._scored_tokens += row.forwarded
            self._genomes.add(row.genome)
            if known := self._rows.pop(row.key, None):
                del self._found[row.key[1:]][known.generation][row.genome]
            if row.error != ASKED_AGAIN:
                self._rows[row.key] = row
                self._found.setdefault(row.key[1:], {}).setdefault(row.generation, {})[row.genome] = row

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
