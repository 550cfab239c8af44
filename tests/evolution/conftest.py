"""A toy search that is exact in integers, used in this process and, by running this file, in others."""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from longrope.evolution import (
    Budget,
    Evaluation,
    Genome,
    HybridSettings,
    LongRope2Settings,
    PaperSettings,
    ParetoSettings,
    Proposal,
    RunFolder,
    SearchResult,
    Settings,
    Space,
    SteadySettings,
    Strategy,
    build_strategy,
    read_history,
    run_search,
)
from longrope.rope.factors import RescaleFactors

NUM_DOCUMENTS = 3
SPACE = Space(num_pairs=6, scale=4.0)
SEED_LAMBDAS = {
    "pi": [4.0] * 6,
    "ntk": [4.0 ** (i / 5) for i in range(6)],
    "yarn": [1.0, 1.0, 1.5, 2.5, 4.0, 4.0],
}
SEEDS = {name: SPACE.encode(lambdas) for name, lambdas in SEED_LAMBDAS.items()}
TARGET = (100, 120, 170, 300, 430, 480)
SETTINGS: dict[str, Settings] = {
    "paper": PaperSettings(population_size=8, num_iterations=4, num_mutations=3, num_crossovers=3, num_parents=4),
    "longrope2": LongRope2Settings(population_size=8, num_iterations=4, num_parents=5),
    "hybrid": HybridSettings(num_scores=120, windows_per_document=4, selection_share=0.1),
    "piecewise": PaperSettings(
        population_size=8, num_iterations=4, num_mutations=3, num_crossovers=3, num_parents=4, pieces=True
    ),
    "steady": SteadySettings(population_size=6, num_candidates=19),
    "pareto": ParetoSettings(population_size=4, num_iterations=4, short_documents=2),
}


class Killed(Exception):
    """Stands for the end of the process."""


@dataclass(frozen=True)
class ToyScore:
    nats: float
    tokens: int = 9
    error: str | None = None
    forwarded: int = 10


@dataclass(frozen=True)
class ToyGradient(ToyScore):
    forwarded: int = 30
    d_log_lambda: tuple[float, ...] = ()
    d_log_attention: float = 0.0


@dataclass
class ToyObjective:
    """Whole nats: the distance in grid steps to a target that shifts with the document."""

    kill_at: int | None = None
    on_kill: Callable[[], None] | None = None
    calls: int = 0
    scores: int = 0
    """A gradient counts as three."""

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[ToyScore]:
        self._begin_call(len(candidates))
        return [self._one(candidate, document) for candidate in candidates]

    def gradient(self, candidate: RescaleFactors, document: int) -> ToyGradient:
        self._begin_call(3)
        factors, attention = 100 * candidate.lambdas, 1000 * candidate.attention_factor
        d_log_lambda = np.sign(factors - np.array(TARGET) - 5 * document) * factors
        return ToyGradient(
            self._one(candidate, document).nats,
            d_log_lambda=tuple(d_log_lambda),
            d_log_attention=float(np.sign(attention - 1100) * attention),
        )

    def price(self, document: int, gradient: bool) -> int:
        return 30 if gradient else 10

    def _begin_call(self, num_scores: int) -> None:
        if self.calls == self.kill_at:
            if self.on_kill:
                self.on_kill()
            raise Killed
        self.calls += 1
        self.scores += num_scores

    def _one(self, candidate: RescaleFactors, document: int) -> ToyScore:
        distance = np.abs(np.rint(candidate.lambdas * 100) - np.array(TARGET) - 5 * document)
        attention = abs(round(1000 * candidate.attention_factor) - 1100)
        return ToyScore(nats=float(distance.sum() + candidate.start_tokens + attention))


def build(genome: Genome) -> RescaleFactors:
    attention = SPACE.decode_attention(genome) or 1.1
    return RescaleFactors(
        SPACE.decode(genome), 256, 1024, 10000.0, 12, attention_factor=attention, start_tokens=genome.start_tokens
    )


def new_strategy(name: str, seed: int = 7) -> Strategy:
    settings = SETTINGS[name]
    space = settings.space(SPACE.num_pairs, SPACE.scale)
    space = replace(space, critical_dimensions=(2, 4))
    attention = 1.0 if space.search_attention else None
    seeds = {seed_name: space.encode(lambdas, 0, attention) for seed_name, lambdas in SEED_LAMBDAS.items()}
    return build_strategy(settings, space, seeds, NUM_DOCUMENTS, seed)


def run_toy(
    name: str,
    path: Path,
    objective: ToyObjective,
    resume: bool = False,
    seed: int = 7,
    budget: Budget | None = None,
) -> SearchResult:
    with RunFolder(path, {"strategy": name, "seed": seed}, resume=resume) as folder:
        return run_search(new_strategy(name, seed), objective, folder, build, budget=budget)


def reopened(strategy: Strategy, fresh: Strategy, told: Sequence[Sequence[Evaluation]]) -> Strategy:
    """Bring a fresh strategy to where another asks for a generation, through JSON."""
    requests = tuple(strategy.ask())
    proposal = Proposal(strategy.generation, strategy.final, requests, strategy.state())
    fresh.restore(Proposal.from_dict(json.loads(json.dumps(proposal.to_dict(), allow_nan=False))), told)
    return fresh


def trace(path: Path) -> list[object]:
    """Everything the history says but the wall time."""
    return [replace(row, seconds=0.0) for row in read_history(path / "history.jsonl").rows]


@pytest.fixture(params=sorted(SETTINGS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


if __name__ == "__main__":
    for line in sys.stdin:
        strategy_name, folder, kill_at = json.loads(line)
        if (child := os.fork()) == 0:
            killer = ToyObjective(kill_at=kill_at, on_kill=lambda: os.kill(os.getpid(), signal.SIGKILL))
            Path(folder, "best").write_text(str(run_toy(strategy_name, Path(folder), killer, resume=True).best))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
