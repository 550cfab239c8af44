"""The generations that a search asked for, one per line of `proposals.jsonl`, each with the state to go on from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..rope.lines import checksum
from .budget import Budget
from .strategies import Proposal


@dataclass(frozen=True)
class LoggedProposal:
    """One line."""

    proposal: Proposal
    budget: Budget
    """Of the run that asked."""

    def to_line(self) -> str:
        """Return the line, with a checksum."""
        payload = {"budget": self.budget.to_dict(), **self.proposal.to_dict()}
        return json.dumps({"crc32": checksum(payload), "proposal": payload}, allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: bytes) -> "LoggedProposal":
        """Undo `to_line`.

        Raises:
            ValueError, KeyError, TypeError: the line is damaged.
        """
        parsed = json.loads(line)
        payload = parsed["proposal"]
        if not line.endswith(b"\n") or parsed["crc32"] != checksum(payload):
            raise ValueError("checksum differs")
        return cls(Proposal.from_dict(payload), Budget(**payload["budget"]))


class Proposals(NamedTuple):
    """The entries of a log that are complete."""

    lines: list[LoggedProposal]
    """All lines before the first that is damaged."""
    end: int
    """Length in bytes of the file up to there."""
    damaged: bool
    """Whether more followed than a line that was never finished."""


def read_proposals(path: Path) -> Proposals:
    """Read a log up to its first damaged line."""
    lines: list[LoggedProposal] = []
    end = 0
    raw = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for line in raw:
        try:
            lines.append(LoggedProposal.from_line(line))
        except (ValueError, KeyError, TypeError):
            break
        end += len(line)
    torn = len(raw) - len(lines) == 1 and not raw[-1].endswith(b"\n")
    return Proposals(lines, end, len(lines) < len(raw) and not torn)


def standing(lines: Sequence[LoggedProposal]) -> list[Proposal]:
    """Return the generations that the search went through: the last of each number but for those that are final.

    A final generation that a larger budget put off is none of them, and neither is one that the budget dropped if the
    search has ended.
    """
    by_number = {line.proposal.generation: line.proposal for line in lines if not line.proposal.final}
    return [by_number[number] for number in sorted(by_number)]
