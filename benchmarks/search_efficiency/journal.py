"""Finished runs, one JSON line each, and what was planned when."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Key(NamedTuple):
    """What a run is."""

    model: str
    ratio: int
    row: str
    seed: int


@dataclass(frozen=True)
class Record:
    """What is kept of a run."""

    model: str
    ratio: int
    row: str
    seed: int
    model_digest: str
    heldout_digest: str
    seconds: float
    """Wall time, model and documents at hand, other processes beside it."""
    tokens: int
    """Scored tokens."""
    scores: int
    lambdas: list[float]
    attention_factor: float
    start_tokens: int
    losses: list[float]
    """Of the result on each held-out document, nats per token."""
    trajectory: list[tuple[int, list[float]]]
    """Tokens spent, and the losses of the best candidate known then."""
    device: str = ""
    """What it ran on; where a run does not say so, that of the header before it."""
    gain: dict[str, float | None] | None = None
    """As a default search told it: mean, low, high (nats per token) and confidence; empty: it found nothing to compare
    with a baseline. None where it was not kept."""
    over: list[float] | None = None
    """Held-out losses of the best baseline of its selection."""
    commit: str = ""
    """Of the code, as the header before it says."""

    @property
    def origin(self) -> str:
        """Device and commit, which ends with `-dirty` where the checkout had changes."""
        short, dirty, _ = self.commit.partition("-dirty")
        return f"{self.device}, commit {short[:9]}{dirty}" if self.commit else self.device

    @property
    def key(self) -> Key:
        """What the run is."""
        return Key(self.model, self.ratio, self.row, self.seed)


class Failure(NamedTuple):
    """A run that ended in an error."""

    key: Key
    error: str


class Journal(NamedTuple):
    """The content of journals."""

    headers: list[dict[str, Any]]
    """What each use of the tool ran on and planned."""
    records: dict[Key, Record]
    failures: dict[Key, str]
    """Runs that failed and were not finished since."""

    @property
    def missing(self) -> list[Key]:
        """What was planned and is not there."""
        planned = dict.fromkeys(Key(*key) for header in self.headers for key in header["planned"])
        return [key for key in planned if key not in self.records]


def append(path: Path, line: dict[str, Any] | Record | Failure) -> None:
    """Add a header, a finished run or a failed one."""
    if isinstance(line, Record):
        line = {"run": {name: value for name, value in asdict(line).items() if name != "commit"}}
    elif isinstance(line, Failure):
        line = {"failed": line.key, "error": line.error}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")


def read(paths: Iterable[Path]) -> Journal:
    """Read journals; of runs that are there twice the later one counts. A line that was never finished is left out.

    Raises:
        ValueError: runs of one name are of different models or documents.
    """
    journal = Journal([], {}, {})
    for path in paths:
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            _take(line, journal)
    _check(list(journal.records.values()))
    return journal


def _take(line: dict[str, Any], journal: Journal) -> None:
    if "run" in line:
        header = journal.headers[-1] if journal.headers else {}
        known = {"device": header["device"]} if header else {}
        record = Record(**{**known, **line["run"], "commit": header.get("commit") or ""})
        journal.records[record.key] = record
        journal.failures.pop(record.key, None)
    elif "failed" in line:
        key = Key(*line["failed"])
        if key not in journal.records:
            journal.failures[key] = line["error"]
    else:
        journal.headers.append(line)


def _check(records: Sequence[Record]) -> None:
    models: dict[str, str] = {}
    heldout: dict[tuple[str, int], str] = {}
    for one in records:
        first = models.setdefault(one.model, one.model_digest)
        judged = heldout.setdefault((one.model, one.ratio), one.heldout_digest)
        if (first, judged) != (one.model_digest, one.heldout_digest):
            raise ValueError(
                f"runs of {one.model} must be of one model and one set of held-out documents, got {one.model_digest} "
                f"and {one.heldout_digest} at {one.ratio}x beside {first} and {judged}; keep them in journals apart"
            )
