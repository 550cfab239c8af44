"""Measure what workers bring, and simulate what many would.

    python -m benchmarks.scaling [--pairs 8] [--output-dir benchmarks/reports]

Measured side by side on this machine, in turns: candidates scored per second by one and by two worker processes of one
thread each, on the embedded model; and what a pass through Ray takes more than in this process, with a pass that does
nothing (left out where Ray is not installed). Simulated with the measured pass times (`cluster.py`): 8 to 1,024
workers, synchronous and asynchronous. What could not be measured here is assumed and named in the report: slow passes,
and nodes that fail. Writes scaling.json and scaling.md. Nothing else may run on the machine meanwhile.
"""

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cluster import Cluster, simulate
from longrope.cli.configs import SearchConfig
from longrope.cli.executors import use
from longrope.cli.search_worker import SearchWorker
from longrope.evaluation.comparison.results import git_commit, versions
from longrope.evaluation.data.tokenized import TokenDocument
from longrope.evaluation.objectives.base import WindowScore
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring.model import load_model
from longrope.evolution import Unit, UnitScores
from longrope.execution import Executor, InlineExecutor, RayExecutor, Resources, only, process_executor
from longrope.rope import RescaleFactors, install, write_atomically

MODEL = "examples/tiny/model"
ORIGINAL_LENGTH, LENGTH = 256, 2048
MULTIPLES = (1, 2, 4, 8, 16, 32)
"""Passes of a generation per worker."""
BUSY = 0.9
"""Utilisation that is asked for."""
STRAGGLERS = {"straggler_share": 0.01, "straggler_slowdown": 3.0}
"""Assumed: one pass in a hundred takes three times as long."""
FAILURES = {"per_node": 8, "failures_per_hour": 0.01}
"""Assumed: a node of eight fails once in a hundred hours. Llama 3 (arXiv 2407.21783, section 3.3.4) tells of 419
unexpected interruptions in 54 days on 16,384 GPUs, once in 6,300 hours and node; rented ones leave more often."""


@dataclass(frozen=True)
class Measured:
    """What was measured here."""

    pass_seconds: float
    """Mean time of scoring one candidate on one window."""
    spread: float
    """Standard deviation of that over its mean."""
    start_seconds: float
    """From nothing to a worker that has its model."""
    driver_seconds: float
    """What handing out a unit and taking its result costs the driver, with processes."""
    speedup_2_workers: float
    """Candidates per second of two workers over those of one: the median of the pairs."""
    ray_overhead_ms: float | None
    """Milliseconds that a candidate takes more on Ray than in this process; None without Ray."""
    pairs: int
    """Turns of one and two workers."""


@dataclass(frozen=True)
class Factory:
    """Loads the embedded model with windows of random tokens, on which passes take as long as on any."""

    windows: int

    def __call__(self, resources: Resources) -> SearchWorker:
        use(resources)
        model, _ = load_model(MODEL, "float32", "cpu")
        rng = np.random.default_rng(0)
        tokens = rng.integers(0, model.config.get_text_config().vocab_size, (self.windows, LENGTH))
        documents = [TokenDocument(f"random-{number}", ids) for number, ids in enumerate(tokens)]
        installation = install(model)
        objective = PerplexityObjective(model, installation, documents, LENGTH, batch_size=1)
        return SearchWorker(SearchConfig(MODEL, "", LENGTH, ""), model, installation, objective)  # type: ignore[arg-type]


def nothing(resources: Resources) -> None:
    """Make the state of a worker that has nothing to do."""


def no_pass(state: None, unit: Unit) -> UnitScores:
    """Return scores without a pass."""
    return UnitScores([WindowScore(1.0, 1, forwarded=1) for _ in unit.candidates], 0.0)


def units_of(count: int, windows: int) -> list[Unit]:
    """Return so many units of one candidate each, of the size that the embedded model has."""
    rng = np.random.default_rng(1)
    factors = [
        RescaleFactors(np.sort(rng.uniform(1, 8, 32)), ORIGINAL_LENGTH, LENGTH, 10000.0, 64) for _ in range(count)
    ]
    return [Unit((one,), number % windows, gradient=False) for number, one in enumerate(factors)]


