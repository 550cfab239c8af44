"""Measure candidate scoring side by side with the bare forward and the call with labels, by model and context length.

    python -m benchmarks.scoring [--cells MODEL:LENGTH,LENGTH ..] [--device cuda] [--output-dir benchmarks/reports]

A model is a folder, a GGUF file, or `random-LAYERSxHIDDENxVOCABULARY`: a Llama with random weights and heads of 64
dimensions, four to a key; speed and memory do not depend on the values. In each cell these alternate, on one window of
random tokens: scoring candidates as a search does; the bare forward, `model(input_ids, use_cache=False)` in inference
mode; `model(input_ids, labels=input_ids, use_cache=False)` for each candidate without gradients, as the official code
does; and a matrix product, whose rate is the roof. Ratios are of tokens per second, medians over rounds with their
range.

On a processor one thread works, and its CPU time counts: other work on the machine then disturbs little, though not
nothing. On CUDA it is wall time. Peak memory is that of fresh processes, above the resident weights. Writes
scoring.json and scoring.md, on CUDA gpu-CARD.json and gpu-CARD.md.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from longrope.evaluation.comparison.results import git_commit, versions
from longrope.evaluation.scoring.model import pick_device, pick_dtype
from longrope.evaluation.scoring.resources import PeakMemory
from longrope.evolution import last_rows, read_history
from longrope.evolution.curve import best_seed_on
from longrope.rope import install, load_factors, write_atomically

from .cells import Cell, Passes, attention_share, build, growth, kernels_of, measure
from .report import render, row_of

CPU_CELLS = ("random-4x256x32000:2048", "examples/tiny/model:2048,4096,8192,16384,32768,65536")
CUDA_CELLS = ("random-16x2048x128256:4096,16384,65536,131072",)
MEMORY_MODEL, MEMORY_LENGTH = "random-1x256x32000", 32768
"""What peak memory is measured on: it does not grow with the layers."""


def measure_all(options: argparse.Namespace, device: str) -> list[Cell]:
    """Measure every model with every kernel at every length, shortest first, as long as there is time for the next."""
    cells: list[Cell] = []
    started = time.perf_counter()
    for named in options.cells:
        name, _, lengths = named.rpartition(":")
        model = build(name, device, options.dtype)
        for kernel in kernels_of(device, model.dtype):
            last: tuple[int, float] | None = None
            for length in sorted(map(int, lengths.split(","))):
                share = attention_share(model, length)
                cell = Cell(name, kernel, length, options.candidates, attention_share=share)
                compared = length <= options.compare_to
                rounds = options.rounds if compared else 1
                passes = 1 + rounds * (4 if compared else 2)
                # No forward slows down by more than the square of its length.
                expected = passes * last[1] * (length / last[0]) ** 2 if last else 0.0
                left = 60 * options.minutes - (time.perf_counter() - started)
                if expected > left:
                    cells.append(replace(cell, error=f"left out, {left:.0f} s were left"))
                    continue
                begun = time.perf_counter()
                cells.append(measure(model, cell, rounds, compared))
                last = length, (time.perf_counter() - begun) / passes
                print(row_of(asdict(cells[-1])), flush=True)
    return cells


def peak_of_pass(name: str, kind: str, length: int) -> int:
    """Return the bytes above the resident weights that one pass of one candidate takes on the processor."""
    model = build(name, "cpu", "float32")
    with install(model) as installation:
        passes = Passes(model, installation, length, 1)
        before = PeakMemory().read() or 0
        memory = PeakMemory()
        passes.score() if kind == "score" else passes.labels()
        return (memory.read() or 0) - before


def peak_memory(name: str, length: int) -> dict[str, Any]:
    """Measure the peak memory of scoring and of the call with labels, each in a process of its own."""
    peaks: dict[str, Any] = {"model": name, "length": length}
    for kind in ("score", "labels"):
        command = [sys.executable, "-m", "benchmarks.scoring", "--peak", kind, "--cells", f"{name}:{length}"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
        if done.returncode:
            return peaks | {"error": done.stderr.strip().splitlines()[-1]}
        peaks[kind] = int(done.stdout.splitlines()[-1])
    return peaks | {"ratio": peaks["score"] / peaks["labels"]}


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


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", help="auto (bfloat16 on CUDA) or a torch dtype")
    parser.add_argument("--cells", nargs="+", help="MODEL:LENGTH,LENGTH; the first ratios are those of the first cell")
    parser.add_argument("--compare-to", type=int, default=4096, help="longest window that is also run the other ways")
    parser.add_argument("--candidates", type=int, default=4, help="candidates per forward, if memory allows")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of a cell that compares; longer ones have one")
    parser.add_argument("--minutes", type=float, default=25.0, help="begin no cell that is not likely to end by then")
    parser.add_argument("--memory-length", type=int, default=MEMORY_LENGTH, help="tokens of the memory measurement")
    parser.add_argument("--peak", choices=["score", "labels"], help="print the bytes of one pass of the cell and stop")
    parser.add_argument("--search-run", help="run folder of a search to report the cost of")
    parser.add_argument("--output-dir", default="benchmarks/reports", help="folder of the two files")
    return parser.parse_args()


def main() -> None:
    """Measure and write the report."""
    options = read_options()
    torch.manual_seed(0)
    device = pick_device(options.device)
    cuda = device.startswith("cuda")
    torch.set_num_threads(torch.get_num_threads() if cuda else 1)
    if options.peak:
        name, _, length = options.cells[0].rpartition(":")
        print(peak_of_pass(name, options.peak, int(length)))
        return
    options.cells = options.cells or (CUDA_CELLS if cuda else CPU_CELLS)
    card = torch.cuda.get_device_name(device) if cuda else f"{platform.machine()} processor, one thread"
    memory = None if cuda else peak_memory(MEMORY_MODEL, options.memory_length)
    cells = measure_all(options, device)
    names = list(dict.fromkeys(cell.model for cell in cells))
    report = {
        "device": card,
        "versions": versions(),
        "commit": git_commit(),
        "dtype": str(pick_dtype(options.dtype, device)).removeprefix("torch."),
        "load_average": os.getloadavg()[0],
        "vs_bare_forward": statistics.median(cells[0].vs_bare_forward) if cells[0].vs_bare_forward else None,
        "vs_labels_call": statistics.median(cells[0].vs_labels_call) if cells[0].vs_labels_call else None,
        "peak_memory_ratio": memory.get("ratio") if memory else None,
        "peak_memory": memory,
        "cells": [asdict(cell) for cell in cells],
        "growth": [found for name in names if (found := growth(cells, name)) is not None],
        "search": search_costs(options.search_run) if options.search_run else None,
    }
    path = Path(options.output_dir) / (
        f"gpu-{re.sub(r'[^a-z0-9]+', '-', card.lower()).strip('-')}" if cuda else "scoring"
    )
    write_atomically(path.with_name(f"{path.name}.json"), json.dumps(report, indent=1) + "\n")
    write_atomically(path.with_name(f"{path.name}.md"), render(report))
    print(f"saved: {path}.json and {path}.md")


if __name__ == "__main__":
    main()
