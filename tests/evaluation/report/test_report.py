"""A whole report: what stands in it, and that a browser shows it without complaint."""

import csv
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longrope.evaluation.report.build import MAX_METHODS, build_report
from longrope.evaluation.report.numbers import SearchCurve
from longrope.evaluation.report.runs import Evaluation, combine, read_evaluation
from longrope.evaluation.report.writing import as_markdown
from longrope.rope.methods import Linear

from .browser import Browser
from .synthetic import GEOMETRY, answers, losses, write_run

SEARCH = SearchCurve(np.array([1e5, 2e5]), np.array([0.0, -0.1]))


def small(folder: Path, **run: Any) -> Evaluation:
    records = {
        "perplexity": [r for name, mean in (("a", 1.0), ("b", 2.0)) for r in losses(name, "perplexity", 512, mean)]
    }
    return read_evaluation(write_run(folder, records, **run))


def test_the_verdict_stands_before_everything_else(report_folder: Path):
    html = (report_folder / "report.html").read_text()
    body = re.sub(r"<[^>]+>", " ", html[html.index("<main") :])
    text = " ".join(body.replace("\u00a0", " ").split())
    assert text.startswith("Context extension report At 4,096 tokens longrope has the best perplexity, ")
    assert "significantly better than the runner-up yarn:beta_fast=32" in text[:400]


def test_every_kind_of_section_is_there(report_folder: Path):
    titles = re.findall(r"^## (.*)$|<summary>(.*)</summary>", (report_folder / "report.md").read_text(), re.M)
    assert [first or second for first, second in titles] == [
        *("Perplexity", "Ranks over all tasks", "Pass key retrieval", "RULER", "Rescale factors"),
        *("How the metrics go together", "Parameter sensitivity", "Failures (1) and lengths left out (3)"),
        *("How the methods are compared", "All numbers", "Provenance: model, data, versions, protocols"),
    ]


def test_every_figure_has_its_files_its_numbers_and_a_text_for_those_who_do_not_see_it(report_folder: Path):
    text = (report_folder / "report.md").read_text()
    figures = {name: alt for alt, name in re.findall(r"!\[(.*)\]\(figures/(.*)\.png\)", text)}
    files = {path.name for path in (report_folder / "figures").iterdir()}
    assert files == {f"{name}.{suffix}" for name in figures for suffix in ("png", "svg", "csv")}
    assert set(figures) >= {
        *("perplexity-by-length", "perplexity-map", "perplexity-documents", "perplexity-positions", "passkey-depths"),
        *("ruler-by-length", "ruler-tasks", "lambdas", "sensitivity-yarn", "correlations"),
    }
    assert all(len(alt) > 20 for alt in figures.values())
    for name in figures:
        rows = list(csv.DictReader((report_folder / "figures" / f"{name}.csv").open()))
        assert rows, name


def test_the_csv_files_hold_every_number_and_every_comparison(report_folder: Path, run_folder: Path):
    evaluation = read_evaluation(run_folder)
    rows = list(csv.DictReader((report_folder / "results.csv").open()))
    assert [float(row["value"]) for row in rows] == [row.value for row in evaluation.rows]
    differences = list(csv.DictReader((report_folder / "differences.csv").open()))
    perplexity = [row for row in differences if row["task"] == "perplexity"]
    assert len(perplexity) == 6 * 3  # pairs of four methods at three lengths
    assert {row["first"] for row in perplexity} | {row["second"] for row in perplexity} == set(evaluation.factors)


def test_failures_and_where_the_numbers_come_from_are_told(report_folder: Path):
    html = (report_folder / "report.html").read_text()
    assert "RuntimeError: &lt;no memory&gt;" in html  # escaped: what a run says is no markup
    assert "lengths must be at least 300 tokens" in html
    for fact in ("f" * 64, "float32", "sdpa", "Protocol of passkey"):
        assert fact in html


def test_a_lead_is_marked_in_the_table_and_what_is_not_worse_beside_it(report_folder: Path):
    (line,) = [
        line
        for line in (report_folder / "report.md").read_text().splitlines()
        if line.startswith("| longrope") and "★" in line
    ][:1]
    assert line.count("★") + line.count("≈") == 3  # best, or not worse than the best, at all three lengths


def test_runs_that_do_not_compare_become_parts(tmp_path: Path):
    parts = combine([small(tmp_path / "one"), small(tmp_path / "other", protocol="other")])
    report = build_report(parts, {"a search": SEARCH}, {})
    assert [part.title for part in report.parts] == ["made-up", "made-up", "Search"]
    names = [picture.file for part in report.parts for section in part.sections for picture in section.pictures]
    assert len(set(names)) == len(names)
    assert set(report.csv) == {f"{name}-{place}" for name in ("results", "differences", "costs") for place in (1, 2)}
    assert as_markdown(report).count("\n# made-up\n") == 2


def test_a_search_alone_has_a_report(tmp_path: Path):
    report = build_report([], {"found": SEARCH}, {"found": Linear(8.0).factors(GEOMETRY)})
    assert report.parts[0].verdict.startswith("After 200,000 scored tokens the perplexity of the incumbent of found")
    assert "−9.5 %" in report.parts[0].verdict
    assert [section.title for section in report.parts[0].sections] == ["Search", "Rescale factors"]


def test_nothing_is_no_report():
    with pytest.raises(ValueError, match="got neither"):
        build_report([], {}, {})


