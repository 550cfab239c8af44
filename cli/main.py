"""The `longrope` command: reads flags and YAML files into typed configurations and runs one command."""

import errno
import importlib
import json
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, set_parsing_settings

from ..rope.files import CannotSave, cannot_save
from . import comparison_configs, configs, training_configs

COMMANDS: dict[str, tuple[type, str]] = {
    "tokenize": (configs.TokenizeConfig, "tokenize long documents"),
    "search": (configs.SearchConfig, "search rescale factors for a model"),
    "evaluate": (comparison_configs.EvaluateConfig, "compare methods and factors"),
    "sweep": (comparison_configs.SweepConfig, "try the baselines' own parameters"),
    "finetune": (training_configs.FinetuneConfig, "train a model with factors in it on long documents"),
    "extend": (training_configs.ExtendConfig, "search, fine-tune, search, readjust, evaluate and export"),
    "report": (configs.ReportConfig, "write the report of runs: report.html, report.md, figures, CSV"),
    "export": (configs.ExportConfig, "write factors for Transformers, vLLM, SGLang, llama.cpp"),
    "doctor": (configs.DoctorConfig, "show device, dtype, attention kernel and RoPE; run the canary"),
}
"""Commands by name: configuration and one line of help. The command `x` runs `run(config)` of `cli/x.py`."""

AGAIN = "nothing is left half-done; run the same command again"
RESUMING = {
    "search": "every score is kept; go on: the same command with --resume",
    "evaluate": "finished cells are kept; go on: run the same command again",
    "sweep": "finished points are kept; go on: run the same command again",
    "finetune": "the last saved step is kept; go on: run the same command again",
    "extend": "finished stages and what their commands save are kept; go on: run the same command again",
}
"""How to go on after a stop, by command; the others start anew."""

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

FIRST_WORDS = {"report": "runs", "extend": "recipe"}
"""Options that may be given as the first words after a command."""


class DashParser(ArgumentParser):
    """Flags with dashes (`--target-length`) for fields with underscores (`target_length` in YAML)."""

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        renamed = [arg if arg.startswith("--print_") else arg.replace("_", "-") for arg in args]
        return super().add_argument(*renamed, **kwargs)


@cache
def build_parser() -> DashParser:
    """Return the parser of all commands, made once in a process: parsing leaves it as it was."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = DashParser(prog="longrope", description="Extend the context of RoPE models: search, compare, export.")
    subcommands = parser.add_subcommands(required=True, dest="command")
    for name, (config, summary) in COMMANDS.items():
        command = DashParser(description=config.__doc__, allow_abbrev=False)
        command.add_argument("--config", action="config", help="YAML file with any of the options below.")
        command.add_class_arguments(config, as_group=False)
        subcommands.add_subcommand(name, command, help=summary)
    return parser


def spell_out(arguments: Sequence[str]) -> list[str]:
    """Write lists and switches as the parser wants them.

    `--lengths 256 512` and `--lengths 256,512` become `--lengths=[256, 512]`; `--resume` becomes `--resume=true`;
    the first words of `report` and `extend` get their flags.
    """
    if not arguments or arguments[0] not in COMMANDS:
        return list(arguments)
    hints = get_type_hints(COMMANDS[arguments[0]][0])
    spelled, rest = [arguments[0]], list(arguments[1:])
    if rest and not rest[0].startswith("-") and arguments[0] in FIRST_WORDS:
        rest.insert(0, f"--{FIRST_WORDS[arguments[0]]}")
    while rest:
        flag = rest.pop(0)
        name, equals, first = flag.partition("=")
        hint = hints.get(name.removeprefix("--").replace("-", "_"))
        takes_value = bool(rest) and not rest[0].startswith("--")
        if hint is bool and not equals and not (takes_value and rest[0] in ("true", "false")):
            flag += "=true"
        elif get_origin(hint) is tuple:
            values = [first] if equals else []
            while rest and not rest[0].startswith("--") and not equals:
                values.append(rest.pop(0))
            flag = f"{name}={json.dumps(_items(values, get_args(hint)[0]))}"
        spelled.append(flag)
    return spelled


def _items(values: Sequence[str], kind: type | UnionType) -> list[Any]:
    """Split values at commas where items are numbers; an option string such as `yarn:beta_fast=16,...` stays whole."""
    if len(values) == 1 and values[0].startswith("["):
        return json.loads(values[0])
    if kind is not int:
        return list(values)
    items = [item for value in values for item in value.split(",") if item]
    return [int(item) if item.isdigit() else item for item in items]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input is one sentence on stderr and exit code 2, a stopped command one and 130 or 143."""
    spelled = spell_out(sys.argv[1:] if arguments is None else arguments)
    namespace = build_parser().parse_args(spelled)
    config_type = COMMANDS[namespace.command][0]
    chosen = namespace[namespace.command]
    config = config_type(**{field.name: chosen[field.name] for field in fields(config_type)})
    warnings.formatwarning = lambda message, *_: f"longrope {namespace.command}: warning: {message}\n"
    try:
        with terminable():
            importlib.import_module(f".{namespace.command}", __package__).run(config)
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        print(f"longrope {namespace.command}: {sentence(error, config)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        how = "terminated" if isinstance(stop, Terminated) else "interrupted"
        print(f"longrope {namespace.command}: {how}; {RESUMING.get(namespace.command, AGAIN)}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
    return 0


def sentence(error: Exception, config: Any) -> str:
    """Return what an error says, in one line; one of the disk names the file and the remedy, wherever it was met."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS and not isinstance(error, CannotSave):
        error = cannot_save(Path(error.filename or getattr(config, "output_dir", None) or "the output"), error)
    told = error.strerror if isinstance(error, CannotSave) else None
    return " ".join((told or str(error)).split())


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it before it takes the machine away."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM stop what runs as Ctrl-C does, with locks and temporary files tidied up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are for the main thread
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough: a second would stop the tidying up
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
