r"""Fine-tuning side by side on the embedded model: searched factors, PI and YaRN, and mixed windows against plain ones.

All variants see as many tokens of the same documents and exercises, and are read in the same ways; they differ in the
factors and in the windows. After `bash examples/tiny/extend.sh`, which makes documents and searched factors, and whose
rows open the first report:

    python benchmarks/fine_tuning.py --variants "PI, mixed windows" "YaRN, mixed windows" --extension
    python benchmarks/fine_tuning.py --variants "searched, mixed windows" "searched, plain windows" --seeds 0 1 2 \
        --steps 80 --tasks perplexity perplexity_tail --lengths 256 512 1024 2048 4096 --name fine_tuning_windows

Called again it goes on where it stopped. Writes `benchmarks/reports/NAME.json` and `.md`.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from longrope.cli import evaluate, finetune
from longrope.cli.comparison_configs import EvaluateConfig
from longrope.cli.training_configs import FinetuneConfig
from longrope.evaluation.comparison.results import ResultRow, git_commit, read_results, versions
from longrope.evaluation.report.metrics import format_value
from longrope.evaluation.report.ranking import Contrast, Items, compare_with, scored
from longrope.evaluation.report.runs import RESULTS_JSON, Evaluation, read_evaluation
from longrope.evaluation.report.table import markdown
from longrope.evaluation.report.verdict import difference_text

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
TUNED = 4096
"""Length of the longest windows."""
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
    """What the tuned windows are rotated by: factors, or a method for the whole extension."""
    recipe: str
    beyond: str | None = None
    """What its weights are also read under past the length that they were tuned at."""


OWN, ORIGINAL, BEYOND = "evaluation", "original", "beyond"
"""Folders of what tuned weights are read under: the factors of the tuning, the pre-trained RoPE, a longer extension."""
EXTENSION = Path("runs/tiny-extend")
OURS = "readjusted"
"""What the whole extension ends with, and what the others are compared with."""
VARIANTS = {
    "PI, mixed windows": Variant("linear:factor=16", "tiny", "linear:factor=32"),
    "YaRN, mixed windows": Variant("yarn:factor=16", "tiny", "yarn:factor=32"),
    "searched, mixed windows": Variant(f"{EXTENSION}/1-search", "tiny"),
    "searched, plain windows": Variant(f"{EXTENSION}/1-search", "tiny-plain"),
}


def tune(name: str, variant: Variant, seed: int, args: argparse.Namespace) -> Path:
    """Fine-tune one variant, or what is left of it, and evaluate it; return its folder."""
    folder = args.output_dir / args.name / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    if not (folder / "model").is_dir():
        finetune.run(
            FinetuneConfig(
                model=args.model,
                factors=(variant.factors,),
                tokenized=TRAIN,
                output_dir=str(folder),
                recipe=variant.recipe,
                steps=(args.steps,) if args.steps else (),
                gradient_checkpointing=False,
                seed=seed,
            )
        )
    longer = tuple(length for length in args.lengths if length > TUNED)
    documents = tuple(task for task in args.tasks if task.startswith("perplexity"))
    lengths, tasks = tuple(args.lengths), tuple(args.tasks)  # all lengths, since the longest decides on the documents
    read: list[tuple[str, tuple[str, ...], tuple[str, ...], tuple[int, ...], tuple[str, ...]]] = [
        (OWN, (), (f"{name}={folder / 'factors.json'}",), lengths, tasks),
        *([(ORIGINAL, ("none",), (), lengths, documents)] if documents else []),
        *([(BEYOND, (variant.beyond,), (), longer, tasks)] if variant.beyond and longer else []),
    ]
    for place, methods, factors, at, of in read:
        evaluate.run(
            EvaluateConfig(
                model=str(folder / "tuned"),
                tokenized="runs/python-packages-eval",
                lengths=at,
                output_dir=str(folder / place),
                methods=methods,
                factors=factors,
                tasks=of,
                samples=args.samples,
                target_length=TUNED,
                batch_size=4,
                passkey_style="comment",
                passkey_haystack="documents",
                passkey_depths=20,
                needle_depths=20,
            )
        )
    return folder


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


def readings(folders: Mapping[str, Sequence[Path]]) -> Iterator[tuple[str, str, Evaluation]]:
    """Yield what each run's weights were read under: a label, the method's name in the evaluation, and that."""
    for name, runs in folders.items():
        for folder in runs:
            if (folder / ORIGINAL).is_dir():
                yield f"{name} (original RoPE)", "none", read_evaluation(folder / ORIGINAL)
            yield name, name, read_evaluation(folder / OWN)
            if (folder / BEYOND).is_dir():
                beyond = read_evaluation(folder / BEYOND)
                yield f"{name} ({beyond.rows[0].method})", beyond.rows[0].method, beyond


def collect(folders: Mapping[str, Sequence[Path]], extension: Path | None) -> Numbers:
    """Return the numbers of the extension and of all variants.

    At the original length a model of mixed windows is also read under its pre-trained RoPE, `(original RoPE)`, and past
    the length that it was tuned at under what reaches that far.
    """
    numbers = Numbers()
    if extension is not None:
        rows = read_results(extension / RESULTS_JSON).rows
        for method in dict.fromkeys(row.method for row in rows):
            numbers.add(method, rows, method, LENGTHS)
    for label, method, evaluation in readings(folders):
        numbers.add(label, evaluation.rows, method, LENGTHS[:1] if method == "none" else LENGTHS)
    return numbers


def contrasts(extension: Path, folders: Mapping[str, Sequence[Path]]) -> dict[str, dict[str, list[Contrast]]]:
    """Compare what the extension ends with to each other reading, document by document and prompt by prompt.

    Returns:
        By task and label one contrast per length, of one run of each variant.
    """
    own = read_evaluation(extension / "5-evaluate/tuned")
    found: dict[str, dict[str, list[Contrast]]] = {task: {} for task in METRICS}
    for label, method, other in readings({name: runs[:1] for name, runs in folders.items()}):
        for task in METRICS:
            for length in LENGTHS[:1] if method == "none" else LENGTHS:
                ours, theirs = (_behind(one, task, length, by) for one, by in ((own, OURS), (other, method)))
                if ours and theirs:
                    found[task].setdefault(label, []).extend(compare_with(OURS, {OURS: ours, label: theirs}, length, 0))
    return found


def _behind(evaluation: Evaluation, task: str, length: int, method: str) -> Items | None:
    place = (method, task, METRICS[task], length)
    rows = [row for row in evaluation.rows if (row.method, row.task, row.metric, row.length) == place]
    return scored(rows, evaluation.rows, evaluation.records).get(method)


def render_contrasts(found: Mapping[str, Mapping[str, Sequence[Contrast]]]) -> str:
    """Return one table per task: by how much the extension differs from each reading, with 95 % intervals."""
    text = (
        f"\n## `{OURS}` against the others\n\nOn the same documents and prompts, with 95 % bootstrap intervals over "
        "them; below 0 is better for perplexities, above 0 for accuracies.\n"
    )
    for task, by_label in found.items():
        lengths = sorted({one.length for contrasts in by_label.values() for one in contrasts})
        rows = []
        for label, contrasts in by_label.items():
            texts = {one.length: difference_text(METRICS[task], one) for one in contrasts}
            cells = [texts.get(length, ("", "")) for length in lengths]
            rows.append([label, *(f"{value} [{interval}]" if interval else value for value, interval in cells)])
        text += "\n" + markdown([task, *map(str, lengths)], rows)
    return text


def describe(metric: str, values: list[float]) -> str:
    """Return the mean over seeds, with the standard deviation where there are several."""
    if not values:
        return ""
    deviation = f" ({format_value(metric, float(np.std(values, ddof=1)))})" if len(values) > 1 else ""
    return format_value(metric, float(np.mean(values))) + deviation


def render(numbers: Numbers, facts: Mapping[str, Any]) -> str:
    """Return one table per task: the mean over seeds, and their standard deviation where there are several."""
    steps = f"{facts['steps']} steps" if facts["steps"] else "as many steps as the recipe says"
    text = (
        f"# Fine-tuning on the embedded model\n\nBy `benchmarks/fine_tuning.py`, commit {facts['commit']}: {steps}, "
        f"seeds {', '.join(map(str, facts['seeds']))}, {facts['samples']} documents, 20 pass keys and needles. Mean "
        "over seeds (standard deviation), by context length.\n"
    )
    lengths = [length for length in LENGTHS if length in facts["lengths"]]
    for task in [one for one in METRICS if any(one in tasks for tasks in numbers.values())]:
        metric = METRICS[task]
        rows = [
            [name, *(describe(metric, tasks.get(task, {}).get(str(length), [])) for length in lengths)]
            for name, tasks in numbers.items()
            if task in tasks
        ]
        text += "\n" + markdown([f"{task} ({metric})", *map(str, lengths)], rows)
    return text


def main() -> None:
    """Run what is left, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="examples/tiny/model")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, help="optimiser steps (default: as the recipe says)")
    parser.add_argument("--samples", type=int, default=16, help="evaluation documents")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help="that are evaluated, in tokens")
    parser.add_argument("--tasks", nargs="+", default=list(METRICS), choices=list(METRICS))
    parser.add_argument("--output-dir", type=Path, default=Path("runs/fine-tuning"))
    parser.add_argument("--extension", action="store_true", help=f"begin with the rows of {EXTENSION}")
    parser.add_argument("--name", default="fine_tuning", help="of the report, and of the folder of its runs")
    args = parser.parse_args()
    folders = {
        name: [tune(name, VARIANTS[name], seed, args) for seed in args.seeds] for name in dict.fromkeys(args.variants)
    }
    extension = EXTENSION if args.extension else None
    numbers = collect(folders, extension)
    found = contrasts(extension, folders) if extension else {}
    facts = {name: getattr(args, name) for name in ("seeds", "steps", "samples", "lengths")}
    facts |= {"commit": git_commit(), "versions": versions()}
    report = Path("benchmarks/reports") / args.name
    text = render(numbers, facts) + (render_contrasts(found) if found else "")
    stored = {**facts, "numbers": numbers, "contrasts": found}
    report.with_suffix(".json").write_text(json.dumps(stored, indent=1) + "\n")
    report.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
