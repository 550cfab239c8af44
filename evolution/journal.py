"""One run folder: `config.yaml`, append-only `history.jsonl`, atomic `checkpoint.json`, and a lock.

Every score is on disk before the next one is asked for, so a killed run loses at most the call it was in. Scores that
came from one call of the objective are kept or dropped together: a model may round differently in a smaller batch, and
a resumed run has to give the same numbers as one that was never stopped.
"""

import errno
import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import yaml

from ..rope.files import write_atomically
from .space import Genome
from .strategies import GRADIENT_SCORES, Evaluation, Gradient, Request, Strategy

FORMAT = "longrope-search"
VERSION = 1


@dataclass(frozen=True)
class HistoryRow:
    """One candidate scored on one document."""

    generation: int
    """Generation that asked first for this score, from 0."""
    origin: str
    """Where the candidate came from: `seed:yarn`, `mutation`, ..."""
    steps: tuple[int, ...]
    """Rescale factors in grid steps, length P."""
    start_tokens: int
    """n_hat in tokens."""
    document: int
    """Index of the search document."""
    nats: float | None
    """Summed loss in nats; None if the score failed."""
    tokens: int
    """Tokens the loss is summed over; 0 if the score failed."""
    forwarded: int
    """Tokens sent through the model for it."""
    error: str | None
    """Why the score failed, None if it did not."""
    seconds: float
    """Wall time of the call, divided by its candidates."""
    rows_left: int
    """Rows of the same call that follow; 0 ends a call."""
    attention: int | None = None
    """Attention factor in grid steps; None where a policy fixes it."""
    critical_dimension: int | None = None
    """Pair below which the factors follow NTK; None where all are free."""
    differentiated: bool = False
    """Whether derivatives were asked for, too."""
    gradient: Gradient | None = None
    """The derivatives; None if they were not asked for or the score failed."""

    @property
    def num_scores(self) -> int:
        """What the row cost, in scores (one forward each)."""
        return GRADIENT_SCORES if self.differentiated else 1

    @property
    def key(self) -> "ScoreKey":
        """What was asked for."""
        return self.genome, self.document, self.differentiated

    @property
    def genome(self) -> Genome:
        """The candidate."""
        return Genome(self.steps, self.start_tokens, self.attention, self.critical_dimension)


ScoreKey = tuple[Genome, int, bool]
"""A candidate, a document, and whether derivatives are wanted, too."""


