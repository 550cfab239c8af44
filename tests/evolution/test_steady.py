"""Steady-state search: on one worker a plain loop, on several no barrier, and the same record, budget and resume."""

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import (
    Budget,
    Evaluation,
    Genome,
    HistoryRow,
    Proposal,
    Request,
    RunFolder,
    SearchRecord,
    SearchResult,
    SteadySettings,
    load_settings,
    read_history,
    run_search,
)
from longrope.evolution.operators import crossover, mutate
from longrope.evolution.strategies import SteadyStrategy
from longrope.hyperparams import preset
from longrope.rope import RescaleFactors

from .conftest import SEEDS, SPACE, Killed, ToyObjective, build, reopened
from .test_search import Broken, ToyScore
from .test_units import Shuffled

SETTINGS = SteadySettings(population_size=6, num_candidates=40)
NUM_DOCUMENTS, SEED = 8, 3
ORDER = tuple(np.random.default_rng(SEED).permutation(NUM_DOCUMENTS).tolist())
KEPT, SEARCHED = ORDER[:4], ORDER[4:]


def new(settings: SteadySettings = SETTINGS, seed: int = SEED) -> SteadyStrategy:
    return SteadyStrategy(settings, SPACE, SEEDS, NUM_DOCUMENTS, seed)


def run(
    objective: ToyObjective, path: Path | None = None, budget: Budget | None = None, resume: bool = False
) -> tuple[SearchResult, list[HistoryRow]]:
    if path is None:
        record = SearchRecord()
        return run_search(new(), objective, record, build), list(record.rows)
    with RunFolder(path, {}, resume=resume) as folder:
        result = run_search(new(), objective, folder, build, budget=budget)
    return result, read_history(path / "history.jsonl").rows


def plain_steady_state(loss: Callable[[Genome, tuple[int, ...]], float], seed: int) -> list[Genome]:
    """Return the candidates of a loop that scores one at a time and replaces the worst by it; the finalists at last."""
    rng, seeds = np.random.default_rng(seed), list(SEEDS.values())
    population, asked = [(loss(one, SEARCHED), one) for one in seeds], list(seeds)
    while len(asked) < SETTINGS.num_candidates:
        members = seeds if len(asked) < SETTINGS.population_size else [genome for _, genome in population]
        crosses = members is not seeds and (len(asked) - len(seeds)) % 2 == 0
        child, attempts = asked[0], 0
        while child in asked:
            attempts += 1
            if crosses and attempts <= SETTINGS.max_attempts:
                one, other = rng.choice(len(members), size=2, replace=False)
                child = crossover(members[one], members[other], rng)
            else:
                child = mutate(members[int(rng.integers(len(members)))], SPACE, rng, SETTINGS.mutation_probability)
        asked.append(child)
        population.append((loss(child, SEARCHED), child))
        population.sort(key=lambda member: (member[0], astuple(member[1])))
        del population[SETTINGS.population_size :]
    best_seeds = sorted(seeds, key=lambda one: loss(one, SEARCHED))[:2]
    return asked + best_seeds + [genome for _, genome in population if genome not in seeds][:2]


def toy_loss(genome: Genome, documents: tuple[int, ...]) -> float:
    return sum(ToyObjective().score([build(genome)], one)[0].nats for one in documents) / (9 * len(documents))


def test_one_worker_is_a_plain_loop_that_replaces_the_worst():
    result, rows = run(ToyObjective())
    expected = plain_steady_state(toy_loss, SEED)
    by_generation = {row.generation: row.genome for row in rows if row.generation > 0}
    last = max(by_generation)
    assert list(dict.fromkeys(row.genome for row in rows if row.generation < last)) == expected[:-4]
    assert list(dict.fromkeys(row.genome for row in rows if row.generation == last)) == expected[-4:]
    assert {row.document for row in rows if row.generation < last} == {*SEARCHED}
    assert {*result.best.documents} == {*KEPT}
    assert result.best.genome == min(expected[-4:], key=lambda genome: toy_loss(genome, KEPT))
    assert result.gain is not None and result.gain.low > 0
    assert {"crossover", "mutation", "seed:pi"} <= {row.origin for row in rows}
    assert run(Shuffled(None, width=1))[0] == result


