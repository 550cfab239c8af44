"""Write the report of `quick_start.sh`: the tables of its evaluation with one row for all seeds, and each search.

python benchmarks/quick_start.py runs/quick-start seed-0=runs/tiny seed-1=runs/quick-start/seed-1 ...
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longrope.cli.progress import describe_gain
from longrope.evaluation.comparison.results import ResultRow, read_results
from longrope.evaluation.report.metrics import format_value
from longrope.evaluation.report.table import markdown
from longrope.evolution.racing import Gain
from longrope.rope import load_factors, write_atomically

SEED = "seed-"
METRICS = {"perplexity": "token_weighted", "passkey": "accuracy"}
REPORT = Path(__file__).parent / "reports" / "quick_start"


def table(rows: Sequence[ResultRow], task: str, metric: str) -> str:
    """Return a table with a row per baseline, and one of the median and the range over the seeds of the search."""
    chosen = [row for row in rows if (row.task, row.metric) == (task, metric)]
    lengths = sorted({row.length for row in chosen})
    values = {(row.method, row.length): row.value for row in chosen}
    methods = list(dict.fromkeys(row.method for row in chosen))
    lines = [
        [method, *(format_value(metric, values[method, length]) for length in lengths)]
        for method in methods
        if not method.startswith(SEED)
    ]
    seeds = [method for method in methods if method.startswith(SEED)]
    found = [[values[seed, length] for seed in seeds] for length in lengths]
    for name, pick in {"median": statistics.median, "lowest": min, "highest": max}.items():
        picked = [format_value(metric, pick(at_length)) for at_length in found]
        lines.append([f"longrope, {len(seeds)} seeds: {name}", *picked])
    return markdown([f"{task} ({metric})", *map(str, lengths)], lines)


def searches(rows: Sequence[ResultRow], found: Mapping[str, Any]) -> str:
    """Return a table of what each search said of its gain, and of its numbers at the longest length.

    Args:
        rows: of the evaluation.
        found: provenance of each search's factors, by the name of its row.
    """
    longest = max(row.length for row in rows)
    values = {
        (row.method, row.task): row for row in rows if METRICS.get(row.task) == row.metric and row.length == longest
    }
    lines = [
        [name, stated(origin.get("gain")), *(_with_interval(values[name, task]) for task in METRICS)]
        for name, origin in found.items()
    ]
    head = ["search", "what it said of its gain", *(f"{task}, {longest} [95 %]" for task in METRICS)]
    return markdown(head, lines)


def stated(gain: Mapping[str, Any] | None) -> str:
    """Return what a search said of its gain, from the provenance of its factors."""
    if gain is None:
        return "nothing found"
    return "no bound" if None in gain.values() else describe_gain(Gain(**gain))


def _with_interval(row: ResultRow) -> str:
    low, high = ("-" if one is None else format_value(row.metric, one) for one in (row.low, row.high))
    return f"{format_value(row.metric, row.value)} [{low}, {high}]"


def main() -> None:
    """Read the results of the run folder and the searches, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the evaluation")
    parser.add_argument("searches", nargs="+", help="NAME=FOLDER of each search, named as in the evaluation")
    options = parser.parse_args()
    folders = dict(one.split("=", 1) for one in options.searches)
    found = {name: load_factors(folder).provenance for name, folder in folders.items()}
    rows = read_results(options.run / "results.json").rows
    tables = [*(table(rows, task, metric) for task, metric in METRICS.items()), searches(rows, found)]
    text = "\n".join(tables)
    write_atomically(REPORT.with_suffix(".md"), f"# The quick start with five seeds\n\n{text}")
    results = json.loads((options.run / "results.json").read_text(encoding="utf-8"))
    write_atomically(REPORT.with_suffix(".json"), json.dumps(results | {"searches": found}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
