"""Folders that appear whole or not at all, and the files of a Hugging Face model folder."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from ..files import staging_folder

Weights = Literal["copy", "link", "none"]
"""Copy the weights, link them (hard link on one disk, else symbolic), or leave them out."""

WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")
"""Weight files with their index, in order of preference."""
COMPANIONS = (
    *("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model", "*.tiktoken"),
    *("tekken.json", "chat_template*", "generation_config.json", "*processor_config.json"),
    *("LICENSE*", "NOTICE*", "USE_POLICY*"),
)
"""What belongs to a model beside its config and weights: tokenizer, generation settings, licence."""


def find_source(source: Path | str, weights: Weights) -> Path:
    """Return the folder of a model, downloaded first if `source` is a hub id.

    Raises:
        ValueError: there is neither such a folder with a config.json nor such a model on the hub, or `weights` is
            unknown.
    """
    if weights not in get_args(Weights):
        raise ValueError(f"weights must be one of {', '.join(get_args(Weights))}, got {weights!r}")
    folder = Path(source)
    if folder.suffix == ".gguf":
        raise ValueError(
            f"source must be a model folder or a hub id, got {source}; a GGUF file takes factors by --format gguf "
            "(export_gguf), and AutoModelForCausalLM.from_pretrained(folder, gguf_file=name).save_pretrained(...) "
            "makes a folder of it"
        )
    if not folder.is_dir():
        folder = _download(str(source), weights)
    if not (folder / "config.json").is_file():
        raise ValueError(f"source must be a model folder with config.json or a hub id, got {source}")
    return folder


def _download(name: str, weights: Weights) -> Path:
    patterns = ["config.json", *COMPANIONS]
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"]))
        for pattern in WEIGHTS if weights != "none" else ():
            snapshot_download(name, allow_patterns=[pattern], ignore_patterns=["*/*"])
            if list(folder.glob(pattern)):
                break
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"source must be a model folder or a readable hub id, got {name!r}: {reason}") from error
    return folder


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a model folder: safetensors where there are any.

    Raises:
        ValueError: there are none.
    """
    for pattern in WEIGHTS:
        if files := sorted(folder.glob(pattern)):
            return files
    raise ValueError(
        f"source must hold weights ({' or '.join(WEIGHTS)}), got none in {folder}; use weights='none' to leave them out"
    )


def companion_files(folder: Path) -> list[Path]:
    """Return tokenizer, generation and licence files."""
    return sorted({path for pattern in COMPANIONS for path in folder.glob(pattern) if path.is_file()})


def place(file: Path, folder: Path, link: bool = False) -> None:
    """Copy or link a file into a folder."""
    target, file = folder / file.name, file.resolve()
    if not link:
        shutil.copyfile(file, target)
        return
    try:
        os.link(file, target)
    except OSError:  # another disk, or a file system without hard links
        target.symlink_to(file)


@contextmanager
def replaced_folder(output: Path, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `output` when the block ends, and vanishes if it raises.

    Raises:
        ValueError: `output` exists and holds something that `is_ours` does not recognise.
    """
    output = output.resolve()
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not empty and not (output.is_dir() and is_ours(output)):
        raise ValueError(f"output must be a new, empty or earlier exported folder, got {output}; choose another name")
    with staging_folder(output) as staging:
        old = staging.with_name(f"{staging.name}.old")
        if old.exists():  # of a process that was killed while it put the new folder in its place
            shutil.rmtree(old) if output.exists() else old.rename(output)
        yield staging
        _swap(staging, output, old)


def _swap(new: Path, output: Path, old: Path) -> None:
    if not output.exists():
        new.rename(output)
        return
    output.rename(old)
    try:
        new.rename(output)
    except BaseException:
        old.rename(output)
        raise
    shutil.rmtree(old)
