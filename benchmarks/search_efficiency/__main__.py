"""`run` works off the queue and writes journals, `report` writes JSON, tables and a picture from them."""

import argparse
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from longrope.evaluation.comparison.results import git_commit, model_fingerprint, versions
from longrope.evaluation.data.tokenized import read_info
from longrope.evaluation.scoring.model import read_config

from . import __doc__ as what
from .bench import Machine, Source, device_name
from .journal import Failure, Key, append, read
from .report import write_report
from .rows import Terms, build_rows, is_central, is_seedless
from .workers import Plan, run_all


def main() -> None:
    """Read the options and do what they say."""
    args = parse()
    if args.command == "run":
        run(args)
        journals = [args.journal]
    else:
        journals = args.journals
    if args.report is not None:
        write_report(read(journals), args.report, args.compared)


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="work off the queue")
    running.add_argument("--models", type=Source.parse, nargs="+", required=True, help="NAME=MODEL:SEARCH:EVAL")
    running.add_argument("--ratios", type=int, nargs="+", default=[8, 4, 2], help="most wanted first")
    running.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    running.add_argument("--rows", nargs="+", default=["*"], help="names or patterns such as 'default*'")
    running.add_argument("--shares", type=int, nargs="*", default=[100, 50, 10], help="n of 1/n of the paper's scores")
    running.add_argument("--journal", type=Path, default=Path("runs/efficiency.jsonl"), help="gone on with if there")
    running.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    running.add_argument("--minutes", type=float, help="stop then, with what is there (default: no limit)")
    running.add_argument("--eval-samples", type=int, default=32, help="documents that judge")
    running.add_argument("--batch-tokens", type=int, help="tokens per forward (default: 131072 on CUDA, else 16384)")
    running.add_argument("--default", default="hybrid", help="settings of the default search: a preset or a file")
    running.add_argument("--paper", default="longrope", help="settings of the paper's search: a preset or a file")
    running.add_argument("--device", default="auto")
    running.add_argument("--dtype", default="auto", help="of the searches; judges are in float32")
    reporting = commands.add_parser("report", help="write a report from one or more journals")
    reporting.add_argument("--journals", type=Path, nargs="+", required=True)
    for command in (running, reporting):
        command.add_argument("--compared", type=int, default=20, help="n of the default's budget that others have too")
        needed = command is reporting
        command.add_argument("--report", type=Path, required=needed, help="path of the report without its suffix")
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    """Work off what the journal lacks."""
    plan = Plan(
        tuple(args.models),
        Machine(args.device, args.dtype, args.batch_tokens, args.eval_samples),
        Terms(tuple(args.shares), args.compared, args.default, args.paper),
    )
    planned = plan_keys(args, plan)
    done = read([args.journal]).records if args.journal.exists() else {}
    wanted = [key for key in planned if key not in done]
    append(args.journal, header(args, planned))
    failed = 0
    with tqdm(total=len(planned), initial=len(planned) - len(wanted), unit="run", disable=None) as bar:
        for found in run_all(plan, wanted, min(args.workers, max(len(wanted), 1)), args.minutes):
            append(args.journal, found)
            if isinstance(found, Failure):
                failed += 1
                tqdm.write(f"failed: {found.key}: {found.error}")
            bar.set_postfix_str(f"{failed} failed", refresh=False)
            bar.update()
    there = read([args.journal]).records
    print(f"{args.journal}: {sum(key in there for key in planned)} of {len(planned)} runs, {failed} failed")


def plan_keys(args: argparse.Namespace, plan: Plan) -> list[Key]:
    """Return all runs, most wanted first: what the claims are about of all seeds, then the rest, seed by seed.

    Raises:
        ValueError: a pattern fits no row.
    """
    names = build_rows(plan.terms)
    for pattern in args.rows:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"rows must be among {', '.join(names)}, got {pattern!r}; patterns such as 'plain*' do")
    chosen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in args.rows)]
    grid = product(args.seeds, chosen, args.ratios, args.models)
    keys = (Key(source.name, ratio, row, 0 if is_seedless(row) else seed) for seed, row, ratio, source in grid)
    return sorted(dict.fromkeys(keys), key=lambda key: not is_central(key.row))


def header(args: argparse.Namespace, planned: Sequence[Key]) -> dict[str, Any]:
    """Return what decides the numbers of the runs that follow."""
    models = {
        source.name: {
            **model_fingerprint(read_config(source.model), source.model),
            "search": read_info(Path(source.search)).fingerprint,
            "heldout": read_info(Path(source.heldout)).fingerprint,
        }
        for source in args.models
    }
    options = {name: value for name, value in vars(args).items() if name not in ("models", "journal", "report")}
    origin = {"versions": versions(), "commit": git_commit(), "device": device_name(args.device)}
    return {**origin, "models": models, "options": options, "planned": list(planned)}


if __name__ == "__main__":
    main()
