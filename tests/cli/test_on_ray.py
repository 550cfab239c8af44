"""A search on Ray whose driver is killed: nothing of it lives on, and the search goes on to the same result."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from longrope.cli.main import main

from ..conftest import FULL
from ..execution.conftest import alive
from .small import without_times

pytest.importorskip("ray", reason="needs ray: pip install ray")

KILLS = 20 if FULL else 2

DRIVER = """
import json, os, signal, sys
import psutil
from longrope.cli.main import main
from longrope.evolution import RunFolder

append, stop = RunFolder.append, int(sys.argv[1])

def append_and_die(folder, rows):
    append(folder, rows)
    if len(folder.rows) >= stop:
        processes = psutil.Process().children(recursive=True)
        workers = [one.pid for one in processes if "_Actor" in " ".join(one.cmdline())]
        print(json.dumps([workers, [one.pid for one in processes]]), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

RunFolder.append = append_and_die
main(sys.argv[2:])
"""


def test_a_search_on_ray_whose_driver_is_killed_leaves_no_process_and_goes_on(
    small_commands: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    monkeypatch.setattr("longrope.cli.model_search.git_commit", lambda: None)  # which an edit would change
    arguments = [*small_commands["search"], "--device", "cpu"]
    assert main([*arguments, "--output-dir", str(tmp_path / "one")]) == 0
    expected = without_times(tmp_path / "one")
    for number in range(KILLS):
        folder, stop = tmp_path / str(number), random.Random(number).randint(1, len(expected) - 4)
        command = [*arguments, "--output-dir", str(folder)]
        ray = ["--executor", "ray", "--workers", "2"]
        with (tmp_path / f"{number}.log").open("w+") as log:
            killed = subprocess.run([sys.executable, "-c", DRIVER, str(stop), *command, *ray], stdout=log, check=False)
            log.seek(0)
            workers, processes = json.loads(log.read().splitlines()[-1])
        assert killed.returncode == -signal.SIGKILL and len(workers) == 2
        while any(map(alive, processes)):
            time.sleep(0.1)
        kept = (folder / "history.jsonl").read_bytes()
        rerun = ray if number == 0 else []  # the executor does not decide the result
        assert main([*command, *rerun]) == 0
        assert (folder / "history.jsonl").read_bytes().startswith(kept)
        assert sorted(without_times(folder), key=repr) == sorted(expected, key=repr)
        assert (folder / "factors.json").read_bytes() == (tmp_path / "one" / "factors.json").read_bytes()
