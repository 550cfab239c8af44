"""A journal with a changed byte or a missing end: the search ends as if nothing had happened, or says what is wrong."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from longrope.evolution import HistoryRow, RunFolder, read_history
from longrope.evolution.proposals import read_proposals
from longrope.rope.lines import from_line

from ..damage import damaged
from .conftest import Killed, ToyObjective, run_toy

STRATEGIES = ("paper", "hybrid")


def as_of(rows: list[HistoryRow]) -> dict[object, HistoryRow]:
    return {row.key: replace(row, seconds=0.0, rows_left=0, generation=0, origin="") for row in rows}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_damage_at_any_place_is_noticed_and_the_search_ends_the_same(
    strategy: str, tmp_path: Path, num_damages: int
) -> None:
    stopped, whole, folder = tmp_path / "stopped", tmp_path / "whole", tmp_path / "damaged"
    objective = ToyObjective()
    result = run_toy(strategy, whole, objective)
    with pytest.raises(Killed):
        run_toy(strategy, stopped, ToyObjective(kill_at=2 * objective.calls // 3))
    expected = as_of(read_history(whole / "history.jsonl").rows)
    for seed in range(num_damages):
        file = ("history.jsonl", "proposals.jsonl")[seed % 2]
        shutil.copytree(stopped, folder)
        (folder / file).write_bytes(damaged((stopped / file).read_bytes(), seed))
        before = as_of(read_history(folder / "history.jsonl").rows)
        assert before.items() <= expected.items(), (seed, file)
        ended = run_toy(strategy, folder, ToyObjective(), resume=True)
        after = as_of(read_history(folder / "history.jsonl").rows)
        assert (ended.best, after) == (result.best, expected), (seed, file)
        shutil.rmtree(folder)


def test_a_digit_that_flipped_in_a_score_is_told_and_the_score_made_again(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run_toy("paper", tmp_path, ToyObjective(kill_at=5))
    history = tmp_path / "history.jsonl"
    first, *others = history.read_bytes().splitlines(keepends=True)
    nats = from_line(first)[0]["nats"]
    history.write_bytes(first.replace(f'"nats": {nats}'.encode(), f'"nats": {nats + 1}'.encode()) + b"".join(others))
    with RunFolder(tmp_path, {"strategy": "paper", "seed": 7}, resume=True) as folder:
        assert folder.notes == ["1 lines of history.jsonl are damaged; their scores are made again"]


def test_scores_of_an_earlier_version_are_read_with_a_note(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run_toy("paper", tmp_path, ToyObjective(kill_at=5))
    history = tmp_path / "history.jsonl"
    rows = read_history(history).rows
    lines = history.read_text().splitlines()
    history.write_text("".join(line.partition(', "crc32"')[0] + "}\n" for line in lines))
    assert read_history(history).rows == rows
    with RunFolder(tmp_path, {"strategy": "paper", "seed": 7}, resume=True) as folder:
        (note,) = folder.notes
        assert note.startswith(f"{len(rows)} lines of history.jsonl are of an earlier version and have no checksum")


def test_no_damage_makes_another_proposal(tmp_path: Path, num_damages: int) -> None:
    run_toy("paper", tmp_path, ToyObjective())
    path = tmp_path / "proposals.jsonl"
    data, lines = path.read_bytes(), read_proposals(path).lines
    for seed in range(num_damages):
        path.write_bytes(damaged(data, seed))
        found = read_proposals(path).lines
        assert [line.to_line() for line in found] == [line.to_line() for line in lines[: len(found)]], seed