def seconds_of(executor: Executor[Any], function: Any, units: Sequence[Unit]) -> tuple[float, list[float]]:
    """Return the wall time of units, and that of each where it was scored."""
    started = time.perf_counter()
    futures = [executor.submit(function, unit) for unit in units]
    inside = [future.result().seconds for future in executor.as_completed(futures)]
    return time.perf_counter() - started, inside


def measure(options: argparse.Namespace) -> Measured:
    """Measure passes, two workers against one, and Ray against this process."""
    os.environ["OMP_NUM_THREADS"] = "1"
    factory, share, units = Factory(options.units), Resources(threads=1), units_of(options.units, options.units)
    started = time.perf_counter()
    with process_executor(factory, [share]) as one:
        only(one, SearchWorker.score, units[0])
        start = time.perf_counter() - started
        with process_executor(factory, [share] * 2) as two:
            seconds_of(two, SearchWorker.score, units)  # meanwhile both get their model
            speedups, passes = [], []
            for _ in range(options.pairs):
                alone, inside = seconds_of(one, SearchWorker.score, units)
                speedups.append(alone / seconds_of(two, SearchWorker.score, units)[0])
                passes += inside
    overheads = measure_overheads(options.no_ops)
    mean = statistics.fmean(passes)
    return Measured(
        mean,
        statistics.stdev(passes) / mean,
        start,
        overheads["processes"] or 0.0,
        statistics.median(speedups),
        None if (ray := overheads["ray"]) is None else 1000 * ray,
        options.pairs,
    )


def measure_overheads(count: int) -> dict[str, float | None]:
    """Return the seconds that a unit without a pass takes more than in this process, by executor."""
    units, share = units_of(count, 1), Resources(threads=1)
    inline, _ = seconds_of(InlineExecutor(nothing), no_pass, units)
    overheads: dict[str, float | None] = {"ray": None}
    with process_executor(nothing, [share]) as processes:
        seconds_of(processes, no_pass, units[:1])
        overheads["processes"] = (seconds_of(processes, no_pass, units)[0] - inline) / count
    if importlib.util.find_spec("ray") is not None:
        with RayExecutor(nothing, None, 1, 0) as ray:
            seconds_of(ray, no_pass, units[:1])
            overheads["ray"] = (seconds_of(ray, no_pass, units)[0] - inline) / count
    return overheads


