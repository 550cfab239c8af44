"""Steady-state search over executors: no worker waits, and what is killed or lost is as in any other search."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from longrope.cli.main import main
from longrope.cli.search_worker import ExecutedObjective
from longrope.evaluation.objectives.base import WindowScore
from longrope.evolution import (
    HistoryRow,
    SearchRecord,
    SearchResult,
    Space,
    SteadySettings,
    Unit,
    UnitScores,
    build_strategy,
    read_history,
    run_search,
)
from longrope.execution import TaskFuture
from longrope.execution.pool import PoolExecutor
from longrope.rope import RopeGeometry

from ..conftest import FULL
from ..execution.conftest import alive
from .test_workers import DRIVER

SPACE, GEOMETRY = Space(num_pairs=6, scale=4.0), RopeGeometry(12, 10000.0, 256)
SEEDS = {"pi": SPACE.encode([4.0] * 6), "yarn": SPACE.encode([1.0, 1.0, 1.5, 2.5, 4.0, 4.0])}
NUM_DOCUMENTS, NUM_CANDIDATES, WORKERS = 8, 24, 4
KILLS = 20 if FULL else 1


def is_poison(steps: int) -> bool:
    """Whether a candidate takes its workers with it, by the sum of its steps: a third of them but for the seeds."""
    return steps % 3 == 0 and steps not in [sum(seed.steps) for seed in SEEDS.values()]


class Lost(Exception):
    """A worker is gone."""


class ThreadWorker:
    """A worker that is a thread."""

    lost: tuple[type[BaseException], ...] = (Lost,)

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)

    def start(self) -> Future[None]:
        return self._pool.submit(time.sleep, random.random() / 50)

    def submit(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        return self._pool.submit(function, None, *arguments)

    def close(self) -> None:
        self._pool.shutdown(wait=False)


class Watched(PoolExecutor[Any]):
    """Notes how many units are in flight whenever one is waited for, and scores with delays in place of a model."""

    def __init__(self, poison: bool) -> None:
        super().__init__([ThreadWorker] * WORKERS)
        self.in_flight: list[int] = []
        self.poison = poison

    def submit(self, function: Callable[..., Any], *arguments: Any) -> TaskFuture[Any]:
        return super().submit(self._slowly, *arguments)

    def as_completed(self, futures: Iterable[TaskFuture[Any]]) -> Iterator[TaskFuture[Any]]:
        wanted = list(futures)
        self.in_flight.append(len(wanted))
        return super().as_completed(wanted)

    def _slowly(self, state: None, unit: Unit) -> UnitScores:
        steps = [round(100 * one.lambdas.sum()) for one in unit.candidates]
        time.sleep(random.random() / 100)
        if self.poison and any(map(is_poison, steps)):
            raise Lost
        return UnitScores([WindowScore(0.01 * one, 9, forwarded=10) for one in steps], 0.01)


def search(executor: Watched) -> tuple[SearchResult, list[HistoryRow]]:
    settings, record = SteadySettings(population_size=6, num_candidates=NUM_CANDIDATES), SearchRecord()
    strategy = build_strategy(settings, SPACE, SEEDS, NUM_DOCUMENTS, 0)
    objective = ExecutedObjective(executor, {False: [10] * NUM_DOCUMENTS, True: [30] * NUM_DOCUMENTS}, unit_size=1)
    with executor:
        result = run_search(strategy, objective, record, lambda genome: SPACE.factors(genome, GEOMETRY, 1024))
    return result, list(record.rows)


def test_as_many_units_as_workers_are_in_flight_until_none_is_left() -> None:
    executor = Watched(poison=False)
    _, rows = search(executor)
    last = max(row.generation for row in rows)
    searched, chosen = ([row for row in rows if (row.generation == last) == final] for final in (False, True))
    full, drain = [WORKERS], list(range(WORKERS - 1, 0, -1))
    expected = full * (len(searched) - WORKERS + 1) + drain + full * (len(chosen) - WORKERS + 1) + drain
    assert executor.in_flight == expected
    assert len({row.genome for row in rows}) == NUM_CANDIDATES and len({row.key for row in rows}) == len(rows)
    places = [row.generation for row in rows]
    assert places != sorted(places)  # they ended in another order than they began


def test_candidates_that_kill_their_workers_are_recorded_and_win_nothing() -> None:
    result, rows = search(Watched(poison=True))
    failed = {row.genome for row in rows if row.error}
    assert failed and failed == {row.genome for row in rows if is_poison(sum(row.steps))}
    assert all("3 workers were lost" in str(row.error) and row.nats is None for row in rows if row.error)
    assert result.best.genome not in failed
    assert len({row.genome for row in rows}) == NUM_CANDIDATES and len({row.key for row in rows}) == len(rows)


@pytest.fixture
def command(small_commands: dict[str, list[str]], tmp_path: Path) -> list[str]:
    """Return the arguments of a small search but for its folder."""
    settings = tmp_path / "steady.yaml"
    content = {"strategy": "steady", "population_size": 5, "num_candidates": 16, "start_token_choices": [0]}
    settings.write_text(yaml.safe_dump(content))
    arguments = [*small_commands["search"], "--samples=3"]
    arguments[arguments.index("--hyper-params") + 1] = str(settings)
    return arguments


def test_a_search_on_two_workers_whose_driver_is_killed_goes_on_and_repeats_no_score(
    command: list[str], tmp_path: Path
) -> None:
    for number in range(KILLS):
        folder, stop = tmp_path / str(number), random.Random(number).randint(1, 30)
        arguments = [*command, "--output-dir", str(folder)]
        killed = subprocess.run(
            [sys.executable, "-c", DRIVER, str(stop), *arguments, "--workers", "2"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        assert not any(map(alive, json.loads(killed.stdout.splitlines()[-1])))
        kept = (folder / "history.jsonl").read_bytes()
        assert main(arguments) == 0 and (folder / "factors.json").is_file()
        assert (folder / "history.jsonl").read_bytes().startswith(kept)
        rows = read_history(folder / "history.jsonl").rows
        assert len({row.key for row in rows}) == len(rows) == (folder / "history.jsonl").read_bytes().count(b"\n")
        assert len({row.genome for row in rows}) == 16
        assert {row.document for row in rows if row.generation == rows[-1].generation} == {2}
