r"""Fine-tuning side by side on the embedded model: searched factors, PI and YaRN, and mixed windows against plain ones.

All variants see as many tokens of the same documents and exercises, and are read in the same ways; they differ in the
factors and in the windows. `bash examples/tiny/extend.sh` makes documents and searched factors; whole extensions, one
for each seed, open the report:

    bash examples/tiny/extend.sh
    for seed in 1 2; do longrope extend tiny --seed $seed --output-dir runs/tiny-extend-$seed; done
    python benchmarks/fine_tuning.py --seeds 0 1 2 --extensions runs/tiny-extend runs/tiny-extend-1 runs/tiny-extend-2

Called again it goes on where it stopped; `--only SEED VARIANT` makes one of them, so that several run side by side.
Writes `benchmarks/reports/NAME.json` and `.md`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from longrope.cli import evaluate, finetune
from longrope.cli.configs import EvaluateConfig
from longrope.cli.training_configs import FinetuneConfig
from longrope.evaluation.comparison.results import ResultRow, git_commit, read_results, versions
from longrope.evaluation.report.metrics import format_value
from longrope.evaluation.report.table import markdown

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
TRAIN = ("runs/python-packages-train", *(f"exercises-{n}=runs/exercises/{n}" for n in (256, 1024, 2048, 4096)))
METRICS = {
    "perplexity": "token_weighted",
    "perplexity_tail": "token_weighted",
    "passkey": "accuracy",
    "niah": "accuracy",
}


class Variant(NamedTuple):
    """One way to fine-tune."""

    factors: str
    """What the tuned windows are rotated by: a method for the whole extension, or the folder of a search in an
    extension of the same seed."""
    recipe: str
    readings: tuple[str, ...] = ("none",)
    """Methods that the tuned weights are read with besides their own factors."""


VARIANTS = {
    "PI, mixed windows": Variant("linear:factor=16", "tiny", ("none", "linear:factor=32")),
    "YaRN, mixed windows": Variant("yarn:factor=16", "tiny", ("none", "yarn:factor=32")),
    "searched, plain windows": Variant("1-search", "tiny-plain"),
}


def tune(name: str, seed: int, args: argparse.Namespace) -> Path:
    """Fine-tune one variant, or what is left of it, and evaluate it; return the folder of the evaluation."""
    variant = VARIANTS[name]
    searched = args.extensions[args.seeds.index(seed)] / variant.factors if "-search" in variant.factors else None
    folder = args.output_dir / args.name / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    if not (folder / "model").is_dir():
        finetune.run(
            FinetuneConfig(
                model=args.model,
                factors=(variant.factors if searched is None else str(searched),),
                tokenized=TRAIN,
                output_dir=str(folder),
                recipe=variant.recipe,
                steps=(args.steps,) if args.steps else (),
                micro_batch_size=2,
                precision="bfloat16",
                gradient_checkpointing=False,
                seed=seed,
            )
        )
    factors = [f"{name}={folder / 'factors.json'}"]
    evaluate.run(
        EvaluateConfig(
            model=str(folder / "tuned"),
            tokenized="runs/python-packages-eval",
            lengths=tuple(args.lengths),
            output_dir=str(folder / "evaluation"),
            methods=variant.readings,
            factors=tuple(factors),
            tasks=tuple(args.tasks),
            samples=args.samples,
            target_length=4096,
            batch_size=4,
            passkey_style="comment",
            passkey_haystack="documents",
            passkey_depths=20,
            needle_depths=20,
        )
    )
    return folder / "evaluation"


def number(rows: list[ResultRow], method: str, task: str, length: int) -> float | None:
    """Return one number of an evaluation."""
    wanted = (method, task, METRICS[task], length)
    return next((row.value for row in rows if (row.method, row.task, row.metric, row.length) == wanted), None)


class Numbers(dict[str, dict[str, dict[str, list[float]]]]):
    """By variant, task and length the numbers of all seeds."""

    def add(self, label: str, rows: list[ResultRow], method: str, lengths: Sequence[int]) -> None:
        """Add what an evaluation says of a method."""
        for task in METRICS:
            for length in lengths:
                if (value := number(rows, method, task, length)) is not None:
                    self.setdefault(label, {}).setdefault(task, {}).setdefault(str(length), []).append(value)


def collect(folders: dict[str, list[Path]], extensions: Sequence[Path]) -> Numbers:
    """Return the numbers of the extensions and of all variants.

    At the original length a tuned model is also read under its pre-trained RoPE, `(original RoPE)`.
    """
    numbers = Numbers()
    for extension in extensions:
        rows = read_results(extension / "results.json").rows
        for method in dict.fromkeys(row.method for row in rows):
            numbers.add(method, rows, method, LENGTHS)
    for name, evaluations in folders.items():
        for folder in evaluations:
            rows = read_results(folder / "results.json").rows
            numbers.add(f"{name} (original RoPE)", rows, "none", LENGTHS[:1])
            for reading in VARIANTS[name].readings[1:]:
                numbers.add(f"{name} (read as {reading})", rows, reading, LENGTHS)
            numbers.add(name, rows, name, LENGTHS)
    return numbers


def describe(metric: str, values: list[float]) -> str:
    """Return the mean over seeds, with the standard deviation where there are several."""
    if not values:
        return ""
    deviation = f" ({format_value(metric, float(np.std(values, ddof=1)))})" if len(values) > 1 else ""
    return format_value(metric, float(np.mean(values))) + deviation


def device(extension: Path) -> str:
    """Return what the evaluations of an extension ran on."""
    return str(read_results(extension / "results.json").provenance["device"])


def render(numbers: Numbers, facts: Mapping[str, Any]) -> str:
    """Return one table per task: the mean over seeds, and their standard deviation where there are several."""
    steps = f"{facts['steps']} steps" if facts["steps"] else "as many steps as the recipe says"
    text = (
        f"# Fine-tuning on the embedded model\n\nBy `benchmarks/fine_tuning.py`, commit {facts['commit']}, "
        f"{facts['device']}: {steps}, seeds {', '.join(map(str, facts['seeds']))}, {facts['samples']} documents, "
        "20 pass keys and needles. Mean over seeds (standard deviation), by context length.\n"
    )
    lengths = [length for length in LENGTHS if length in facts["lengths"]]
    for task in [one for one in METRICS if any(one in tasks for tasks in numbers.values())]:
        metric = METRICS[task]
        rows = [
            [name, *(describe(metric, tasks.get(task, {}).get(str(length), [])) for length in lengths)]
            for name, tasks in numbers.items()
        ]
        text += "\n" + markdown([f"{task} ({metric})", *map(str, lengths)], rows)
    return text


def main() -> None:
    """Run what is left, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="examples/tiny/model")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--extensions", type=Path, nargs="+", default=[Path("runs/tiny-extend")], help="one per seed")
    parser.add_argument("--only", nargs=2, metavar=("SEED", "VARIANT"), help="make this one and no report")
    parser.add_argument("--steps", type=int, help="optimiser steps (default: as the recipe says)")
    parser.add_argument("--samples", type=int, default=16, help="evaluation documents")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help="that are evaluated, in tokens")
    parser.add_argument("--tasks", nargs="+", default=list(METRICS), choices=list(METRICS))
    parser.add_argument("--output-dir", type=Path, default=Path("runs/fine-tuning"))
    parser.add_argument("--name", default="fine_tuning", help="of the report, and of the folder of its runs")
    args = parser.parse_args()
    if len(args.extensions) != len(args.seeds):
        parser.error(f"--extensions must be one per seed, got {len(args.extensions)} for {len(args.seeds)} seeds")
    if args.only:
        tune(args.only[1], int(args.only[0]), args)
        return
    folders = {name: [tune(name, seed, args) for seed in args.seeds] for name in dict.fromkeys(args.variants)}
    numbers = collect(folders, args.extensions)
    facts = {name: getattr(args, name) for name in ("seeds", "steps", "samples", "lengths")}
    facts |= {"commit": git_commit(), "versions": versions(), "device": device(args.extensions[0])}
    report = Path("benchmarks/reports") / args.name
    report.with_suffix(".json").write_text(json.dumps({**facts, "numbers": numbers}, indent=1) + "\n")
    report.with_suffix(".md").write_text(render(numbers, facts))
    print(render(numbers, facts))


if __name__ == "__main__":
    main()
