"""The journal of a comparison: damaged anywhere, it never holds a number that was not measured."""

import json
from pathlib import Path

import pytest

from longrope.evaluation.comparison.cells import CELLS_JSONL, append_cell, read_cells, read_journal

from ...damage import damaged
from ..report.synthetic import losses, write_run


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    records = [record for method in ("none", "yarn") for record in losses(method, "perplexity", 100, 3.0)]
    write_run(tmp_path, {"perplexity": records})
    return tmp_path / CELLS_JSONL


def test_damage_at_any_place_is_noticed(journal: Path, num_damages: int) -> None:
    data, entries = journal.read_bytes(), read_cells(journal.parent)
    for seed in range(num_damages):
        journal.write_bytes(damaged(data, seed))
        found = read_cells(journal.parent)
        assert all(entry in entries for entry in found), seed  # a 17th digit may change without changing the number
        append_cell(journal.parent, entries[0])
        assert read_cells(journal.parent) == [*found, entries[0]], seed


def test_a_digit_that_flipped_is_told(journal: Path) -> None:
    first, *others = journal.read_text().splitlines(keepends=True)
    journal.write_text(first.replace('"seconds": 2.0', '"seconds": 3.0') + "".join(others))
    read = read_journal(journal.parent)
    assert len(read.entries) == len(others)
    assert read.notes() == ["1 lines of cells.jsonl are damaged and left out; an evaluation runs again what they held"]


def test_lines_of_an_earlier_version_are_read_with_a_note(journal: Path) -> None:
    entries = read_cells(journal.parent)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    plain = [{name: value for name, value in line.items() if name != "crc32"} for line in lines]
    journal.write_text("".join(json.dumps(line) + "\n" for line in plain))
    read = read_journal(journal.parent)
    assert read.entries == entries
    (note,) = read.notes()
    assert note.startswith(f"{len(entries)} lines of cells.jsonl are of an earlier version and have no checksum")
