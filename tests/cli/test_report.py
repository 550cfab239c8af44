"""`longrope report`: folders in, a page out."""

import json
from pathlib import Path

import pytest

from longrope.cli.main import main, spell_out

from ..evaluation.report.synthetic import losses, write_run


@pytest.fixture
def search_run(tmp_path: Path) -> Path:
    """Return the folder of a search of two candidates: the second has 0.1 nats per token less."""
    folder = tmp_path / "search"
    folder.mkdir()
    with open(folder / "history.jsonl", "w") as file:
        for origin, steps, nats in (("seed:yarn", 100, 20.0), ("mutation", 110, 19.0)):
            row = {"generation": 0, "origin": origin, "steps": [steps], "start_tokens": 0, "document": 0, "nats": nats}
            row |= {"tokens": 10, "forwarded": 11, "error": None, "seconds": 0.0, "rows_left": 0}
            file.write(json.dumps(row) + "\n")
    return folder


def evaluation_run(folder: Path) -> Path:
    means = {"none": 2.0, "longrope": 1.0}
    return write_run(
        folder, {"perplexity": [r for name, n in means.items() for r in losses(name, "perplexity", 512, n)]}
    )


def test_a_report_of_an_evaluation_and_its_search_is_one_page(tmp_path: Path, search_run: Path, capsys):
    run = evaluation_run(tmp_path / "run")
    assert main(["report", str(run), str(search_run), "--output-dir", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("At 512 tokens longrope has the best perplexity, ")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("report.html", "report.md", "results.csv", "differences.csv", "costs.csv", "figures")
    }
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## Search" in text and "## Rescale factors" in text
    curve = (tmp_path / "out" / "figures" / "search.csv").read_text().splitlines()
    assert curve[1] == "22.0,0.0"  # the best seed itself
    assert curve[-1].startswith("22.0,-0.1")


def test_lines_of_the_journal_that_are_damaged_are_told(tmp_path: Path, capsys):
    journal = evaluation_run(tmp_path / "run") / "cells.jsonl"
    journal.write_text(journal.read_text().replace('"seconds": 2.0', '"seconds": 3.0', 1))
    assert main(["report", str(journal.parent), "--output-dir", str(tmp_path / "out")]) == 0
    assert f"note: {journal.parent}: 1 lines of cells.jsonl are damaged and left out" in capsys.readouterr().out


def test_a_folder_that_is_no_run_is_refused_in_one_sentence(tmp_path: Path, capsys):
    assert main(["report", str(tmp_path), "--output-dir", str(tmp_path / "out")]) == 2
    assert "runs must be folders with results.json or history.jsonl, got" in capsys.readouterr().err


def test_results_without_the_versions_of_their_packages_are_refused_in_one_sentence(tmp_path: Path, capsys):
    run = evaluation_run(tmp_path / "run")
    content = json.loads((run / "results.json").read_text())
    del content["provenance"]["versions"]["torch"]
    (run / "results.json").write_text(json.dumps(content))
    assert main(["report", str(run), "--output-dir", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "must carry the versions of longrope, torch, transformers, got none for torch; evaluate again" in line


@pytest.mark.parametrize("depth", [5_000, 200_000])
def test_a_results_file_nested_too_deep_is_refused_in_one_sentence(tmp_path: Path, depth: int, capsys):
    (tmp_path / "results.json").write_text("[" * depth + "]" * depth)
    assert main(["report", str(tmp_path), "--output-dir", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "results.json" in line and "recursion" not in line


def test_run_folders_need_no_flag():
    assert spell_out(["report", "a", "b", "--output-dir", "c"]) == ["report", '--runs=["a", "b"]', "--output-dir", "c"]
    assert spell_out(["report", "--output-dir=c", "--runs", "a"]) == ["report", "--output-dir=c", '--runs=["a"]']
