"""Write the report of `sweep.sh`: the page of its sweep without what is folded, five small pictures, and the numbers.

python benchmarks/sweep.py runs/sweep-512
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from longrope.evaluation.report.build import build_report
from longrope.evaluation.report.document import Picture, Report
from longrope.evaluation.report.points import finalists
from longrope.evaluation.report.sweep_part import SweepRun, read_sweep_run
from longrope.evaluation.report.writing import FIGURES, as_markdown
from longrope.rope import write_atomically

REPORT = Path(__file__).parent / "reports" / "sweep"
WIDTH = 800
"""Pixels of a picture."""
COLORS = 64
HEAD = """# {configurations} configurations on {tasks} tasks of the embedded model

Made by `bash benchmarks/sweep.sh`; `{run}/report.html` of that run has every table and picture. Measured on one core
({device}, {dtype}, Python {python}, torch {torch}, transformers {transformers}, commits {commits}) within {minutes:.0f}
minutes beside other work.

"""


def main() -> None:
    """Read the folder of the sweep and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the sweep")
    folder = parser.parse_args().run
    run = read_sweep_run(folder)
    report = build_report([], {}, {}, [run])
    part = report.parts[0]
    kept = [replace(one, pictures=_five(one.pictures, run)) for one in part.sections if not one.folded]
    pictures = [picture for section in kept for picture in section.pictures]
    text = as_markdown(Report([replace(part, sections=kept)], {})).partition("\n\n")[2]
    write_atomically(REPORT.with_suffix(".md"), _head(run, folder) + text.replace(f"{FIGURES}/", "sweep-"))
    write_atomically(REPORT.with_suffix(".json"), json.dumps(_numbers(folder, run, report), indent=1) + "\n")
    _draw(pictures)
    print(part.verdict, *part.findings, sep="\n")


def _five(pictures: Sequence[Picture], run: SweepRun) -> list[Picture]:
    """Return those of the ranking's task, of the chosen method's parameters, and the correlations."""
    ranked_by = run.task, run.metric
    best = finalists(run.tuning.rows, *ranked_by, run.target_length, ranked_by)[0].method.partition(":")[0]
    names = {*(f"{run.task}-{name}" for name in ("boxes", "best-map", "by-length")), "correlations"}
    names.add(f"sensitivity-{best}")
    return [picture for picture in pictures if picture.name in names]


def _head(run: SweepRun, folder: Path) -> str:
    origin = run.tuning.provenances[0]
    evaluations = [run.tuning, *([run.held_out] if run.held_out else [])]
    seconds = sum(cost["seconds"] for one in evaluations for cost in one.costs)
    return HEAD.format(
        configurations=len({row.method for row in run.tuning.rows}),
        tasks=len({row.task for row in run.tuning.rows}),
        run=folder,
        minutes=seconds / 60,
        commits=", ".join(commit[:7] for commit in _commits(run)),
        **{name: origin[name] for name in ("device", "dtype")},
        **{name: origin["versions"][name] for name in ("python", "torch", "transformers")},
    )


def _commits(run: SweepRun) -> list[str]:
    return sorted({commit for origin in run.tuning.provenances for commit in origin.get("commits", ())})


def _numbers(folder: Path, run: SweepRun, report: Report) -> Mapping[str, Any]:
    """Return what the sweep ranked and tested, with its provenance."""
    ranking = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    tested = None if run.held_out is None else run.held_out.provenances[0]["protocols"]
    advice = next(rows for name, rows in report.csv.items() if name.startswith("advice"))
    return {**ranking, "advice": advice, "test_protocols": tested}


def _draw(pictures: Sequence[Picture]) -> None:
    """Write the pictures in few colours, small enough for a repository."""
    with tempfile.TemporaryDirectory() as drawn:
        for picture in pictures:
            path = Path(drawn, f"{picture.file}.png")
            picture.draw(path)
            with Image.open(path) as image:
                size = (WIDTH, round(image.height * WIDTH / image.width))
                small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
            target = REPORT.with_name(f"sweep-{picture.file}.png")
            small.quantize(COLORS).save(target, optimize=True)


if __name__ == "__main__":
    main()