class RunFolder:
    """The record of one search, opened by one process at a time; use it in a `with` statement.

    Args:
        path: of the folder; made if missing.
        config: the resolved configuration, of plain YAML values; a resumed run must have the same.
        resume: continue the run in the folder, if there is one.

    Raises:
        ValueError: the folder holds a run and `resume` is not set, or its run has another configuration, is damaged, or
            is in use. Nothing in the folder is changed then.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path = Path(path)
        names = ("config.yaml", "history.jsonl", "checkpoint.json")
        self._config, self._history, self._checkpoint = (self.path / name for name in names)
        exists = any((self.path / name).exists() for name in names)
        if exists and not resume:
            raise ValueError(
                f"the run folder must be new, got {self.path}, which holds a run; continue it with --resume or choose "
                "another folder"
            )
        self._lock = _lock(self.path)
        try:
            if exists:
                self._check_config(config)
            rows, self._end = read_history(self._history)
            self._state = self._read_checkpoint(len(rows))
            if not exists:
                self._save(self._config, yaml.safe_dump(dict(config), sort_keys=False))
        except BaseException:
            self.close()
            raise
        self._rows: dict[ScoreKey, HistoryRow] = {row.key: row for row in rows}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock.close()

    @property
    def rows(self) -> Sequence[HistoryRow]:
        """Every score, in the order it was made."""
        return tuple(self._rows.values())

    def missing(self, requests: Sequence[Request]) -> dict[tuple[int, bool], dict[Genome, str]]:
        """Return what the requests need and nobody has scored: (document, with gradient) to genomes to origin."""
        calls: dict[tuple[int, bool], dict[Genome, str]] = {}
        for request in requests:
            for document in request.documents:
                if (request.genome, document, request.gradient) not in self._rows:
                    calls.setdefault((document, request.gradient), {}).setdefault(request.genome, request.origin)
        return calls

    def evaluation(self, request: Request) -> Evaluation:
        """Return the answer to a request whose documents are all scored."""
        rows = [self._rows[request.genome, document, request.gradient] for document in request.documents]
        if errors := [row.error for row in rows if row.error is not None]:
            return Evaluation(request, error=errors[0])
        nats, tokens = tuple(row.nats or 0.0 for row in rows), tuple(row.tokens for row in rows)
        gradients = tuple(row.gradient for row in rows if row.gradient is not None)
        return Evaluation(request, nats, tokens, gradients=gradients)

    def append(self, rows: Sequence[HistoryRow]) -> None:
        """Add the rows of one call to the history and wait until the disk has them.

        Raises:
            OSError: the disk is full or fails; the history is as it was.
        """
        data = "".join(json.dumps(asdict(row), allow_nan=False) + "\n" for row in rows).encode()
        with open(self._history, "ab", buffering=0) as file:
            file.truncate(self._end)  # of a call that a killed run left unfinished
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(self._end)
                raise _cannot_save(self._history, error) from error
        self._end += len(data)
        self._rows |= {row.key: row for row in rows}

    def save_checkpoint(self, strategy: Strategy) -> None:
        """Save the state of the strategy, whole or not at all.

        Raises:
            OSError: the disk is full or fails; the last checkpoint is as it was.
        """
        payload = {"format": FORMAT, "version": VERSION, "history_rows": len(self._rows), "state": strategy.state()}
        self._save(self._checkpoint, json.dumps(payload, allow_nan=False) + "\n")

    def restore(self, strategy: Strategy) -> None:
        """Bring a fresh strategy to the last checkpoint, if there is one.

        Raises:
            ValueError: the checkpoint does not fit the strategy.
        """
        if self._state is None:
            return
        try:
            strategy.restore(self._state)
        except (KeyError, TypeError, ValueError) as error:
            raise self._bad_checkpoint(f"{type(error).__name__}: {error}") from error

    def _check_config(self, config: Mapping[str, Any]) -> None:
        try:
            saved = yaml.safe_load(self._config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"config.yaml must be readable to resume, got {error}; restore it") from error
        now = yaml.safe_load(yaml.safe_dump(dict(config)))
        if differing := _differences(saved, now):
            raise ValueError(
                f"the config must be that of the run in {self.path}, got {'; '.join(differing[:3])}; use the same "
                "settings or choose another folder"
            )

    def _read_checkpoint(self, num_rows: int) -> dict[str, Any] | None:
        if not self._checkpoint.exists():
            return None
        try:
            payload = json.loads(self._checkpoint.read_text(encoding="utf-8"))
            header, needed, state = (payload["format"], payload["version"]), payload["history_rows"], payload["state"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._bad_checkpoint(f"{type(error).__name__}: {error}") from error
        if header != (FORMAT, VERSION):
            raise self._bad_checkpoint(f"format and version {header}")
        if num_rows < needed:
            raise ValueError(
                f"history.jsonl must hold the {needed} scores of the checkpoint, got {num_rows} in {self.path}; "
                "restore it, or delete checkpoint.json to replay what is left and score the rest again"
            )
        return state

    def _bad_checkpoint(self, found: str) -> ValueError:
        return ValueError(
            f"{self._checkpoint} must hold a state of this search, got {found}; delete it and resume: the search is "
            "replayed from history.jsonl without scoring anything again"
        )

    def _save(self, path: Path, text: str) -> None:
        try:
            write_atomically(path, text)
        except OSError as error:
            raise _cannot_save(path, error) from error


def read_history(path: Path) -> tuple[list[HistoryRow], int]:
    """Return the rows of all finished calls, and the length in bytes of the file up to there.

    Raises:
        ValueError: a line other than the last is no row.
    """
    rows: list[HistoryRow] = []
    num_finished = end = position = 0
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_parse_row(line))
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break  # torn: the run was killed while it wrote
            raise ValueError(
                f"{path} must hold one score per line, got a damaged line {number} ({error}); restore the file"
            ) from error
        position += len(line)
        if rows[-1].rows_left == 0:
            num_finished, end = len(rows), position
    return rows[:num_finished], end


def _parse_row(line: bytes) -> HistoryRow:
    if not line.endswith(b"\n"):
        raise ValueError("no end of line")
    payload = json.loads(line)
    payload["steps"] = tuple(payload["steps"])
    if payload.get("gradient") is not None:
        payload["gradient"] = Gradient.from_dict(payload["gradient"])
    payload.setdefault("forwarded", payload["tokens"] + 1)  # older histories: windows, all scored but the first token
    return HistoryRow(**payload)


def _lock(path: Path) -> IO[str]:
    path.mkdir(parents=True, exist_ok=True)
    lock = open(path / ".lock", "w")  # noqa: SIM115 - open as long as the run
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise ValueError(
            f"the run folder must be used by one search at a time, got {path}, which another process holds; "
            "wait for it or choose another folder"
        ) from error
    return lock


def _differences(saved: Any, now: Any, key: str = "") -> list[str]:
    """Return one phrase per value that differs, with its dotted key."""
    if isinstance(saved, dict) and isinstance(now, dict):
        names = dict.fromkeys([*saved, *now])
        parts = (_differences(saved.get(name), now.get(name), f"{key}.{name}".lstrip(".")) for name in names)
        return [phrase for part in parts for phrase in part]
    return [] if saved == now else [f"{key or 'config'} = {now!r} where the run has {saved!r}"]


def _cannot_save(path: Path, error: OSError) -> OSError:
    reason = error.strerror or str(error)
    return OSError(error.errno, f"{path} must be writable, got {reason!r}; free space and continue with --resume")
