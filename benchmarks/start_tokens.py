"""Show what the start tokens n_hat bring at each context length: the factors of a file with each n_hat in turn.

    python benchmarks/start_tokens.py --model M --tokenized DATA --factors runs/tiny/factors.json --lengths 512 1024

Every n_hat is scored on the same windows, the first of each document that the factors were not searched on, and is
compared with n_hat = 0 document by document. Nothing is searched again: a search may find other factors for another
n_hat, so this is what n_hat adds to these factors. Writes start_tokens.json and start_tokens.md.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longrope.evaluation.comparison.results import provenance
from longrope.evaluation.comparison.statistics import holm, paired_differences
from longrope.evaluation.data.tokenized import check_tokenizer, leading_special_tokens, load_tokenized
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring.model import load_model
from longrope.evolution import START_TOKEN_CHOICES
from longrope.rope import RescaleFactors, install, load_factors, write_atomically


@dataclass(frozen=True)
class Effect:
    """What one n_hat does at one length."""

    length: int
    """Tokens per window."""
    start_tokens: int
    """n_hat, in tokens."""
    loss: float
    """Mean over documents, nats per token."""
    difference: float
    """Mean over documents of this loss minus that of n_hat = 0 on the same document; below 0 is better."""
    low: float | None
    """Lower end of the 95 % bootstrap interval over documents; None for one document."""
    high: float | None
    p: float | None
    """Two-sided p-value of no difference (sign flips), corrected over the choices of this length (Holm)."""
    documents: int


def effects(losses: NDArray[np.float64], choices: Sequence[int], length: int, seed: int) -> list[Effect]:
    """Compare each choice with n_hat = 0.

    Args:
        losses: nats per token, shape (choices, documents).
        choices: n_hat of each row; the first is 0.
        length: tokens per window.
        seed: of the resampling.
    """
    last = len(choices) - 1
    against_zero = [one for one in paired_differences(losses[::-1], seed) if one.second == last]
    corrected = holm([1.0 if one.p is None else one.p for one in against_zero])
    found = [Effect(length, 0, float(losses[0].mean()), 0.0, None, None, None, losses.shape[1])]
    for one, p in sorted(zip(against_zero, corrected, strict=True), key=lambda pair: -pair[0].first):
        row = last - one.first
        loss = float(losses[row].mean())
        p = None if one.p is None else p
        found.append(Effect(length, choices[row], loss, one.value, one.low, one.high, p, one.n))
    return found


def measured_losses(objective: PerplexityObjective, candidates: Sequence[RescaleFactors]) -> NDArray[np.float64]:
    """Return nats per token of each candidate on each window, shape (candidates, windows).

    Raises:
        RuntimeError: a score failed.
    """
    columns: list[list[float]] = []
    for window in range(len(objective.windows)):
        scores = objective.score(candidates, window)
        failed = [score.error for score in scores if score.nats is None]
        if failed:
            raise RuntimeError(f"every n_hat must have a score on window {window}, but one failed: {failed[0]}")
        columns.append([(score.nats or 0.0) / score.tokens for score in scores])
    return np.array(columns).T


def render(found: Sequence[Effect], report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [
        "# What start tokens bring",
        "",
        f"Model {report['model']['id']}, factors {report['factors']} (found with n_hat = {report['n_hat']}), "
        f"{found[0].documents} documents, commit {report['commit']}. Differences are to n_hat = 0 on the same "
        "documents, with 95 % bootstrap intervals over documents; p by sign flips, Holm over the choices of a length.",
        "",
        "| length (tokens) | n_hat | perplexity | loss difference (10^-3 nats) | 95 % interval | p |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        shown = "-" if one.low is None or one.high is None else f"{1e3 * one.low:+.2f} to {1e3 * one.high:+.2f}"
        p = "-" if one.p is None else f"{one.p:.2g}"
        lines.append(
            f"| {one.length} | {one.start_tokens} | {math.exp(one.loss):.4f} | {1e3 * one.difference:+.2f} | {shown} "
            f"| {p} |"
        )
    return "\n".join(lines) + "\n"


def run(options: argparse.Namespace) -> None:
    """Measure and write the report."""
    choices = sorted({0, *options.choices})
    model, tokenizer = load_model(options.model, options.dtype, options.device)
    found: list[Effect] = []
    with install(model, options.original_length) as installation:
        factors = load_factors(options.factors, installation.geometry, max(options.lengths))
        candidates = [replace(factors, start_tokens=choice) for choice in choices]
        data = load_tokenized(
            options.tokenized, max(options.lengths), options.samples, exclude=factors.searched_documents
        )
        check_tokenizer(data, tokenizer)
        opening = len(leading_special_tokens(tokenizer))
        for length in options.lengths:
            objective = PerplexityObjective(
                model, installation, data.documents, length, options.batch_size, opening=opening
            )
            found += effects(measured_losses(objective, candidates), choices, length, options.seed)
            print(f"{length} tokens done", flush=True)
    protocol = {"documents": len(data.documents), "data": data.fingerprint(max(options.lengths)), "seed": options.seed}
    origin = provenance(model, options.model, {"perplexity": protocol}, factors=options.factors)
    report = {**origin, "n_hat": factors.start_tokens, "effects": [asdict(one) for one in found]}
    folder = Path(options.output_dir)
    write_atomically(folder / "start_tokens.json", json.dumps(report, indent=1) + "\n")
    write_atomically(folder / "start_tokens.md", render(found, report))
    print(render(found, report))


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="local folder or hub id")
    parser.add_argument("--tokenized", required=True, help="evaluation documents: a folder of longrope tokenize")
    parser.add_argument("--factors", required=True, help="factor file or run folder; its n_hat is replaced")
    parser.add_argument("--lengths", type=int, nargs="+", required=True, help="context lengths, in tokens")
    parser.add_argument("--choices", type=int, nargs="+", default=list(START_TOKEN_CHOICES), help="n_hat, in tokens")
    parser.add_argument("--samples", type=int, default=10, help="documents")
    parser.add_argument("--original-length", type=int, help="context length of the pre-training, in tokens")
    parser.add_argument("--batch-size", type=int, default=4, help="candidates per forward")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", help="auto (bfloat16 on CUDA, float32 on CPU) or a torch dtype")
    parser.add_argument("--output-dir", default="benchmarks/reports", help="folder of the two files")
    return parser.parse_args()


if __name__ == "__main__":
    run(read_options())
