import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longrope.evolution import Budget, RunFolder, read_history
from longrope.evolution.proposals import LoggedProposal
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


def test_a_run_folder_holds_config_history_and_proposals(stopped: Path):
    assert snapshot(stopped).keys() == {"config.yaml", "history.jsonl", "proposals.jsonl"}
    assert (stopped / "config.yaml").read_text() == "strategy: paper\nseed: 7\n"
    lines = [json.loads(line)["proposal"] for line in (stopped / "proposals.jsonl").read_text().splitlines()]
    assert [(line["generation"], len(line["requests"])) for line in lines] == [(0, 8), (1, 6)]
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
    rows = read_history(tmp_path / "history.jsonl").rows
    assert {(row.error, row.tokens, row.forwarded) for row in rows} == {("nan", 0, 10), (None, 9, 10)}
    assert result.scored_tokens == 10 * len(rows)


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


DAMAGES = [b"{torn", b"\0\0\0", b'{"steps": [1]}', b"[]", b"7", b'{"crc32": 0, "proposal": {}}']


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_of_the_proposals_is_passed_over_with_a_note(stopped: Path, tmp_path: Path, damage: bytes):
    first, second = (stopped / "proposals.jsonl").read_bytes().splitlines(keepends=True)
    for data in (damage + b"\n" + second, first + damage + b"\n"):
        (stopped / "proposals.jsonl").write_bytes(data)
        with RunFolder(stopped, CONFIG, resume=True) as folder:
            assert any("proposals.jsonl is damaged" in note for note in folder.notes)
    objective = ToyObjective()
    result = run_toy("paper", stopped, objective, resume=True)
    whole = ToyObjective()
    assert result == run_toy("paper", tmp_path / "whole", whole)
    assert trace(stopped) == trace(tmp_path / "whole")
    assert objective.scores == whole.scores - 8 * 3 - 6 * 2


def test_a_bit_that_flipped_in_a_state_is_noticed(stopped: Path):
    data = (stopped / "proposals.jsonl").read_text()
    (stopped / "proposals.jsonl").write_text(data.replace('"generation": 1', '"generation": 2'))
    with RunFolder(stopped, CONFIG, resume=True) as folder:
        assert folder.last is not None and folder.last.proposal.generation == 0 and folder.notes


@pytest.mark.parametrize("state", [{}, {"rng": None}, {"rng": 3, "finished": False, "parents": [99]}])
def test_a_state_that_does_not_fit_the_strategy_is_refused(stopped: Path, state: dict[str, object]):
    with RunFolder(stopped, CONFIG, resume=True) as folder:
        assert folder.last is not None
        foreign = replace(folder.last.proposal, state=state)
    line = LoggedProposal(foreign, Budget()).to_line()
    first, _ = (stopped / "proposals.jsonl").read_text().splitlines(keepends=True)
    (stopped / "proposals.jsonl").write_text(first + line)
    with refused(stopped, "proposals.jsonl", "delete it and resume"):
        run_toy("paper", stopped, ToyObjective(), resume=True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_score_in_the_middle_is_made_again_and_one_at_the_end_is_dropped(
    stopped: Path, tmp_path: Path, damage: bytes
):
    lines = (stopped / "history.jsonl").read_bytes().splitlines(keepends=True)
    (stopped / "history.jsonl").write_bytes(b"".join([*lines[:9], damage + b"\n", *lines[10:]]) + damage)
    with RunFolder(stopped, CONFIG, resume=True) as folder:
        assert len(folder.rows) == len(lines) - 1
        assert folder.notes == ["1 lines of history.jsonl are damaged; their scores are made again"]
    objective, whole = ToyObjective(), ToyObjective()
    assert run_toy("paper", stopped, objective, resume=True) == run_toy("paper", tmp_path / "whole", whole)
    assert objective.scores == whole.scores - len(lines) + 1
    keys = [row.key for row in read_history(stopped / "history.jsonl").rows]
    assert len(set(keys)) == len(keys)
    idle = ToyObjective()
    run_toy("paper", stopped, idle, resume=True)
    assert idle.calls == 0


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


def test_a_full_disk_leaves_the_proposals_whole(stopped: Path):
    before = snapshot(stopped)
    with RunFolder(stopped, CONFIG, resume=True) as folder:
        strategy = new_strategy("paper")
        with disk_full_after(100), pytest.raises(OSError, match="proposals.jsonl must be writable"):
            folder.propose(strategy, Budget())
    assert snapshot(stopped) == before


def test_of_two_processes_that_start_at_once_one_wins_and_the_other_is_told(tmp_path: Path):
    code = (
        "import sys, time; from longrope.evolution import RunFolder\n"
        "sys.stdin.readline()\n"
        "with RunFolder(sys.argv[1], {}): time.sleep(3)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for one in both:
        one.stdin.write("go\n")  # type: ignore[union-attr]
        one.stdin.flush()  # type: ignore[union-attr]
    errors = [one.communicate()[1] for one in both]
    assert sorted(one.returncode for one in both) == [0, 1]
    assert any("one search at a time" in error or "which holds a run" in error for error in errors)
