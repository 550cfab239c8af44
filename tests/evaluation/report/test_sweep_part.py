"""The page of a sweep: what to take stands first, everything behind it below, and a browser shows it all."""

import csv
import json
from pathlib import Path

import pytest

from longrope.evaluation.report.build import build_report
from longrope.evaluation.report.sweep_part import FORMAT, HELD_OUT, SWEEP_JSON, VERSION, read_sweep_run
from longrope.evaluation.report.writing import write_report

from .browser import Browser
from .synthetic import answers, losses, write_run

LENGTHS = (256, 1024)
METHODS = ("none", "linear", "ntk-by-parts", "yarn")
SPECS = ["none"] + [
    f"{method}:factor={f},alpha={a}" for method in METHODS[1:] for f in (2.125, 4.375, 8.625) for a in (0.1234, 5.678)
]
BEST = "yarn:factor=4.375,alpha=5.678"


def measured(specs: list[str], test: bool) -> dict[str, list[dict]]:
    """Return records in which `BEST` has 0.3 nats less than the others; the documents of the test are others."""

    def renamed(record: dict) -> dict:
        return record | ({"document": f"other {record['document']}"} if test else {})

    perplexity = [
        renamed(record)
        for spec in specs
        for length in LENGTHS
        for record in losses(spec, "perplexity", length, 2 + 0.1 * SPECS.index(spec) / 19 - 0.3 * (spec == BEST))
    ]
    task = "others" if test else "passkey"
    return {"perplexity": perplexity, "passkey": [r for s in specs for n in LENGTHS for r in answers(s, task, n, 0.5)]}


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    write_run(folder, measured(SPECS, test=False))
    finalists = ["none", "linear:factor=2.125,alpha=0.1234", "ntk-by-parts:factor=2.125,alpha=0.1234", BEST]
    write_run(folder / HELD_OUT, measured(finalists, test=True))
    facts = {"format": FORMAT, "version": VERSION, "target_length": 1024, "task": "perplexity"}
    facts |= {"metric": "token_weighted", "points": [{"spec": spec} for spec in SPECS]}
    (folder / SWEEP_JSON).write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def page_folder(sweep_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_report(build_report([], {}, {}, [read_sweep_run(sweep_folder)]), folder)
    return folder


def test_the_page_says_what_to_take_and_holds_every_part_of_a_suite(page_folder: Path):
    text = (page_folder / "report.md").read_text()
    assert f"**Perplexity at 1,024 tokens: take {BEST}: " in text
    assert f"- Perplexity at 256 tokens: take {BEST}: " in text
    assert "- Pass key retrieval at 1,024 tokens: no clear winner: " in text
    assert "20 configurations" not in text and "19 configurations of 4 methods on 2 tasks at 256, 1,024 tokens" in text
    pictures = {path.stem for path in (page_folder / "figures").glob("*.png")}
    for task in ("perplexity", "passkey"):
        assert {f"{task}-boxes", f"{task}-best-map", f"{task}-by-length"} <= pictures
    assert "sensitivity-yarn" in pictures
    assert {path.stem for path in (page_folder / "methods").iterdir()} == set(METHODS)
    advice = list(csv.DictReader((page_folder / "advice.csv").open()))
    assert [row["configuration"] for row in advice if row["clear_winner"] == "True"] == [BEST, BEST]
    boxes = list(csv.DictReader((page_folder / "figures" / "perplexity-boxes.csv").open()))
    assert {row["configuration"] for row in boxes} == set(SPECS)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_browser_shows_it_without_sideways_scrolling_and_the_answer_first(
    page_folder: Path, browser: Browser, width: int, dark: bool
):
    page = browser.look(page_folder / "report.html", width, dark)
    assert page.errors == [] and page.requests == []
    assert page.measured["scrollWidth"] <= page.measured["width"]
    assert all(pixels > 0 and len(alt) > 20 for alt, pixels in page.measured["images"])
    screen = " ".join(page.measured["screen"].replace("\u00a0", " ").split())
    assert f"Perplexity at 1,024 tokens: take {BEST}: " in screen and "corrected p" in screen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "instead of longrope-sweep 2"),
        ({"target_length": "long"}, "target_length, task and metric are 'long'"),
        ({"points": [1]}, "must be as longrope sweep wrote it"),
        ({"metric": "accuracy"}, "must hold results of perplexity accuracy at 1024 tokens"),
    ],
)
def test_a_folder_that_is_no_sweep_is_refused(sweep_folder: Path, tmp_path: Path, change: dict, message: str):
    content = json.loads((sweep_folder / SWEEP_JSON).read_text()) | change
    for name in ("results.json", "cells.jsonl"):
        (tmp_path / name).write_bytes((sweep_folder / name).read_bytes())
    (tmp_path / SWEEP_JSON).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_sweep_run(tmp_path)
