"""Measure how fast candidates are scored and what memory that takes, by attention kernel and context length.

    python benchmarks/scoring.py [--device cuda] [--search-run FOLDER] [--output-dir benchmarks/reports]

The model is a Llama of about 1.2 billion parameters with random weights (the shape of Llama 3.2 1B), so nothing is
downloaded: speed and memory do not depend on the values. Each cell scores candidates on one window of random tokens, as
a search does. With --search-run the cost of a finished search is reported beside it. Writes DEVICE.json and DEVICE.md.
"""

import argparse
import json
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel
from transformers.utils.import_utils import is_flash_attn_2_available

from longrope.evaluation.comparison.results import git_commit, versions
from longrope.evaluation.data.tokenized import TokenDocument
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring.batching import free_memory, is_out_of_memory
from longrope.evaluation.scoring.cost import forward_flops, model_size
from longrope.evaluation.scoring.model import pick_device, pick_dtype
from longrope.evaluation.scoring.resources import PeakMemory
from longrope.evolution import last_rows, read_history
from longrope.evolution.curve import best_seed_on
from longrope.rope import Installation, RescaleFactors, install, load_factors, write_atomically
from longrope.rope.methods import YaRN

ORIGINAL_LENGTH = 8192


@dataclass(frozen=True)
class Cell:
    """One measurement, or why there is none."""

    kernel: str
    """Attention kernel, as Transformers names it."""
    length: int
    """Tokens per window."""
    candidates: int
    """Candidates per forward; fewer than asked for where memory ran out."""
    tokens_per_second: float | None = None
    tflops: float | None = None
    """Teraflops per second, counted as `longrope search --estimate` does: what --sustained-tflops is to be."""
    peak_gib: float | None = None
    """Most memory in use: on CUDA what torch allocated, weights included; elsewhere that of the process."""
    error: str | None = None


def random_llama(layers: int, hidden: int, device: str, dtype: str) -> PreTrainedModel:
    """Return a Llama with random weights, heads of 64 dimensions, four to a key, made on the device."""
    config = LlamaConfig(
        vocab_size=128256 if hidden >= 1024 else 256,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(hidden // 256, 1),
        max_position_embeddings=ORIGINAL_LENGTH,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    )
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=pick_dtype(dtype, device)).eval()


def kernels_of(device: str, dtype: torch.dtype) -> list[str]:
    """Return the attention kernels that can run here."""
    flash = device.startswith("cuda") and dtype in (torch.bfloat16, torch.float16) and is_flash_attn_2_available()
    return ["sdpa", *(["flash_attention_2"] if flash else [])]


def measure(model: PreTrainedModel, kernel: str, length: int, candidates: int, seconds: float) -> Cell:
    """Score candidates on a window again and again for at least so many seconds, after one round to warm up."""
    cell = Cell(kernel, length, candidates)
    model.set_attn_implementation(kernel)
    free_memory()
    memory = PeakMemory()
    try:
        with install(model) as installation:
            batch, rate = _throughput(model, installation, length, candidates, seconds)
    except (RuntimeError, MemoryError, ImportError) as error:
        return replace(cell, error="out of memory" if is_out_of_memory(error) else " ".join(str(error).split()))
    tflops = rate / length * forward_flops(model_size(model), length) / 1e12
    peak = memory.read()
    return replace(
        cell, candidates=batch, tokens_per_second=rate, tflops=tflops, peak_gib=None if peak is None else peak / 2**30
    )


def _throughput(
    model: PreTrainedModel, installation: Installation, length: int, candidates: int, seconds: float
) -> tuple[int, float]:
    """Return candidates per forward and tokens per second; scores come to the host, so the device has finished."""
    vocab_size = model.config.get_text_config().vocab_size
    ids = np.random.default_rng(0).integers(vocab_size, size=length)
    factors = YaRN(max(2.0, length / ORIGINAL_LENGTH)).factors(installation.geometry)
    objective = PerplexityObjective(model, installation, [TokenDocument("random", ids)], length, candidates)
    _score(objective, [factors] * candidates)
    scored, started = 0, time.perf_counter()
    while not scored or time.perf_counter() - started < seconds:
        scored += _score(objective, [factors] * candidates)
    rate = scored * length / (time.perf_counter() - started)
    return min(candidates, objective.batcher.batch_size), rate


def _score(objective: PerplexityObjective, candidates: Sequence[RescaleFactors]) -> int:
    scores = objective.score(candidates, 0)
    if errors := [score.error for score in scores if score.error is not None]:
        raise RuntimeError(f"a score failed, so its time says nothing: {errors[0]}")
    return len(scores)


