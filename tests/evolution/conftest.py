"""A toy search that is exact in integers, used in this process and, by running this file, in others."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from longrope.evolution import (
    CmaSettings,
    Genome,
    PaperSettings,
    RunFolder,
    SearchResult,
    Settings,
    Space,
    Strategy,
    build_strategy,
    read_history,
    run_search,
)
from longrope.rope.factors import RescaleFactors

NUM_DOCUMENTS = 3
SPACE = Space(num_pairs=6, scale=4.0)
SEEDS = {
    "pi": SPACE.encode([4.0] * 6),
    "ntk": SPACE.encode([4.0 ** (i / 5) for i in range(6)]),
    "yarn": SPACE.encode([1.0, 1.0, 1.5, 2.5, 4.0, 4.0]),
}
TARGET = (100, 120, 170, 300, 430, 480)
SETTINGS: dict[str, Settings] = {
    "paper": PaperSettings(population_size=8, num_iterations=4, num_mutations=3, num_crossovers=3, num_parents=4),
    "cma": CmaSettings(population_size=6, num_iterations=5, num_knots=3),
}


class Killed(Exception):
    """Stands for the end of the process."""


@dataclass(frozen=True)
class ToyScore:
    nats: float
    tokens: int = 10
    error: str | None = None


@dataclass
class ToyObjective:
    """Whole nats: the distance in grid steps to a target that shifts with the document."""

    kill_at: int | None = None
    on_kill: Callable[[], None] | None = None
    calls: int = 0
    scores: int = 0

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[ToyScore]:
        if self.calls == self.kill_at:
            if self.on_kill:
                self.on_kill()
            raise Killed
        self.calls += 1
        self.scores += len(candidates)
        return [self._one(candidate, document) for candidate in candidates]

    def _one(self, candidate: RescaleFactors, document: int) -> ToyScore:
        distance = np.abs(np.rint(candidate.lambdas * 100) - np.array(TARGET) - 5 * document)
        return ToyScore(nats=float(distance.sum() + candidate.start_tokens))


def build(genome: Genome) -> RescaleFactors:
    return RescaleFactors(SPACE.decode(genome), 256, 1024, 10000.0, 12, start_tokens=genome.start_tokens)


def new_strategy(name: str, seed: int = 7) -> Strategy:
    return build_strategy(SETTINGS[name], SPACE, SEEDS, NUM_DOCUMENTS, seed)


def run_toy(name: str, path: Path, objective: ToyObjective, resume: bool = False, seed: int = 7) -> SearchResult:
    with RunFolder(path, {"strategy": name, "seed": seed}, resume=resume) as folder:
        return run_search(new_strategy(name, seed), objective, folder, build)


def trace(path: Path) -> list[object]:
    """Everything the history says but the wall time."""
    return [replace(row, seconds=0.0) for row in read_history(path / "history.jsonl")[0]]


@pytest.fixture(params=sorted(SETTINGS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


if __name__ == "__main__":
    strategy_name, folder_path, kill_at = sys.argv[1:]
    killer = ToyObjective(kill_at=int(kill_at), on_kill=lambda: os.kill(os.getpid(), signal.SIGKILL))
    print(run_toy(strategy_name, Path(folder_path), killer, resume=True).best)
