import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from longrope.evolution import RunFolder, read_history
from longrope.rope import RescaleFactors

from .conftest import Killed, ToyObjective, ToyScore, build, new_strategy, run_toy, trace

CONFIG = {"strategy": "paper", "seed": 7}


def snapshot(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"}


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run killed in its second generation."""
    with pytest.raises(Killed):
        run_toy("paper", tmp_path, ToyObjective(kill_at=5))
    return tmp_path


@contextmanager
def refused(path: Path, *parts: str) -> Iterator[None]:
    """Expect a ValueError that has all the parts, and leaves every file as it was."""
    before = snapshot(path)
    with pytest.raises(ValueError) as caught:
        yield
    assert all(part in str(caught.value) for part in parts), caught.value
    assert snapshot(path) == before


def test_a_run_folder_holds_config_history_and_checkpoint(stopped: Path):
    assert snapshot(stopped).keys() == {"config.yaml", "history.jsonl", "checkpoint.json"}
    assert (stopped / "config.yaml").read_text() == "strategy: paper\nseed: 7\n"
    assert json.loads((stopped / "checkpoint.json").read_text())["history_rows"] == 8 * 3
    assert len(trace(stopped)) == 8 * 3 + 6 * 2


def test_rows_say_what_went_through_the_model_even_where_the_score_failed(tmp_path: Path):
    first = new_strategy("paper").ask()[0].genome
    objective = ToyObjective()
    failing = tuple(build(first).lambdas)
    score = objective._one

    def one(candidate: RescaleFactors, document: int) -> ToyScore:
        found = score(candidate, document)
        return replace(found, error="nan") if tuple(candidate.lambdas) == failing else found

    objective._one = one
    result = run_toy("paper", tmp_path, objective)
    rows, _ = read_history(tmp_path / "history.jsonl")
    assert {(row.error, row.tokens, row.forwarded) for row in rows} == {("nan", 0, 10), (None, 9, 10)}
    assert result.scored_tokens == 10 * len(rows)


def test_a_history_that_does_not_tell_its_cost_is_read_as_windows_without_their_first_token(stopped: Path):
    history = stopped / "history.jsonl"
    before = trace(stopped)
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    assert {row.pop("forwarded") for row in rows} == {10}
    history.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert trace(stopped) == before


def test_a_folder_with_a_run_is_refused_without_resume(stopped: Path):
    with refused(stopped, "--resume", "another folder"):
        RunFolder(stopped, CONFIG)


def test_a_folder_with_other_files_may_become_a_run_folder_and_resume_may_start_one(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with RunFolder(tmp_path, CONFIG, resume=True) as folder:
        assert folder.rows == ()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_of_another_config_is_refused_naming_the_keys(tmp_path: Path):
    config = {"model": "tiny", "search": {"seed": 1, "documents": [1, 2]}}
    with RunFolder(tmp_path, config):
        pass
    with RunFolder(tmp_path, config, resume=True):
        pass
    with refused(tmp_path, "search.seed = 2 where the run has 1", "another folder"):
        RunFolder(tmp_path, {"model": "tiny", "search": {"seed": 2, "documents": [1, 2]}}, resume=True)
    with refused(tmp_path, "search.documents = [1]", "model = None where the run has 'tiny'"):
        RunFolder(tmp_path, {"search": {"seed": 1, "documents": [1]}}, resume=True)


BAD_CHECKPOINTS = [
    "",
    "{",
    "[]",
    "null",
    '{"format": "longrope-search"}',
    '{"format": "x", "version": 1, "history_rows": 0, "state": {}}',
]


@pytest.mark.parametrize("damage", BAD_CHECKPOINTS)
def test_a_corrupt_checkpoint_is_refused_and_deleting_it_mends_the_run(stopped: Path, tmp_path: Path, damage: str):
    (stopped / "checkpoint.json").write_text(damage)
    with refused(stopped, "checkpoint.json", "delete it and resume"):
        RunFolder(stopped, CONFIG, resume=True)
    (stopped / "checkpoint.json").unlink()
    result = run_toy("paper", stopped, ToyObjective(), resume=True)
    assert result == run_toy("paper", tmp_path / "whole", ToyObjective())


@pytest.mark.parametrize("state", ["{}", "[]", '{"generation": 1, "parents": 3, "seen": [], "logbook": [], "rng": {}}'])
def test_a_checkpoint_that_does_not_fit_the_strategy_is_refused(stopped: Path, state: str):
    payload = json.loads((stopped / "checkpoint.json").read_text()) | {"state": json.loads(state)}
    (stopped / "checkpoint.json").write_text(json.dumps(payload))
    with refused(stopped, "checkpoint.json", "delete it and resume"):
        run_toy("paper", stopped, ToyObjective(), resume=True)


@pytest.mark.parametrize("damage", [b"{torn", b"\0\0\0", b'{"steps": [1]}', b"[]", b"7"])
def test_a_damaged_line_is_refused_in_the_middle_and_dropped_at_the_end(stopped: Path, damage: bytes):
    lines = (stopped / "history.jsonl").read_bytes().splitlines(keepends=True)
    (stopped / "history.jsonl").write_bytes(b"".join([*lines[:9], damage + b"\n", *lines[10:]]))
    with refused(stopped, "history.jsonl", "damaged line 10", "restore"):
        RunFolder(stopped, CONFIG, resume=True)
    (stopped / "history.jsonl").write_bytes(b"".join(lines) + damage)
    with RunFolder(stopped, CONFIG, resume=True) as folder:
        assert len(folder.rows) == len(lines)


def test_a_history_shorter_than_its_checkpoint_is_refused(stopped: Path):
    lines = (stopped / "history.jsonl").read_bytes().splitlines(keepends=True)
    (stopped / "history.jsonl").write_bytes(b"".join(lines[:16]))
    with refused(stopped, "history.jsonl must hold the 24 scores", "got 16", "delete checkpoint.json"):
        RunFolder(stopped, CONFIG, resume=True)


def test_a_missing_or_corrupt_config_is_refused(stopped: Path):
    (stopped / "config.yaml").write_text("a: [")
    with refused(stopped, "config.yaml"):
        RunFolder(stopped, CONFIG, resume=True)
    (stopped / "config.yaml").unlink()
    with refused(stopped, "config.yaml"):
        RunFolder(stopped, CONFIG, resume=True)


def test_two_searches_in_one_folder_at_once_are_refused(tmp_path: Path):
    code = "import sys; from longrope.evolution import RunFolder; RunFolder(sys.argv[1], {}, resume=True)"
    with RunFolder(tmp_path, {}):
        with refused(tmp_path, "one search at a time"):
            RunFolder(tmp_path, {}, resume=True)
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
        assert other.returncode == 1 and "one search at a time" in other.stderr
    RunFolder(tmp_path, {}, resume=True).close()


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let the kernel refuse to grow a file beyond a size in bytes, as a full disk does: the write stops half-way."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("spare", [0, 1, 300])
def test_a_full_disk_leaves_the_history_whole_and_the_run_goes_on_later(stopped: Path, tmp_path: Path, spare: int):
    before = snapshot(stopped)
    too_full = disk_full_after(len(before["history.jsonl"]) + spare)
    with too_full, pytest.raises(OSError, match="history.jsonl must be .* --resume"):
        run_toy("paper", stopped, ToyObjective(), resume=True)
    assert snapshot(stopped) == before
    result = run_toy("paper", stopped, ToyObjective(), resume=True)
    assert result == run_toy("paper", tmp_path / "whole", ToyObjective())


def test_a_full_disk_leaves_the_last_checkpoint_whole(stopped: Path):
    before = snapshot(stopped)
    with RunFolder(stopped, CONFIG, resume=True) as folder:
        strategy = new_strategy("paper")
        folder.restore(strategy)
        with disk_full_after(100), pytest.raises(OSError, match="checkpoint.json must be writable"):
            folder.save_checkpoint(strategy)
    assert snapshot(stopped) == before
