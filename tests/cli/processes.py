"""Commands in processes of their own that share one start of Python, which takes longer than what they do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SERVER = """
import importlib, json, os, sys, torch
from longrope.cli.main import main

for command in ("search", "evaluate", "sweep", "finetune", "extend"):
    importlib.import_module(f"longrope.cli.{command}")
torch.set_num_threads(1)
for line in sys.stdin:
    setup, jobs = json.loads(line)
    children = []
    for number, (arguments, log) in enumerate(jobs):
        child = os.fork()
        if child == 0:
            for stream in (1, 2):
                os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            exec(setup)
            prepare(number)
            code = main(arguments)
            sys.stdout.flush()
            os._exit(code)
        children.append(child)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""

WATCHED = """
import signal, threading, time

def prepare(number):
    def watch():
        while not os.path.exists({journal!r}) or open({journal!r}, "rb").read().count(b"\\n") < {lines}:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
    sys.setswitchinterval(1e-5)  # the watch has its turn at once
    threading.Thread(target=watch, daemon=True).start()
"""


def killed_at(lines: int, journal: Path) -> str:
    """Return the setup that kills a command wherever it is, with no chance to tidy up, once a journal is so long."""
    return WATCHED.format(journal=str(journal), lines=lines)


class Ended(NamedTuple):
    """What became of a command."""

    code: int
    output: str


class ForkServer:
    """A process that has imported the commands and forks a process for each command that it is given.

    Args:
        environment: variables that differ from those of this process.
    """

    def __init__(self, **environment: str) -> None:
        variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        command, pipe = [sys.executable, "-c", SERVER], subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables)

    def run(self, commands: list[list[str]], logs: Path, setup: str = "def prepare(number): pass") -> list[Ended]:
        """Run commands, each in its own process, all at the same time.

        Args:
            commands: arguments of `longrope`.
            logs: folder for what they print.
            setup: code that defines `prepare(number)`, called in each process before its command.
        """
        assert self._process.stdin and self._process.stdout
        jobs = [[command, str(logs / f"{number}.log")] for number, command in enumerate(commands)]
        self._process.stdin.write(json.dumps([setup, jobs]) + "\n")
        self._process.stdin.flush()
        codes = json.loads(self._process.stdout.readline())
        return [Ended(code, Path(log).read_text()) for code, (_, log) in zip(codes, jobs, strict=True)]

    def close(self) -> None:
        """End the process."""
        with self._process:
            pass
