"""What a search tells people while it runs and when it ends."""

import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker, get_available_trackers
from tqdm import tqdm

from longrope.cli.progress import (
    SearchBar,
    SearchReport,
    describe,
    describe_gain,
    describe_result,
    render_origins,
    scalars,
)
from longrope.evolution import (
    Gain,
    Genome,
    PaperSettings,
    RunFolder,
    SearchProgress,
    SearchResult,
    Space,
    build_strategy,
    run_search,
)
from longrope.evolution.curve import GenerationSummary
from longrope.evolution.objective import rows_of_call
from longrope.rope import RescaleFactors

SPACE = Space(num_pairs=4, scale=4.0, start_token_choices=(0,))
SEEDS = {"pi": SPACE.encode([4.0] * 4), "yarn": SPACE.encode([1.0, 2.0, 3.0, 4.0])}
SETTINGS = PaperSettings(
    population_size=4, num_iterations=3, num_mutations=2, num_crossovers=1, num_parents=2, start_token_choices=(0,)
)
SUMMARY = GenerationSummary(
    generation=3,
    scored_tokens=12_345,
    origins={"mutation": 2, "crossover": 1},
    documents=frozenset((0, 2)),
    best_loss=np.log(8.0),
    best_origin="crossover",
    median_loss=np.log(10.0),
    seed_loss=np.log(10.0),
)


class Memory(GeneralTracker):
    """Keeps what it is told."""

    name = "memory"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__(_blank=True)
        self.main_process_only = True
        self.logged: list[tuple[int | None, dict[str, float]]] = []
        self.ended = False

    @property
    def tracker(self) -> "Memory":
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        raise AssertionError("no configuration is handed over: the run folder has it")

    def log(self, values: dict[str, float], step: int | None = None, **kwargs: Any) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.ended = True


class Killed(Exception):
    pass