@pytest.mark.parametrize("width", [2, 5, 30])
def test_several_workers_are_busy_while_there_is_budget_and_each_score_is_made_once(width: int, tmp_path: Path):
    objective = Shuffled(1, width=width)
    result, rows = run(objective, tmp_path)
    num_candidates = len({row.genome for row in rows})
    assert num_candidates == SETTINGS.num_candidates == result.candidates
    assert len({row.key for row in rows}) == len(rows) == objective.scores
    last = max(row.generation for row in rows)
    waits = objective.at_once
    drained = next(place for place, number in enumerate(waits) if number < width)
    ended = sum(row.rows_left == 0 for row in rows if row.generation < last)
    assert drained == ended - width + 1  # no unit was left to begin: from here on the last candidates end
    assert waits[drained:ended] == list(range(width - 1, 0, -1))
    assert {*result.best.documents} == {*KEPT}


@pytest.mark.parametrize("width", [1, 4])
def test_a_budget_holds_with_units_in_flight_and_most_of_it_is_spent(width: int, tmp_path: Path):
    for tokens in (700, 899, 1234):
        _, rows = run(Shuffled(tokens, width=width), tmp_path / str(tokens), Budget(tokens))
        assert tokens - 10 * len(KEPT) < sum(row.forwarded for row in rows) <= tokens
        assert {row.document for row in rows if row.generation == rows[-1].generation} == {*KEPT}


def test_a_budget_that_grows_goes_on_where_the_search_ended(tmp_path: Path):
    _, before = run(Shuffled(0, width=4), tmp_path, Budget(800))
    _, rows = run(Shuffled(1, width=4), tmp_path, Budget(1500), resume=True)
    assert rows[: len(before)] == before and len(rows) > len(before)
    assert len({row.key for row in rows}) == len(rows) and sum(row.forwarded for row in rows) <= 1500


@pytest.mark.parametrize("width", [1, 3, 20])
def test_a_killed_search_goes_on_and_scores_at_most_what_was_in_flight_again(width: int, tmp_path: Path):
    undisturbed = Shuffled(None, width=1)
    whole = run(undisturbed)
    for kill_at in range(1, undisturbed.calls, 23):
        path, first, second = tmp_path / str(kill_at), Shuffled(2, kill_at, width), Shuffled(4, width=width)
        with pytest.raises(Killed):
            run(first, path)
        kept = read_history(path / "history.jsonl").rows
        result, rows = run(second, path, resume=True)
        assert rows[: len(kept)] == kept and len({row.key for row in rows}) == len(rows)
        assert len(rows) == len(whole[1]) == first.scores + second.scores
        assert len({row.genome for row in rows}) == SETTINGS.num_candidates
        assert width > 1 or result == whole[0]
        idle = Shuffled(None)
        assert run(idle, path, resume=True) == (result, rows) and idle.calls == 0


def test_children_bred_before_a_kill_are_those_scored_after_it(tmp_path: Path):
    with pytest.raises(Killed):
        run(Shuffled(2, 60, width=7), tmp_path)
    lines = (tmp_path / "proposals.jsonl").read_bytes()
    asked = {
        request.genome for line in RunFolder(tmp_path, {}, resume=True)._lines for request in line.proposal.requests
    }
    _, rows = run(Shuffled(3, width=2), tmp_path, resume=True)
    assert asked <= {row.genome for row in rows}
    assert (tmp_path / "proposals.jsonl").read_bytes().startswith(lines)


