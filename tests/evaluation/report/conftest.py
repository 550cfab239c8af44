"""One run with a bit of everything, for the tests that look at a whole report."""

from pathlib import Path

import pytest

from longrope.evaluation.comparison.results import LeftOut
from longrope.evaluation.report.build import build_report
from longrope.evaluation.report.runs import read_evaluation
from longrope.evaluation.report.writing import write_report
from longrope.evaluation.tasks.ruler.tasks import RULER

from .browser import CHROMIUM, Browser
from .synthetic import answers, losses, positions, write_run

LENGTHS = (256, 1024, 4096)
METHODS = {"none": (2.0, 0.1), "yarn:beta_fast=16": (0.3, 0.5), "yarn:beta_fast=32": (0.1, 0.6), "longrope": (0.0, 0.9)}
"""Loss per token above 2 nats at the longest length, and share of right answers."""
RULER_TASKS = list(RULER)[:3]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of two families on all kinds of tasks; the length that RULER has no room in is left out."""
    cells = [
        (method, *numbers, step, length) for method, numbers in METHODS.items() for step, length in enumerate(LENGTHS)
    ]
    records = {
        "perplexity": [
            record
            for method, above, _, step, length in cells
            for record in [*losses(method, "perplexity", length, 2 + above * step / 2), *positions(method, length, 2)]
        ]
    }
    for task in ("passkey", *RULER_TASKS):
        metric = RULER[task].metric if task in RULER else "accuracy"
        records[task] = [
            record
            for method, _, share, _, length in cells
            if task == "passkey" or length > 256
            for record in answers(method, task, length, share, metric=metric)
        ]
    failure = {
        "method": "none",
        "task": "passkey",
        "length": 4096,
        "item": "cell",
        "error": "RuntimeError: <no memory>",
    }
    left_out = [LeftOut(task, 256, "lengths must be at least 300 tokens") for task in RULER_TASKS]
    folder, config = tmp_path_factory.mktemp("runs") / "everything", {"model": "m", "factors": ["runs/everything"]}
    return write_run(folder, records, failures=[failure], left_out=left_out, config=config)


@pytest.fixture(scope="session")
def report_folder(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the written report of that run."""
    folder = tmp_path_factory.mktemp("report")
    write_report(build_report([read_evaluation(run_folder)], {}, {}), folder)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory):
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the path")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened
