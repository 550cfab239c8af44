import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from longrope.evolution import (
    GRADIENT_SCORES,
    Genome,
    RunFolder,
    SearchProgress,
    SearchRecord,
    read_history,
    run_search,
)
from longrope.rope.factors import RescaleFactors

from . import conftest
from .conftest import SETTINGS, TARGET, Killed, ToyObjective, ToyScore, build, new_strategy, run_toy, trace

ROOT = Path(__file__).parents[2]


def test_a_run_killed_at_any_call_and_resumed_equals_one_never_stopped(name: str, tmp_path: Path):
    whole = ToyObjective()
    result = run_toy(name, tmp_path / "whole", whole)
    for kill_at in range(whole.calls):
        first, second, path = ToyObjective(kill_at=kill_at), ToyObjective(), tmp_path / str(kill_at)
        with pytest.raises(Killed):
            run_toy(name, path, first)
        assert run_toy(name, path, second, resume=True) == result
        assert trace(path) == trace(tmp_path / "whole")
        assert (path / "proposals.jsonl").read_bytes() == (tmp_path / "whole" / "proposals.jsonl").read_bytes()
        assert first.scores + second.scores == whole.scores


def test_a_history_cut_at_any_byte_gives_the_same_run_without_its_proposals(name: str, tmp_path: Path):
    whole = ToyObjective()
    result = run_toy(name, tmp_path, whole)
    expected, history = trace(tmp_path), (tmp_path / "history.jsonl").read_bytes()
    for cut in range(0, len(history), len(history) // 23):
        (tmp_path / "history.jsonl").write_bytes(history[:cut])
        (tmp_path / "proposals.jsonl").unlink()
        resumed = ToyObjective()
        assert run_toy(name, tmp_path, resumed, resume=True) == result
        assert trace(tmp_path) == expected
        assert resumed.scores < whole.scores or cut < len(history.split(b'"rows_left": 0}\n')[0])


def test_proposals_cut_at_any_byte_give_the_same_run_and_nothing_is_scored_twice(name: str, tmp_path: Path):
    result = run_toy(name, tmp_path, ToyObjective())
    expected, whole = trace(tmp_path), (tmp_path / "proposals.jsonl").read_bytes()
    for cut in [*range(0, len(whole), len(whole) // 11), len(whole) - 1]:
        (tmp_path / "proposals.jsonl").write_bytes(whole[:cut])
        idle = ToyObjective()
        assert run_toy(name, tmp_path, idle, resume=True) == result
        assert idle.calls == 0 and trace(tmp_path) == expected
        assert (tmp_path / "proposals.jsonl").read_bytes() == whole


def test_both_files_cut_anywhere_give_the_same_run_and_only_what_is_lost_is_scored(name: str, tmp_path: Path):
    whole = ToyObjective()
    result = run_toy(name, tmp_path, whole)
    expected = trace(tmp_path)
    files = {one: (tmp_path / one).read_bytes() for one in ("history.jsonl", "proposals.jsonl")}
    for share in (0.1, 0.35, 0.6, 0.85):
        for other in (0.2, 0.5, 0.99):
            for (file, data), part in zip(files.items(), (share, other), strict=True):
                (tmp_path / file).write_bytes(data[: int(part * len(data))])
            rows = read_history(tmp_path / "history.jsonl").rows
            kept = sum(GRADIENT_SCORES if row.differentiated else 1 for row in rows)
            objective = ToyObjective()
            assert run_toy(name, tmp_path, objective, resume=True) == result
            assert kept + objective.scores == whole.scores
            assert sorted(trace(tmp_path), key=repr) == sorted(expected, key=repr)


def test_a_state_holds_nothing_that_grows_with_the_scores(name: str, tmp_path: Path):
    run_toy(name, tmp_path, ToyObjective())
    lines = [json.loads(line) for line in (tmp_path / "proposals.jsonl").read_text().splitlines()]
    assert all("nats" not in json.dumps(line) for line in lines)
    assert max(len(json.dumps(line["proposal"]["state"])) for line in lines) < 20_000


def test_resuming_a_finished_run_scores_nothing_and_gives_its_result(name: str, tmp_path: Path):
    result = run_toy(name, tmp_path, ToyObjective())
    idle = ToyObjective()
    assert run_toy(name, tmp_path, idle, resume=True) == result
    assert idle.calls == 0


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of each strategy, of three processes each, of which two were killed."""
    folder = tmp_path_factory.mktemp("killed")
    jobs = [[name, str(folder / name), kill_at] for name in sorted(SETTINGS) for kill_at in (3, 4, 10**6)]
    done = subprocess.run(
        [sys.executable, str(conftest.__file__)],  # one start of Python forks all of them
        input="".join(f"{json.dumps(job)}\n" for job in jobs),
        env=os.environ | {"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = [-signal.SIGKILL, -signal.SIGKILL, 0] * len(SETTINGS)
    assert [int(code) for code in done.stdout.splitlines()] == expected, done.stderr
    return folder


def test_processes_killed_by_sigkill_end_with_the_run_of_this_process(name: str, killed: Path, tmp_path: Path):
    expected = run_toy(name, tmp_path, ToyObjective())
    assert (killed / name / "best").read_text() == str(expected.best)
    assert trace(killed / name) == trace(tmp_path)


def test_another_seed_gives_another_run(name: str, tmp_path: Path):
    run_toy(name, tmp_path / "a", ToyObjective(), seed=1)
    run_toy(name, tmp_path / "b", ToyObjective(), seed=2)
    assert trace(tmp_path / "a") != trace(tmp_path / "b")


def test_no_candidate_is_scored_twice_on_a_document_and_each_call_is_one_document(name: str, tmp_path: Path):
    objective = ToyObjective()
    result = run_toy(name, tmp_path, objective)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    names = ("start_tokens", "attention", "critical_dimension", "document", "differentiated")
    keys = {(tuple(row["steps"]), *(row[name] for name in names)) for row in rows}
    assert len(keys) == len(rows)
    assert objective.scores == sum(3 if row["differentiated"] else 1 for row in rows)
    assert objective.calls == sum(row["rows_left"] == 0 for row in rows)
    assert result.scored_tokens == 10 * objective.scores
    assert result.candidates == len({key[:4] for key in keys})


def test_the_golden_trace_of_the_paper_s_search_on_whole_numbers(tmp_path: Path):
    result = run_toy("paper", tmp_path, ToyObjective())
    with RunFolder(tmp_path, {"strategy": "paper", "seed": 7}, resume=True) as folder:
        rows = folder.rows
    generations = [[row for row in rows if row.generation == generation] for generation in range(5)]
    assert [
        (len(own), sum(sum(row.steps) for row in own), sum(row.nats or 0 for row in own)) for own in generations
    ] == [
        (24, 45996, 15590),
        (18, 24975, 4985),
        (18, 27282, 3670),
        (18, 27318, 3896),
        (18, 26364, 3558),
    ]
    assert result.best.genome == Genome((100, 132, 174, 250, 400, 450), start_tokens=0)
    assert result.best.nats == tuple(
        sum(abs(step - target - 5 * document) for step, target in zip(result.best.genome.steps, TARGET, strict=True))
        for document in range(3)
    )


def test_progress_counts_up_to_the_whole_generation_and_names_the_best(name: str, tmp_path: Path):
    seen: list[SearchProgress] = []
    with RunFolder(tmp_path / "run", {}) as folder:
        result = run_search(new_strategy(name), ToyObjective(), folder, build, seen.append)
    generations = new_strategy(name).num_generations or seen[-1].generation + 1
    assert {progress.generation for progress in seen} == set(range(generations))
    for generation in range(generations):
        own = [progress for progress in seen if progress.generation == generation]
        counts = [progress.num_scored for progress in own]
        assert counts == sorted(counts) and counts[-1] == own[-1].num_requested
    assert seen[-1].scored_tokens == result.scored_tokens


def test_a_search_in_memory_is_the_one_in_a_folder(name: str, tmp_path: Path):
    record = SearchRecord()
    here = run_search(new_strategy(name), ToyObjective(), record, build)
    with RunFolder(tmp_path / "run", {}) as folder:
        assert run_search(new_strategy(name), ToyObjective(), folder, build) == here
        rows = folder.rows
    assert [replace(row, seconds=0.0) for row in record.rows] == [replace(row, seconds=0.0) for row in rows]
    assert here.scored_tokens == sum(row.forwarded for row in rows)


class Broken(ToyObjective):
    """Fails some candidates, each in its own way."""

    def __init__(self, failures: dict[Genome, ToyScore], everything: bool = False) -> None:
        super().__init__()
        self.failures, self.everything = failures, everything

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[ToyScore]:
        known = {tuple(build(genome).lambdas): score for genome, score in self.failures.items()}
        default = ToyScore(float("nan"), 0, "out of memory") if self.everything else None
        scores = super().score(candidates, document)
        return [known.get(tuple(c.lambdas), default) or score for c, score in zip(candidates, scores, strict=True)]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ToyScore(float("nan")), "finite"),
        (ToyScore(float("inf")), "finite"),
        (ToyScore(-5.0, tokens=0), "at least one token"),
        (ToyScore(-5.0, error="CUDA out of memory"), "CUDA out of memory"),
    ],
)
def test_failed_scores_are_recorded_with_their_reason_and_never_win(
    name: str, tmp_path: Path, failure: ToyScore, reason: str
):
    first = new_strategy(name).ask()[0].genome
    objective = Broken({first: failure})
    result = run_toy(name, tmp_path, objective)
    assert result.best.genome.steps != first.steps
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    failed = [row for row in rows if tuple(row["steps"]) == first.steps]
    assert failed and all(row["nats"] is None and reason in row["error"] for row in failed)
    again = ToyObjective()
    assert run_toy(name, tmp_path, again, resume=True) == result and again.calls == 0


def test_a_first_generation_of_failures_raises_the_first_error(name: str, tmp_path: Path):
    with pytest.raises(RuntimeError, match="first generation must hold .* out of memory"):
        run_toy(name, tmp_path, Broken({}, everything=True))


def test_an_objective_that_loses_a_score_is_refused_before_anything_is_recorded(tmp_path: Path):
    class Losing(ToyObjective):
        def score(self, candidates: Sequence[RescaleFactors], document: int) -> Sequence[ToyScore]:
            return list(super().score(candidates, document))[1:]

    with pytest.raises(RuntimeError, match="one score per candidate, got 7 for 8"):
        run_toy("paper", tmp_path, Losing())
    assert not (tmp_path / "history.jsonl").exists()


def test_tell_refuses_evaluations_that_answer_no_request(name: str):
    strategy = new_strategy(name)
    with pytest.raises(RuntimeError, match="tell must follow ask"):
        strategy.tell([])
    strategy.ask()
    with pytest.raises(RuntimeError, match="one evaluation per request"):
        strategy.tell([])


def test_the_engine_imports_rope_only_and_never_torch():
    for path in (ROOT / "evolution").rglob("*.py"):
        depth = len(path.relative_to(ROOT).parts) - 1
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(
                    alias.name.split(".")[0] in ("torch", "transformers", "longrope") for alias in node.names
                )
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in ("torch", "transformers", "longrope")
                if node.level > depth:
                    assert (node.module or "").split(".")[0] == "rope", path
    code = "import sys, longrope.evolution; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
