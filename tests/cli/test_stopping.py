"""SIGTERM and Ctrl-C: every long command stops cleanly, says how to go on, and goes on."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.evolution import read_history

from .processes import Ended, ForkServer

STOPS = {
    "search": ("SIGTERM", "history.jsonl", 3, "--resume"),
    "evaluate": ("SIGINT", "cells.jsonl", 2, "run the same command again"),
    "sweep": ("SIGTERM", "cells.jsonl", 2, "run the same command again"),
    "finetune": ("SIGINT", "trainer_state.json", 2, "run the same command again"),
    "extend": ("SIGTERM", "history.jsonl", 3, "run the same command again"),
}
"""By command: the signal, the file, which opening of it (from 1) for writing the signal meets, and what is told."""
EXITS = {"SIGTERM": 143, "SIGINT": 130}
SETUP = f"""
import signal
STOPS = {[stop[:3] for stop in STOPS.values()]}

def prepare(number):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    name, file, nth = STOPS[number]
    seen = []

    def hook(event, arguments):
        if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            if os.path.basename(os.fsdecode(arguments[0])) == file and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
                seen.append(1)
                if len(seen) == nth:
                    os.kill(os.getpid(), getattr(signal, name))

    sys.addaudithook(hook)
"""


class Stopped(NamedTuple):
    """A command that a signal met."""

    arguments: list[str]
    folder: Path
    ended: Ended


@pytest.fixture(scope="module")
def stopped(
    tmp_path_factory: pytest.TempPathFactory, small_commands: dict[str, list[str]], fork_server: ForkServer
) -> dict[str, Stopped]:
    folder = tmp_path_factory.mktemp("stopped")
    arguments = [[*small_commands[name], "--output-dir", str(folder / f"{name}-run")] for name in STOPS]
    ended = fork_server.run(arguments, folder, SETUP)
    return {one[0]: Stopped(one, folder / f"{one[0]}-run", how) for one, how in zip(arguments, ended, strict=True)}


@pytest.mark.parametrize("command", list(STOPS))
def test_a_stopped_command_says_how_to_go_on_and_goes_on(stopped: dict[str, Stopped], command: str) -> None:
    arguments, folder, (code, output) = stopped[command]
    name, _, _, remedy = STOPS[command]
    assert code == EXITS[name], output
    last = output.splitlines()[-1]
    assert last.startswith(f"longrope {command}: {'terminated' if name == 'SIGTERM' else 'interrupted'}; ")
    assert remedy in last and "Traceback" not in output
    before = kept(folder)
    torch.set_num_threads(1)
    assert main(arguments) == 0
    after = kept(folder)
    assert all(after[path].startswith(content) for path, content in before.items())
    results = folder / "results.json"
    assert not results.exists() or (read_results(results).rows and not read_results(results).failures)


def kept(folder: Path) -> dict[Path, bytes]:
    """Return the journals of a run."""
    return {path: path.read_bytes() for name in ("history", "cells") for path in folder.rglob(f"{name}.jsonl")}


def test_what_was_finished_before_the_signal_is_on_disk(stopped: dict[str, Stopped]) -> None:
    keys = [row.key for row in read_history(stopped["search"].folder / "history.jsonl").rows]
    assert keys and len(set(keys)) == len(keys)
    lines = (stopped["sweep"].folder / "cells.jsonl").read_text().splitlines()
    cells = [json.loads(line)["key"] for line in lines]
    assert cells and len(set(cells)) == len(cells)