class Objective:
    """Losses of a toy: whole nats over ten tokens; dies before call number `kill_at`."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at, self.calls = kill_at, 0

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[Any]:
        if self.calls == self.kill_at:
            raise Killed
        self.calls += 1
        return [Score(float(np.rint(100 * one.lambdas).sum()) / 50 + document) for one in candidates]

    def price(self, document: int, gradient: bool) -> int:
        return 10


class Score:
    def __init__(self, nats: float) -> None:
        self.nats, self.tokens, self.forwarded, self.error = nats, 10, 10, None


def search(path: Path, tracker: Memory, objective: Objective, resume: bool = False) -> SearchResult:
    strategy = build_strategy(SETTINGS, SPACE, SEEDS, 2, 0)
    with RunFolder(path, {}, resume=resume) as folder, SearchReport(folder, [tracker]) as report:
        return run_search(strategy, objective, folder, build, report.show)


def build(genome: Genome) -> RescaleFactors:
    return RescaleFactors(SPACE.decode(genome), 256, 1024, 1e4, 8)


def test_each_generation_is_logged_once_with_its_number_as_the_step(tmp_path: Path) -> None:
    tracker = Memory()
    search(tmp_path, tracker, Objective())
    assert [step for step, _ in tracker.logged] == [0, 1, 2, 3]
    assert tracker.ended
    assert tracker.logged[0][1]["gain/best"] <= 0
    assert tracker.logged[0][1]["candidates/seed"] == 2
    assert tracker.logged[-1][1]["scored_tokens"] > tracker.logged[0][1]["scored_tokens"]


def test_generations_that_end_in_another_order_are_each_told_once(tmp_path: Path) -> None:
    tracker = Memory()
    with RunFolder(tmp_path, {}) as folder, SearchReport(folder, [tracker]) as report:
        for generation in (0, 2, 1):
            genome = SPACE.encode([1.0, 2.0, 3.0, 4.0 - generation / 2])
            scores, named = [Score(5.0 + generation)], {genome: "seed:a" if generation == 0 else "mutation"}
            folder.append(rows_of_call(scores, named, generation, 0, False, 0.1))
            for _ in range(2):
                report.show(SearchProgress(generation, None, 1, 1, 1, 10))
    assert [step for step, _ in tracker.logged] == [0, 2, 1]


def test_generations_are_told_where_bars_are_turned_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Off(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": True})

    monkeypatch.setattr("longrope.cli.progress.tqdm", Off)
    search(tmp_path, Memory(), Objective())
    assert capsys.readouterr().err.count("generation") == 4


@pytest.mark.parametrize("kill_at", range(1, 8))
def test_a_killed_and_resumed_run_logs_each_step_as_one_that_was_never_killed(tmp_path: Path, kill_at: int) -> None:
    whole, first, second = Memory(), Memory(), Memory()
    search(tmp_path / "whole", whole, Objective())
    with pytest.raises(Killed):
        search(tmp_path / "killed", first, Objective(kill_at))
    search(tmp_path / "killed", second, Objective(), resume=True)
    assert dict((*first.logged, *second.logged)) == dict(whole.logged)
    assert [step for step, _ in second.logged] == list(range(second.logged[0][0] or 0, 4))


def test_the_line_of_a_generation_tells_best_median_gain_origins_and_cost() -> None:
    line = describe(SUMMARY)
    for part in ("generation 3", "best ppl 8.000 (crossover)", "median 10.000", "-20.00 %", "2 mutation", "12,345"):
        assert part in line


def test_a_generation_that_can_not_be_compared_or_failed_says_so_and_has_no_such_numbers() -> None:
    unlinked = GenerationSummary(3, 5, {"family": 1}, frozenset((1,)), 1.0, "family", 1.0, None)
    assert "seed" not in describe(unlinked)
    assert {name for name in scalars(unlinked) if name.startswith("gain")} == set()
    failed = GenerationSummary(3, 5, {"family": 1}, frozenset((1,)), None, None, None, None)
    assert "no candidate could be scored" in describe(failed)
    assert scalars(failed) == {"scored_tokens": 5, "candidates/family": 1}


def test_losses_whose_perplexity_is_no_float_are_told_and_give_trackers_no_infinity(tmp_path: Path) -> None:
    huge = replace(SUMMARY, best_loss=800.0, median_loss=1600.0, seed_loss=10.0)
    line, values = describe(huge), scalars(huge)
    assert "best ppl inf (crossover), median inf, best +inf % to the best seed" in line
    assert json.loads(json.dumps(values, allow_nan=False))["loss/best"] == 800.0
    assert "perplexity/best" not in values and values["gain/median"] == 1590.0
    half = scalars(replace(huge, best_loss=2.0))
    assert half["perplexity/best"] == pytest.approx(math.exp(2)) and "perplexity/median" not in half
    assert describe_gain(Gain(-800.0, -900.0, -700.0, 0.8)).startswith("-inf % over the best baseline")

    class Huge(Objective):
        def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[Any]:
            return [Score(one.nats + 8000) for one in super().score(candidates, document)]

    result = search(tmp_path, Memory(), Huge())
    with RunFolder(tmp_path, {}, resume=True) as folder:
        told = describe_result(result, folder.rows, 2)
    assert told["search perplexity"].startswith("inf on 2 windows") and told["best seed"].startswith("inf on")


def test_the_bar_shows_no_total_before_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    with SearchBar() as bar:
        bar.show(SearchProgress(0, None, 0, 4, 0, 0))
        bar.show(SearchProgress(0, 4, 2, 4, 2, 20_000))
    assert "None" not in written.getvalue()
    assert "generation 0.5/4" in written.getvalue()
    assert "20.0k tokens" in written.getvalue()


def test_the_final_table_shares_out_all_tokens_and_the_seed_stands_beside_the_winner(tmp_path: Path) -> None:
    result = search(tmp_path, Memory(), Objective())
    with RunFolder(tmp_path, {}, resume=True) as folder:
        rows = folder.rows
    table = render_origins(rows)
    shares = [float(share) for share in re.findall(r"([\d.]+)%", table)]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    assert [line.split()[0] for line in table.splitlines()] == [
        "origin",
        *dict.fromkeys(r.origin.partition(":")[0] for r in rows),
    ]
    told = describe_result(result, rows, 2)
    assert float(told["search perplexity"].split()[0]) <= float(told["best seed"].split()[0])
    assert told["search perplexity"].endswith("on 2 windows of 2 documents")
    assert "seed:yarn" in told["best seed"]
    assert told["found by"] == next(row.origin for row in rows if row.genome == result.best.genome)


@pytest.mark.parametrize(
    ("name", "reason"), [("tensorbord", "is not one of"), ("clearml", "is not installed: pip install it")]
)
def test_trackers_that_would_log_nothing_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    with RunFolder(tmp_path, {}) as folder, pytest.raises(ValueError, match=f"got '{name}', which {reason}"):
        SearchReport(folder, [name])


def test_trackers_start_where_a_fine_tuning_before_has_chosen_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AcceleratorState()
    monkeypatch.setitem(AcceleratorState._shared_state, "device", torch.device("cuda"))
    tracker = Memory()
    search(tmp_path, tracker, Objective())
    assert tracker.ended


@pytest.mark.parametrize("names", [[], ["none"]])
def test_without_trackers_nothing_is_written_beside_the_run(tmp_path: Path, names: list[str]) -> None:
    with RunFolder(tmp_path, {}) as folder, SearchReport(folder, names) as report:
        run_search(build_strategy(SETTINGS, SPACE, SEEDS, 2, 0), Objective(), folder, build, report.show)
    assert not (tmp_path / "logs").exists()


@pytest.mark.skipif("tensorboard" not in map(str, get_available_trackers()), reason="tensorboard is optional")
def test_tensorboard_shows_a_killed_and_resumed_run_as_one_curve(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore

    def run(objective: Objective, resume: bool) -> None:
        with RunFolder(tmp_path, {}, resume=resume) as folder, SearchReport(folder, ["auto"]) as report:
            run_search(build_strategy(SETTINGS, SPACE, SEEDS, 2, 0), objective, folder, build, report.show)

    with pytest.raises(Killed):
        run(Objective(kill_at=4), resume=False)
    run(Objective(), resume=True)
    events = EventAccumulator(str(tmp_path / "logs" / "search")).Reload()
    assert [event.step for event in events.Scalars("gain/best")] == [0, 1, 2, 3]
    assert {"perplexity/best", "perplexity/median", "scored_tokens", "candidates/mutation"} <= set(
        events.Tags()["scalars"]
    )


@pytest.mark.parametrize(
    ("gain", "told"),
    [
        (Gain(0.012, 0.006, 0.018, 0.8), "1.19 % over the best baseline (80 % interval 0.60 to 1.78), which is sure"),
        (
            Gain(0.001, -0.02, 0.02, 0.9),
            "0.10 % over the best baseline (90 % interval -2.02 to 1.98), "
            "which is not sure: the result is that baseline",
        ),
        (
            Gain(0.1, -math.inf, math.inf, 0.8),
            "9.52 % over the best baseline, on too few documents to be sure: the result is that baseline",
        ),
    ],
)
def test_a_gain_is_told_in_perplexity_with_the_confidence_of_its_interval(gain: Gain, told: str) -> None:
    assert describe_gain(gain) == told