def measure_all(model: PreTrainedModel, options: argparse.Namespace) -> list[Cell]:
    """Measure every kernel at every length, shortest first, as long as there is time for the next."""
    cells: list[Cell] = []
    started = time.perf_counter()
    for kernel in kernels_of(str(model.device), model.dtype):
        last: Cell | None = None
        for length in sorted(options.lengths):
            # No forward slows down by more than the square of its length; two of them make a cell.
            rate = last.tokens_per_second if last else None
            expected = 2 * options.candidates * length * (length / last.length) / rate if last and rate else 0.0
            left = 60 * options.minutes - (time.perf_counter() - started)
            if expected > left:
                cells.append(Cell(kernel, length, options.candidates, error=f"left out, {left:.0f} s were left"))
                continue
            last = measure(model, kernel, length, options.candidates, options.seconds)
            cells.append(last)
            print(row_of(last), flush=True)
    return cells


def search_costs(folder: str) -> dict[str, Any]:
    """Return what a finished search cost and found."""
    rows = read_history(Path(folder) / "history.jsonl").rows
    factors = load_factors(folder)
    last = last_rows(rows)
    tokens, seconds = sum(row.forwarded for row in rows), sum(row.seconds for row in rows)
    seed = best_seed_on(rows, {row.document for row in last})
    return {
        "model": factors.provenance["model"]["id"],
        "target_length": factors.target_length,
        "candidates": len({row.genome for row in rows}),
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "best_seed": None if seed is None else {"origin": seed[0], "loss": seed[1]},
    }


def row_of(cell: Cell) -> str:
    """Return a row of the table."""
    shown = f"| {cell.kernel} | {cell.length} | {cell.candidates} |"
    if cell.tokens_per_second is None:
        return f"{shown} {cell.error} | | |"
    peak = "-" if cell.peak_gib is None else f"{cell.peak_gib:.2f}"
    return f"{shown} {cell.tokens_per_second:,.0f} | {cell.tflops:.3g} | {peak} |"


def render(report: dict[str, Any], cells: Sequence[Cell]) -> str:
    """Return the report as Markdown."""
    model, search = report["model"], report["search"]
    lines = [
        f"# Scoring on {report['device']}",
        "",
        f"Random Llama of {model['parameters'] / 1e9:.3g} billion parameters, {model['layers']} layers of "
        f"{model['hidden']}, {model['dtype']}; torch {report['versions']['torch']}, Transformers "
        f"{report['versions']['transformers']}, commit {report['commit']}.",
        "",
        "| attention kernel | length (tokens) | candidates per forward | tokens/s | TFLOP/s | peak memory (GiB) |",
        "|---|---|---|---|---|---|",
        *map(row_of, cells),
    ]
    if search:
        lines += [
            "",
            f"A short search on {search['model']} for {search['target_length']} tokens: {search['candidates']} "
            f"candidates, {search['tokens']:,} tokens in {search['seconds']:.1f} s of scoring, "
            f"{search['tokens_per_second']:,.0f} tokens/s.",
        ]
    return "\n".join(lines) + "\n"


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", help="auto (bfloat16 on CUDA) or a torch dtype")
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 16384, 65536, 131072], help="tokens")
    parser.add_argument("--candidates", type=int, default=4, help="candidates per forward, if memory allows")
    parser.add_argument("--layers", type=int, default=16, help="decoder layers")
    parser.add_argument("--hidden", type=int, default=2048, help="hidden size, a multiple of 64")
    parser.add_argument("--seconds", type=float, default=3.0, help="least time per cell after its warm-up")
    parser.add_argument("--minutes", type=float, default=5.0, help="begin no cell that is not likely to end by then")
    parser.add_argument("--search-run", help="run folder of a search to report the cost of")
    parser.add_argument("--output-dir", default="benchmarks/reports", help="folder of the two files")
    return parser.parse_args()


def main() -> None:
    """Measure and write the report."""
    options = read_options()
    device = pick_device(options.device)
    cuda = device.startswith("cuda")
    card = torch.cuda.get_device_name(device) if cuda else f"{platform.machine()} {device}"
    torch.manual_seed(0)
    model = random_llama(options.layers, options.hidden, device, options.dtype)
    cells = measure_all(model, options)
    report = {
        "device": card,
        "versions": versions(),
        "commit": git_commit(),
        "model": {
            "parameters": model.num_parameters(),
            "layers": options.layers,
            "hidden": options.hidden,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        "cells": [asdict(cell) for cell in cells],
        "search": search_costs(options.search_run) if options.search_run else None,
    }
    name = f"{'gpu' if cuda else 'scoring'}-{re.sub(r'[^a-z0-9]+', '-', card.lower()).strip('-')}"
    path = Path(options.output_dir) / name
    write_atomically(path.with_name(f"{name}.json"), json.dumps(report, indent=1) + "\n")
    write_atomically(path.with_name(f"{name}.md"), render(report, cells))
    print(f"saved: {path}.json and {path}.md")


if __name__ == "__main__":
    main()