@pytest.mark.parametrize("file", ["history.jsonl", "proposals.jsonl"])
def test_a_damaged_journal_costs_no_budget_and_repeats_no_score(file: str, tmp_path: Path):
    with pytest.raises(Killed):
        run(Shuffled(2, 120, width=5), tmp_path, Budget(1500))
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(data[: len(data) // 2])
    _, rows = run(Shuffled(3, width=5), tmp_path, Budget(1500), resume=True)
    assert len({row.key for row in rows}) == len(rows)
    assert sum(row.forwarded for row in rows) <= 1500


def test_what_the_strategy_knows_does_not_depend_on_the_order_in_which_it_is_told():
    strategies = [new(), new()]
    answers: list[list[list[Evaluation]]] = []
    for strategy in strategies:
        flying = []
        for _ in range(9):
            requests = strategy.ask()
            strategy.put_off(requests)
            flying.append([scored(request) for request in requests])
        answers.append(flying)
    assert answers[0] == answers[1]
    random.Random(5).shuffle(answers[1])
    for strategy, flying in zip(strategies, answers, strict=True):
        for evaluations in flying:
            strategy.tell(evaluations)
    for _ in range(20):
        first, second = (strategy.ask() for strategy in strategies)
        assert first == second
        for strategy in strategies:
            strategy.tell([scored(request) for request in first])
    assert strategies[0].best == strategies[1].best


def scored(request: Request) -> Evaluation:
    losses = ToyObjective()
    nats = tuple(losses.score([build(request.genome)], document)[0].nats for document in request.documents)
    return Evaluation(request, nats, (9,) * len(nats))


def test_a_strategy_goes_on_from_its_stored_state_with_answers_to_come():
    one, other, asked = new(), new(), []
    for number in range(12):
        asked.append(one.ask())
        one.put_off(asked[-1])
        if number != 4:
            one.tell([scored(request) for request in asked[-1]])
    late = asked.pop(4)
    reopened(one, other, [[scored(request) for request in requests] for requests in asked])
    other.put_off(late)
    for strategy in (one, other):
        strategy.tell([scored(request) for request in late])
        strategy.tell([scored(request) for request in strategy.ask()])
    assert one.ask() == other.ask() and one.best == other.best


def test_failed_candidates_are_recorded_and_breed_and_win_nothing(tmp_path: Path):
    poison = {genome: ToyScore(-1e9, error="TaskLost: 3 workers were lost") for genome in bred(run(ToyObjective())[1])}
    result, rows = run(Broken(poison), tmp_path)
    failed = {row.genome for row in rows if row.error}
    assert (
        failed and {one.steps for one in failed} <= {one.steps for one in poison} and result.best.genome not in failed
    )
    assert all(row.nats is None and row.error == "TaskLost: 3 workers were lost" for row in rows if row.error)
    strategy = new()
    for number in range(30):
        strategy.tell([scored(one) if number % 2 == 0 else Evaluation(one, error="crashed") for one in strategy.ask()])
    assert all(not one.failed for one in strategy._population)


def bred(rows: list[HistoryRow]) -> list[Genome]:
    """Return every other candidate that is no seed."""
    return list(dict.fromkeys(row.genome for row in rows if not row.origin.startswith("seed")))[::2]


def test_seeds_that_all_fail_end_the_search_also_with_children_in_flight():
    class Dead(Shuffled):
        unit_size = 1

        def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[ToyScore]:
            return [ToyScore(float("nan"), 0, "out of memory") for _ in candidates]

    with pytest.raises(RuntimeError, match="first generation must hold .* out of memory"):
        run(Dead(0, width=50))


def test_the_file_states_every_default():
    assert load_settings(preset("steady")) == SteadySettings()


def test_a_strategy_without_documents_to_choose_on_and_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="num_documents must be at least 2, got 1"):
        SteadyStrategy(SETTINGS, SPACE, SEEDS, 1, 0)
    with pytest.raises(ValueError, match="population_size must be at least 2, got 1"):
        SteadySettings(population_size=1)
    with pytest.raises(ValueError, match=r"significance must be above 0 and below 0\.5, got 0\.5"):
        SteadySettings(significance=0.5)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("tokens", [1000, 10**6])
def test_a_log_that_is_cut_costs_nothing_and_changes_nothing(width: int, tokens: int, tmp_path: Path):
    for seed in range(2):
        path = tmp_path / str(seed)
        result, before = run(Shuffled(seed, width=width), path, Budget(tokens))
        whole = (path / "proposals.jsonl").read_bytes()
        for share in (0.0, 0.1, 0.4, 0.8):
            (path / "proposals.jsonl").write_bytes(whole[: int(share * len(whole))])
            idle = Shuffled(seed + 100, width=width)
            assert run(idle, path, Budget(tokens), resume=True) == (result, before)
            assert idle.calls == 0


@settings(max_examples=25, deadline=None)
@given(
    st.integers(400, 1500),
    st.integers(2, 6),
    st.integers(0, 99),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(1, 1.5),
)
def test_a_budget_is_never_exceeded_whatever_is_lost_of_the_journal(
    tokens: int, width: int, seed: int, history: float, proposals: float, growth: float
):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        run(Shuffled(seed, width=width), path, Budget(tokens))
        for file, share in (("history.jsonl", history), ("proposals.jsonl", proposals)):
            data = (path / file).read_bytes()
            (path / file).write_bytes(data[: int(share * len(data))])
        kept, again = read_history(path / "history.jsonl").rows, Shuffled(seed + 1, width=width)
        _, rows = run(again, path, Budget(int(growth * tokens)), resume=True)
        assert len({row.key for row in rows}) == len(rows) == len(kept) + again.scores
        assert sum(row.forwarded for row in rows) <= int(growth * tokens)


@pytest.mark.parametrize(("seed", "share"), [(seed, share) for seed in range(3) for share in (0.6, 0.97)])
def test_units_in_flight_are_not_scored_again_where_a_budget_grew(seed: int, share: float, tmp_path: Path):
    def run_small(objective: Shuffled, tokens: int) -> None:
        small = SteadySettings(population_size=6, num_candidates=25)
        with RunFolder(tmp_path, {}, resume=True) as folder:
            run_search(new(small), objective, folder, build, budget=Budget(tokens))

    run_small(Shuffled(seed, width=5), 3000)
    data = (tmp_path / "history.jsonl").read_bytes()
    (tmp_path / "history.jsonl").write_bytes(data[: int(share * len(data))])
    run_small(Shuffled(seed + 50, width=5), 3900)
    rows = read_history(tmp_path / "history.jsonl").rows
    assert len({row.key for row in rows}) == len(rows)


class Last(random.Random):
    """Ends what came last first."""

    def randrange(self, start: int, *_: int) -> int:  # type: ignore[override]
        return start - 1


class LastFirst(Shuffled):
    def __init__(self, kill_at: int | None = None) -> None:
        super().__init__(None, kill_at, width=8)
        self.rng = Last()


class Watched(SteadyStrategy):
    """Notes the generations that it is told of before the seeds are."""

    early = 0

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._note([*self._told, tuple(evaluations)])
        super().tell(evaluations)

    def restore(self, proposal: Proposal, told: Sequence[Sequence[Evaluation]]) -> None:
        self._note(told)
        super().restore(proposal, told)

    def _note(self, told: Sequence[Sequence[Evaluation]]) -> None:
        self.early += bool(told) and not told[0][0].request.origin.startswith("seed")


def test_no_candidate_is_told_before_the_seeds_are(tmp_path: Path):
    def run_watched(objective: Shuffled, tokens: int) -> int:
        strategy = Watched(SETTINGS, SPACE, SEEDS, NUM_DOCUMENTS, SEED)
        with RunFolder(tmp_path, {}, resume=True) as folder:
            run_search(strategy, objective, folder, build, budget=Budget(tokens))
        return strategy.early

    assert run_watched(LastFirst(), 900) == 0
    assert [row.generation for row in read_history(tmp_path / "history.jsonl").rows][:8] != [0] * 8
    lines = (tmp_path / "history.jsonl").read_bytes().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if b'"generation": 0' in line)
    (tmp_path / "history.jsonl").write_bytes(b"".join([*lines[:place], b"torn\n", *lines[place + 1 :]]))
    assert run_watched(LastFirst(), 1500) == 0
