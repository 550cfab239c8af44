"""Put what the commands of docs/costs.md print below them: python docs/plans.py.

The plans read the configuration of a model only. That of two published models is written here, in what differs from
Transformers' defaults, so that nothing is downloaded.
"""

import io
import shlex
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

from transformers import LlamaConfig

from longrope.cli.main import main

PAGE = Path(__file__).parent / "costs.md"
PROMPT = "$ longrope "
MODELS: dict[str, dict[str, Any]] = {
    "meta-llama/Meta-Llama-3-8B": {
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "dtype": "bfloat16",
    },
    "meta-llama/Llama-2-7b-hf": {"intermediate_size": 11008, "max_position_embeddings": 4096, "dtype": "float16"},
}


def fill_in(text: str) -> str:
    """Return a page with the output of each command of its `console` blocks below the command."""
    lines, inside = [], False
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, sizes in MODELS.items():
            LlamaConfig(**sizes).save_pretrained(name)
        for line in text.splitlines():
            if line.startswith("```"):
                inside = line == "```console"
            if not inside or line == "```console":
                lines.append(line)
            elif line.startswith(PROMPT):
                lines += [line, *_output(line.removeprefix(PROMPT))]
    return "\n".join(lines) + "\n"


def _output(command: str) -> list[str]:
    """Return the lines that a command prints; ` | grep WORD` keeps those with a word."""
    words, _, kept = command.partition(" | grep ")
    with redirect_stdout(io.StringIO()) as printed:
        if main(shlex.split(words)) != 0:
            raise RuntimeError(f"longrope {command} must end with 0")
    return [line for line in printed.getvalue().splitlines() if kept in line]


if __name__ == "__main__":
    PAGE.write_text(fill_in(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