def test_of_many_methods_the_best_of_each_family_is_compared_and_the_report_says_so(tmp_path: Path):
    variants = {f"yarn:beta_fast={number}": 2 + number / 10 for number in range(1, MAX_METHODS + 1)} | {"none": 4.0}
    records = {"perplexity": [r for name, mean in variants.items() for r in losses(name, "perplexity", 512, mean)]}
    (part,) = build_report([read_evaluation(write_run(tmp_path, records))], {}, {}).parts
    assert f"Of {MAX_METHODS + 1} methods in 2 families the best variant of each" in part.findings[-1]
    assert [row[0].text for row in part.sections[0].tables[0].rows] == ["yarn:beta_fast=1", "none"]
    assert "Parameter sensitivity" in [section.title for section in part.sections]


def test_the_markdown_of_a_big_random_sweep_is_one_page_and_its_numbers_are_in_csv(tmp_path: Path):
    rng = np.random.default_rng(0)
    specs = [
        f"yarn:beta_fast={a:.4g},beta_slow={b:.4g}"
        for a, b in zip(rng.uniform(8, 64, 150), rng.uniform(0.5, 4, 150), strict=True)
    ]
    means = {spec: 2 + float(m) for spec, m in zip(specs, rng.uniform(0, 1, len(specs)), strict=True)}
    records = {"perplexity": [r for name, mean in means.items() for r in losses(name, "perplexity", 512, mean)]}
    run = write_run(tmp_path / "run", records, config={"methods": specs})
    report = build_report([read_evaluation(run)], {}, {})
    text = as_markdown(report)
    assert len(text) < 30_000
    assert "*The first 30 of 150 rows; all are in results.csv.*" in text
    assert "*The first 30 of 150 rows; all are in costs.csv.*" in text
    assert max(map(len, text.splitlines())) < 1000
    assert len(report.csv["results"]) == len(report.csv["costs"]) == 150


def test_the_note_of_a_protocol_stands_where_its_task_is_shown(tmp_path: Path):
    note = "Key tokens were chosen by the unmodified model."
    records = {task: [r for name in "ab" for r in losses(name, task, 512, 1.0)] for task in ("perplexity", "longppl")}
    evaluation = read_evaluation(write_run(tmp_path, records))
    evaluation.provenances[0]["protocols"]["longppl"]["note"] = note
    text = as_markdown(build_report([evaluation], {}, {}))
    assert text[text.index("## LongPPL") :].index(note) < 600
    assert text.count(note) == 1 + 1  # and in the protocol itself


def test_an_evaluation_without_perplexity_leads_with_its_first_task(tmp_path: Path):
    records = {"passkey": [r for name, share in (("a", 0.2), ("b", 0.9)) for r in answers(name, "passkey", 512, share)]}
    (part,) = build_report([read_evaluation(write_run(tmp_path, records))], {}, {}).parts
    assert part.verdict.startswith("At 512 tokens b has the best accuracy on pass key retrieval, 90 %")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_browser_shows_the_whole_report_without_errors_missing_images_or_sideways_scrolling(
    report_folder: Path, browser: Browser, width: int, dark: bool
):
    page = browser.look(report_folder / "report.html", width, dark)
    assert page.errors == []
    assert page.requests == []
    assert page.measured["images"] and all(pixels > 0 for _, pixels in page.measured["images"])
    assert page.measured["scrollWidth"] <= page.measured["width"]
    assert "At 4,096 tokens longrope has the best perplexity" in page.measured["text"].replace("\u00a0", " ")
    brightness = sum(map(int, re.findall(r"\d+", page.measured["background"])[:3])) / 3
    assert (brightness < 60) if dark else (brightness > 200)


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_the_first_screen_answers_what_people_ask_and_the_page_is_in_order_for_those_who_do_not_see_it(
    report_folder: Path, browser: Browser, width: int
):
    seen = browser.look(report_folder / "report.html", width, dark=False).measured
    screen = " ".join(seen["screen"].replace("\u00a0", " ").split())
    for answer in (
        "At 4,096 tokens longrope has the best perplexity",  # which method, at which length
        "95 % interval",  # how sure
        "significantly better than the runner-up yarn:beta_fast=32",
        "At short context (256 of the trained 256 tokens) its perplexity is",  # what it costs
        'To load it: apply_factors(model, "runs/everything") in Python',
    ):
        assert answer in screen
    assert seen["lang"] == "en"
    assert seen["headings"][0] == 1 and seen["headings"].count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(seen["headings"]))
    assert seen["first"] == ["Skip to the result", "#main", True]
    assert all(len(alt) > 20 for alt, _ in seen["images"])


def test_the_browser_test_can_fail(tmp_path: Path, browser: Browser):
    broken = '<div style="width: 3000px">wide</div><img alt="gone" src="gone.png"><script>console.error("no")</script>'
    (tmp_path / "broken.html").write_text(f"<!DOCTYPE html><html><body>{broken}</body></html>")
    page = browser.look(tmp_path / "broken.html", 390, dark=False)
    assert page.measured["scrollWidth"] > page.measured["width"]
    assert page.measured["images"] == [["gone", 0]]
    assert len(page.errors) == 2 and len(page.requests) == 1
    assert (page.measured["lang"], page.measured["headings"], page.measured["first"]) == ("", [], None)
    assert page.measured["screen"] == ""
