"""One run folder: `config.yaml`, two append-only files, `history.jsonl` and `proposals.jsonl`, and a lock.

What a generation asks for is on disk, with the state of the strategy, before the first of its scores is asked for, and
every unit of scores as it ends: a killed run loses at most the units in flight. A run goes on from the state as it is
stored, so it may go on on a machine that rounds differently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import yaml

from ..rope.files import lock_file, write_atomically
from ..rope.lines import append as append_lines
from ..rope.lines import to_line
from .history import HistoryRow, read_history
from .proposals import LoggedProposal, read_proposals
from .record import SearchRecord
from .strategies import Proposal, Strategy


class RunFolder(SearchRecord):
    """The record of one search, opened by one process at a time; use it in a `with` statement.

    Args:
        path: of the folder; made if missing.
        config: the resolved configuration, of plain YAML values; a resumed run must have the same.
        resume: continue the run in the folder, if there is one.

    Raises:
        ValueError: the folder holds a run and `resume` is not set, or its run has another configuration or is in use.
            Nothing in the folder is changed then.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path = Path(path)
        names = ("config.yaml", "history.jsonl", "proposals.jsonl")
        self._config, self._history, self._proposals = (self.path / name for name in names)
        self._lock = _lock(self.path)
        try:
            exists = any((self.path / name).exists() for name in names)
            if exists and not resume:
                raise ValueError(
                    f"the run folder must be new, got {self.path}, which holds a run; continue it with --resume or "
                    "choose another folder"
                )
            if exists:
                self._check_config(config)
            rows, self._history_end, num_damaged, num_unchecked = read_history(self._history)
            lines, self._proposals_end, damaged = read_proposals(self._proposals)
            if not exists:
                self._save_config(config)
        except BaseException:
            self.close()
            raise
        super().__init__(rows, lines)
        self.notes: list[str] = []
        """What was damaged, in sentences."""
        if num_damaged:
            self.notes.append(f"{num_damaged} lines of history.jsonl are damaged; their scores are made again")
        if num_unchecked:
            self.notes.append(
                f"{num_unchecked} lines of history.jsonl are of an earlier version and have no checksum; their scores "
                "are taken as they are"
            )
        if damaged:
            self.notes.append(
                f"proposals.jsonl is damaged after {len(lines)} lines; the search goes on from there, and scores "
                "that are known are not made again"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock.close()

    def append(self, rows: Sequence[HistoryRow]) -> None:
        """Add the rows of one unit to the history and wait until the disk has them.

        Raises:
            OSError: the disk is full or fails; the history is as it was.
        """
        text = "".join(to_line(asdict(row)) for row in rows)
        self._history_end = append_lines(self._history, self._history_end, text)
        super().append(rows)

    def _log(self, line: LoggedProposal) -> None:
        """Write a line and wait until the disk has it.

        Raises:
            OSError: the disk is full or fails; the file is as it was.
        """
        self._proposals_end = append_lines(self._proposals, self._proposals_end, line.to_line())

    def restore(self, strategy: Strategy, proposal: Proposal) -> None:
        """Bring a strategy to where a generation was asked for.

        Raises:
            ValueError: the state does not fit the strategy.
        """
        try:
            super().restore(strategy, proposal)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ValueError(
                f"{self._proposals} must hold states of this search, got {type(error).__name__}: {error}; delete it "
                "and resume: the search asks again from the start, and scores that are known are not made again"
            ) from error

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

    def _save_config(self, config: Mapping[str, Any]) -> None:
        write_atomically(self._config, yaml.safe_dump(dict(config), sort_keys=False))


def _lock(path: Path) -> IO[str]:
    taken = f"the run folder must be used by one search at a time, got {path}, which another process holds; "
    return lock_file(path / ".lock", taken + "wait for it or choose another folder")


def _differences(saved: Any, now: Any, key: str = "") -> list[str]:
    """Return one phrase per value that differs, with its dotted key."""
    if isinstance(saved, dict) and isinstance(now, dict):
        names = dict.fromkeys([*saved, *now])
        parts = (_differences(saved.get(name), now.get(name), f"{key}.{name}".lstrip(".")) for name in names)
        return [phrase for part in parts for phrase in part]
    return [] if saved == now else [f"{key or 'config'} = {now!r} where the run has {saved!r}"]