def simulate_all(measured: Measured, pass_seconds: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row per number of workers and width of a generation, with passes that take so long on average."""
    base = Cluster(
        1,
        pass_seconds,
        measured.spread,
        restart=measured.start_seconds,
        driver=measured.driver_seconds,
        **STRAGGLERS,
        **FAILURES,
    )
    return [row_of(replace(base, workers=w), m, options.generations) for w in options.workers for m in MULTIPLES]


def row_of(cluster: Cluster, multiple: int, generations: int) -> dict[str, Any]:
    """Return both ways of running the same passes, and what the loss of a node half-way costs each."""
    row: dict[str, Any] = {"workers": cluster.workers, "multiple": multiple, "width": multiple * cluster.workers}
    for name, synchronous in (("synchronous", True), ("asynchronous", False)):
        outcome = simulate(cluster, generations, row["width"], synchronous)
        row[name] = outcome._asdict()
        if cluster.workers > cluster.per_node:
            halved = replace(cluster, lost_at=outcome.seconds / 2)
            longer = simulate(halved, generations, row["width"], synchronous)
            row[name]["node_lost_seconds"] = longer.seconds - outcome.seconds
    return row


def render(report: dict[str, Any]) -> str:
    """Return the report as a page."""
    measured, ray = report["measured"], report["ray_overhead_ms"]
    lines = [
        "# Many devices",
        "",
        f"Measured on {report['cores']} cores: two worker processes score {measured['speedup_2_workers']:.2f} times as "
        f"many candidates per second as one (median of {measured['pairs']} pairs, one thread each). "
        + (
            "Ray was not installed."
            if ray is None
            else f"Through Ray a candidate takes {ray:.2f} ms more than without."
        )
        + f" A pass took {measured['pass_seconds']:.3f} s, with a standard deviation of {measured['spread']:.1%}; a "
        f"worker starts in {measured['start_seconds']:.1f} s.",
        "",
        f"Simulated: {report['generations']} generations with passes of that spread, as long as measured and as long "
        "as those of large models on long windows, on these assumptions: "
        f"{STRAGGLERS['straggler_share']:.0%} of the passes take {STRAGGLERS['straggler_slowdown']:.0f} times as long, "
        f"and a node of {FAILURES['per_node']} workers fails {FAILURES['failures_per_hour']} times an hour. A "
        "synchronous search, as all of `longrope search` but its preset `steady`, waits for the last pass of each "
        "generation; an asynchronous one runs as many passes and waits for none. The driver takes one result at a "
        f"time, {1000 * measured['driver_seconds']:.2f} ms each.",
    ]
    for one in report["simulation"]:
        lines += ["", f"## Passes of {one['pass_seconds']:.3g} s", "", *verdict(one["rows"]), "", *table(one["rows"])]
    return "\n".join(lines) + "\n"


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the table of a simulation."""
    lines = [
        "| workers | passes of a generation | synchronous: busy | seconds | a node lost: more seconds "
        "| asynchronous: busy | seconds | a node lost: more seconds |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [str(row["workers"]), str(row["width"])]
        for name in ("synchronous", "asynchronous"):
            outcome = row[name]
            lost = outcome.get("node_lost_seconds")
            cells += [
                f"{outcome['utilisation']:.1%}",
                f"{outcome['seconds']:.1f}",
                "" if lost is None else f"{lost:.1f}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return where the utilisation that is asked for holds, a line for each number of workers."""
    lines = []
    for workers in dict.fromkeys(row["workers"] for row in rows):
        own = [row for row in rows if row["workers"] == workers]
        wide, free = (
            _busy_from([(row["width"], row[how]["utilisation"]) for row in own])
            for how in ("synchronous", "asynchronous")
        )
        told = [
            f"{how} {'never' if width is None else f'from {width:,} passes of a generation on'}"
            for how, width in (("synchronous", wide), ("asynchronous", free))
        ]
        lines.append(f"- {workers:,} workers are {BUSY:.0%} busy: {', '.join(told)}.")
    return lines


def _busy_from(found: Sequence[tuple[int, float]]) -> int | None:
    """Return the width from which on all keep the workers busy, None if the widest does not."""
    narrow = max((width for width, utilisation in found if utilisation < BUSY), default=0)
    return min((width for width, _ in found if width > narrow), default=None)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8, help="turns of one and two workers")
    parser.add_argument("--units", type=int, default=24, help="candidates of a turn, an even number")
    parser.add_argument("--no-ops", type=int, default=500, help="candidates without a pass, for the overhead")
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 32, 128, 512, 1024], help="simulated workers")
    parser.add_argument("--generations", type=int, default=5, help="generations of a simulated search")
    parser.add_argument(
        "--pass-seconds", type=float, nargs="*", default=[30.0], help="further simulated means of a pass, in seconds"
    )
    parser.add_argument("--output-dir", default="benchmarks/reports", help="folder of the two files")
    return parser.parse_args()


def main() -> None:
    """Measure, simulate, and write the report."""
    options = read_options()
    measured = measure(options)
    means = (measured.pass_seconds, *options.pass_seconds)
    report = {
        "versions": versions(),
        "commit": git_commit(),
        "cores": len(os.sched_getaffinity(0)),
        "speedup_2_workers": measured.speedup_2_workers,
        "ray_overhead_ms": measured.ray_overhead_ms,
        "measured": asdict(measured),
        "assumed": STRAGGLERS | FAILURES,
        "generations": options.generations,
        "simulation": [{"pass_seconds": mean, "rows": simulate_all(measured, mean, options)} for mean in means],
    }
    path = Path(options.output_dir) / "scaling"
    write_atomically(path.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
    write_atomically(path.with_suffix(".md"), render(report))
    print(f"saved: {path}.json and {path}.md")


if __name__ == "__main__":
    main()
