"""Fine-tuning side by side on the embedded model: searched factors with mixed windows and without, PI and YaRN.

All variants see as many tokens, of the same documents; they differ in the factors and in the windows. After
`bash examples/tiny/extend.sh`, which makes the documents and the searched factors:

    python benchmarks/fine_tuning.py --seeds 0 1 2

Called again it goes on where it stopped. Writes `benchmarks/reports/fine_tuning.json` and `.md`.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from longrope.cli import evaluate, finetune
from longrope.cli.configs import EvaluateConfig
from longrope.cli.training_configs import FinetuneConfig
from longrope.evaluation.comparison.results import ResultRow, read_results, versions

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
TRAIN = ("runs/python-packages-train", *(f"exercises-{n}=runs/exercises/{n}" for n in (256, 1024, 2048)))
METRICS = {"perplexity": "token_weighted", "perplexity_tail": "token_weighted", "passkey": "accuracy"}


class Variant(NamedTuple):
    """One way to fine-tune."""

    factors: str
    """What the tuned windows are rotated by: factors, or a method for the whole extension."""
    recipe: str


VARIANTS = {
    "PI": Variant("linear:factor=16", "tiny-plain"),
    "YaRN": Variant("yarn:factor=16", "tiny-plain"),
    "searched, plain windows": Variant("runs/tiny-extend/1-search", "tiny-plain"),
    "searched, mixed windows": Variant("runs/tiny-extend/1-search", "tiny"),
}


def tune(name: str, variant: Variant, seed: int, args: argparse.Namespace) -> Path:
    """Fine-tune one variant, or what is left of it, and evaluate it; return the folder of the evaluation."""
    folder = args.output_dir / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    if not (folder / "model").is_dir():
        finetune.run(
            FinetuneConfig(
                model=args.model,
                factors=(variant.factors,),
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
            lengths=LENGTHS,
            output_dir=str(folder / "evaluation"),
            methods=("none",),
            factors=tuple(factors),
            tasks=tuple(METRICS),
            samples=args.samples,
            target_length=4096,
            batch_size=4,
            passkey_style="comment",
            passkey_haystack="documents",
            passkey_depths=20,
        )
    )
    return folder / "evaluation"


def number(rows: list[ResultRow], method: str, task: str, length: int) -> float | None:
    """Return one number of an evaluation."""
    wanted = (method, task, METRICS[task], length)
    return next((row.value for row in rows if (row.method, row.task, row.metric, row.length) == wanted), None)


def collect(folders: dict[str, list[Path]]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return by variant, task and length the numbers of all seeds.

    At the original length a model of mixed windows is also read under its pre-trained RoPE, `(original RoPE)`.
    """
    numbers: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, evaluations in folders.items():
        for folder in evaluations:
            rows = read_results(folder / "results.json").rows
            for label, method in ((name, name), (f"{name} (original RoPE)", "none")):
                for task in METRICS:
                    for length in LENGTHS if method != "none" else LENGTHS[:1]:
                        if (value := number(rows, method, task, length)) is not None:
                            numbers.setdefault(label, {}).setdefault(task, {}).setdefault(str(length), []).append(value)
    return numbers


def describe(values: list[float]) -> str:
    """Return the mean over seeds, with the standard deviation where there are several."""
    if not values:
        return ""
    return f"{np.mean(values):.3f}" + (f" ({np.std(values, ddof=1):.3f})" if len(values) > 1 else "")


def render(numbers: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """Return one table per task: the mean over seeds, and their standard deviation where there are several."""
    lines = ["# Fine-tuning on the embedded model", "", "Mean over seeds (standard deviation), by context length."]
    for task in METRICS:
        lines += ["", f"## {task}", "", "| variant | " + " | ".join(map(str, LENGTHS)) + " |"]
        lines.append("|---" + "|--:" * len(LENGTHS) + "|")
        for name, tasks in numbers.items():
            cells = [describe(tasks.get(task, {}).get(str(length), [])) for length in LENGTHS]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is left, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="examples/tiny/model")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="optimiser steps (default: as the recipe says)")
    parser.add_argument("--samples", type=int, default=16, help="evaluation documents")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/fine-tuning"))
    parser.add_argument("--report", type=Path, default=Path("benchmarks/reports/fine_tuning"))
    args = parser.parse_args()
    folders = {
        name: [tune(name, VARIANTS[name], seed, args) for seed in args.seeds] for name in dict.fromkeys(args.variants)
    }
    numbers = collect(folders)
    facts = {"versions": versions(), "seeds": args.seeds, "steps": args.steps, "samples": args.samples}
    args.report.with_suffix(".json").write_text(json.dumps({**facts, "numbers": numbers}, indent=1) + "\n")
    args.report.with_suffix(".md").write_text(render(numbers))
    print(render(numbers))


if __name__ == "__main__":
    main()
