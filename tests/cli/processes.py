"""Commands in processes of their own that share one start of Python, which takes longer than what they do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PARENT = """
import json, os, sys, time, torch
import longrope.cli.{module}
from longrope.cli.main import main

torch.set_num_threads(1)
{setup}
children = []
for number, (arguments, log) in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if child == 0:
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        prepare(number)
        code = main(arguments)
        sys.stdout.flush()
        os._exit(code)
    children.append(child)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
"""


class Ended(NamedTuple):
    """What became of a command."""

    code: int
    output: str


def run_at_once(commands: list[list[str]], logs: Path, setup: str = "def prepare(number): pass") -> list[Ended]:
    """Run commands of one kind, each in its own process, all at the same time.

    Args:
        commands: arguments of `longrope`.
        logs: folder for what they print.
        setup: code that defines `prepare(number)`, called in each process before its command.
    """
    jobs = [[command, str(logs / f"{number}.log")] for number, command in enumerate(commands)]
    done = subprocess.run(
        [sys.executable, "-c", PARENT.format(module=commands[0][0], setup=setup)],
        input=json.dumps(jobs),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    return [Ended(code, Path(log).read_text()) for code, (_, log) in zip(codes, jobs, strict=True)]
