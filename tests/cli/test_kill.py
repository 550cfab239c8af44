"""Every strategy through the command: killed and resumed as if never stopped, and never over its budget."""

import os
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from longrope.cli.main import main
from longrope.evolution import HistoryRow, read_history
from longrope.evolution.settings import SETTINGS

from .processes import ForkServer
from .small import tokenize_words, without_times

TARGET_LENGTH = 256
BRED: dict[str, Any] = {"population_size": 8, "num_iterations": 3, "max_attempts": 5}
SMALL: dict[str, dict[str, Any]] = {
    "paper": {**BRED, "num_mutations": 2, "num_crossovers": 2, "num_parents": 3},
    "longrope2": {**BRED, "num_parents": 4},
    "pareto": {**BRED, "num_iterations": 2, "search_attention": False, "short_documents": 2},
    "hybrid": {"num_scores": 100, "windows_per_document": 4},
    "steady": {"population_size": 6, "num_candidates": 24},
}
"""A small search of each strategy; one that is missing here fails, since nothing is known of it."""

DYING = """
import signal
from longrope.evolution import RunFolder
append = RunFolder.append

def append_and_die(folder, rows):
    append(folder, rows)
    if len(folder.rows) >= {stop}:
        os.kill(os.getpid(), signal.SIGKILL)

def prepare(number):
    RunFolder.append = append_and_die
"""
"""Kills a command, with no chance to tidy up, once so many scores are on disk."""


