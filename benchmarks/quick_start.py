"""Write the report of `quick_start.sh`: the tables of its evaluation, the seeds as one row of median and range.

python benchmarks/quick_start.py runs/quick-start
"""

import argparse
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from longrope.evaluation.comparison.results import ResultRow, read_results
from longrope.evaluation.report.metrics import format_value
from longrope.evaluation.report.table import markdown
from longrope.rope import write_atomically

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


def main() -> None:
    """Read the results of the run folder and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the evaluation")
    run = parser.parse_args().run
    rows = read_results(run / "results.json").rows
    text = "\n".join(table(rows, task, metric) for task, metric in METRICS.items())
    write_atomically(REPORT.with_suffix(".md"), f"# The quick start with five seeds\n\n{text}")
    shutil.copyfile(run / "results.json", REPORT.with_suffix(".json"))
    print(text)


if __name__ == "__main__":
    main()