class Finished(NamedTuple):
    """An uninterrupted search."""

    arguments: list[str]
    folder: Path
    rows: list[HistoryRow]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    return tokenize_words(model_folder, tmp_path_factory.mktemp("data") / "tokens")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, tokens: Path) -> Callable[..., list[str]]:
    """Return the arguments of a small search but for its folder, with some settings changed."""

    def of(strategy: str, **changes: Any) -> list[str]:
        assert strategy in SMALL, f"give {strategy} small settings in SMALL"
        settings = tmp_path_factory.mktemp("settings") / f"{strategy}.yaml"
        settings.write_text(yaml.safe_dump({"strategy": strategy, **SMALL[strategy], **changes}))
        named = {"model": model_folder, "tokenized": tokens, "target-length": TARGET_LENGTH, "samples": 3}
        parts = [part for name, value in named.items() for part in (f"--{name}", value)]
        return ["search", *map(str, parts), "--hyper-params", str(settings)]

    return of


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def finished(
    request: pytest.FixtureRequest, arguments: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    command, folder = arguments(request.param), tmp_path_factory.mktemp("runs") / request.param
    return Finished(command, folder, searched(command, folder))


def searched(arguments: list[str], folder: Path, *more: str) -> list[HistoryRow]:
    """Search in this process and return the history."""
    assert main([*arguments, "--output-dir", str(folder), *more]) == 0
    assert (folder / "factors.json").is_file()
    return read_history(folder / "history.jsonl").rows


def cost(rows: list[HistoryRow]) -> int:
    return sum(row.forwarded for row in rows)


def killed_with(stop: int, fork_server: ForkServer, command: list[str], logs: Path) -> int:
    """Run a command until it has so many scores and is killed; return its exit code."""
    (ended,) = fork_server.run([command], logs, DYING.format(stop=stop))
    return ended.code


def has_avx512() -> bool:
    """Whether OpenBLAS can run its code for another CPU family."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "avx512vl" in cpuinfo.read_text()


@pytest.mark.skipif(not has_avx512(), reason="needs a CPU that runs the code of two families")
@pytest.mark.parametrize("strategy", ["hybrid"])
def test_a_search_killed_on_one_cpu_family_ends_on_another_and_repeats_no_score(
    strategy: str, arguments: Callable[..., list[str]], fork_server: ForkServer, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command, history = [*arguments(strategy), "--output-dir", str(run), "--resume"], run / "history.jsonl"
    another = "SkylakeX" if os.environ.get("OPENBLAS_CORETYPE") == "Haswell" else "Haswell"
    with closing(ForkServer(OPENBLAS_CORETYPE=another)) as there:
        assert killed_with(30, there, command, tmp_path) == -signal.SIGKILL
    before = history.read_bytes()
    assert fork_server.run([command], tmp_path)[0].code == 0
    assert history.read_bytes().startswith(before) and (run / "factors.json").is_file()
    keys = [row.key for row in read_history(history).rows]
    assert len(keys) == history.read_bytes().count(b"\n") == len(set(keys))


def test_proposals_cut_to_an_earlier_line_go_on_without_scoring_anything_again(
    finished: Finished, tmp_path: Path
) -> None:
    for file in ("config.yaml", "history.jsonl", "proposals.jsonl"):
        (tmp_path / file).write_bytes((finished.folder / file).read_bytes())
    lines = (tmp_path / "proposals.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "proposals.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    assert searched(finished.arguments, tmp_path, "--resume") == finished.rows
    assert (tmp_path / "proposals.jsonl").read_bytes() == b"".join(lines)
    assert (tmp_path / "factors.json").read_bytes() == (finished.folder / "factors.json").read_bytes()


def test_a_finished_search_goes_on_with_a_larger_budget(finished: Finished, tmp_path: Path) -> None:
    limits = [6 * cost(finished.rows) // 10, 2 * cost(finished.rows)]
    first = searched(finished.arguments, tmp_path, "--max-scored-tokens", str(limits[0]))
    rows = searched(finished.arguments, tmp_path, "--max-scored-tokens", str(limits[1]), "--resume")
    assert rows[: len(first)] == first
    assert len({row.key for row in rows}) == len(rows) > len(first)
    assert cost(first) <= limits[0] < cost(rows) <= limits[1]
    again = searched(finished.arguments, tmp_path, "--max-scored-tokens", str(limits[1]), "--resume")
    assert again == rows


@pytest.mark.parametrize("strategy", sorted(SETTINGS))
def test_a_mix_of_lengths_stays_within_its_budget(
    strategy: str, arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    lengths = ["--objective-lengths", "64:0.3", f"{TARGET_LENGTH}:0.7"]
    limit = 48 * (64 + TARGET_LENGTH)
    rows = searched(arguments(strategy), tmp_path / "run", *lengths, "--max-scored-tokens", str(limit))
    assert 0.5 * limit < cost(rows) <= limit


def test_a_search_killed_twice_ends_with_the_bytes_of_one_that_was_never_stopped(
    finished: Finished, fork_server: ForkServer, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    for stop in (len(finished.rows) // 4, 2 * len(finished.rows) // 3):
        command = [*finished.arguments, "--output-dir", str(folder), "--resume"]
        assert killed_with(stop, fork_server, command, tmp_path) == -signal.SIGKILL
        assert stop <= len(read_history(folder / "history.jsonl").rows) < len(finished.rows)
        assert not (folder / "factors.json").exists()
    searched(finished.arguments, folder, "--resume")
    assert (folder / "factors.json").read_bytes() == (finished.folder / "factors.json").read_bytes()
    assert without_times(folder) == without_times(finished.folder)


def test_a_search_never_spends_more_tokens_than_it_may_and_spends_most_of_them(
    finished: Finished, tmp_path: Path
) -> None:
    limit = 7 * cost(finished.rows) // 10
    rows = searched(finished.arguments, tmp_path / "run", "--max-scored-tokens", str(limit))
    assert 0.4 * limit < cost(rows) <= limit  # the budget takes the short windows of pareto for long ones


def test_a_search_costs_at_most_what_was_estimated(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*finished.arguments, "--output-dir", "-", "--estimate"]) == 0
    *_, row, _ = capsys.readouterr().out.splitlines()  # the chosen search follows the paper's, a note ends the table
    estimated = int(row.split()[2].replace(",", ""))
    assert 0.6 * estimated <= cost(finished.rows) <= estimated  # it takes the short windows of pareto for long ones


def test_a_search_without_time_for_more_ends_after_its_first_generation(finished: Finished, tmp_path: Path) -> None:
    rows = searched(finished.arguments, tmp_path / "run", "--max-hours", "1e-9")
    assert len({row.generation for row in rows}) <= 2  # the first, and the choice of the winner
    assert rows[-1].generation < finished.rows[-1].generation


@pytest.mark.parametrize(
    "strategy",
    [name for name, settings in SETTINGS.items() if "patience" in {field.name for field in fields(settings)}],
)
def test_a_search_that_gains_nothing_any_more_ends_before_its_budget(
    strategy: str, arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    generous = 400
    rows = searched(arguments(strategy, num_scores=generous, patience=1), tmp_path / "run")
    assert cost(rows) < generous * TARGET_LENGTH / 2
