"""Measure memory and speed of long windows on one device, against the memory model of the preflight.

    python benchmarks/long_context.py [--device cuda] [--seconds 60] [--cells KIND:LAYERS:LENGTH ..]

The model has the shape of Llama 3 8B, with fewer layers where a cell says so, and random weights made on the device, so
nothing is downloaded: memory and speed do not depend on the values. Kinds of cells:

    forward            the loss of a window, as a search scores it
    forward-whole      the same without chunks along the sequence
    gradient           the loss and its derivatives
    gradient-offload   the same, the inputs of the layers on the CPU
    prompt             a prompt read in chunks into a cache, and new tokens
    prompt-offload     the same, keys and values on the CPU
    prompt-masks       the same as prompt, with the masks that Transformers makes

Writes long_context-CARD.json and .md. Peak memory is what torch allocated on a CUDA device, weights included; elsewhere
it is not measured.
"""

import argparse
import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from longrope.evaluation.comparison.results import git_commit, versions
from longrope.evaluation.data.tokenized import TokenDocument
from longrope.evaluation.objectives.gradients import GradientObjective
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring.batching import free_memory, is_out_of_memory
from longrope.evaluation.scoring.chunks import PREFILL_CHUNK
from longrope.evaluation.scoring.cost import (
    ModelSize,
    cache_bytes,
    forward_bytes,
    forward_flops,
    generation_bytes,
    gradient_bytes,
    model_size,
)
from longrope.evaluation.scoring.generation import greedy
from longrope.evaluation.scoring.loss import differentiable_token_nats
from longrope.evaluation.scoring.model import pick_device, pick_dtype
from longrope.rope import install, write_atomically
from longrope.rope.methods import YaRN

ORIGINAL_LENGTH = 8192
NEW_TOKENS = 8
GRADIENT_FORWARDS = 4
"""A gradient's operations in forwards: one forward, the layers once more, a backward of twice the work."""
GIB = 2**30
CELLS = (
    *("forward:4:32768", "forward-whole:4:32768", "gradient:4:32768", "prompt:4:65536", "prompt-masks:4:65536"),
    *("forward:4:131072", "prompt-offload:4:131072", "gradient:8:65536", "gradient-offload:8:65536"),
    *("forward:1:524288", "forward:32:131072", "prompt:32:65536", "gradient:32:32768"),
)
CLAIMS = (("forward", 2**20), ("gradient", 2**17), ("gradient-offload", 2**18), ("prompt-offload", 2**21))
"""What the memory model says of all 32 layers."""


@dataclass(frozen=True)
class Cell:
    """One measurement, or why there is none."""

    kind: str
    layers: int
    length: int
    """Tokens of the window or prompt."""
    seconds: float | None = None
    tokens_per_second: float | None = None
    tflops: float | None = None
    """Teraflops per second; the layers that a gradient runs again count."""
    token_seconds: float | None = None
    """Seconds for each new token after a prompt."""
    peak_gib: float | None = None
    model_gib: float | None = None
    """What the memory model says."""
    error: str | None = None


def read_cell(text: str) -> Cell:
    """Return a cell from KIND:LAYERS:LENGTH."""
    kind, layers, length = text.split(":")
    if kind not in RUNS:
        raise argparse.ArgumentTypeError(f"a cell's kind must be one of {', '.join(RUNS)}, got {kind}")
    return Cell(kind, int(layers), int(length))


def random_llama(layers: int, hidden: int, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """Return a Llama with random weights, made on the device; at a hidden size of 4096 its layers are Llama 3 8B's."""
    large = hidden >= 1024
    heads = hidden // (128 if large else 16)
    config = LlamaConfig(
        vocab_size=128256 if large else 256,
        hidden_size=hidden,
        intermediate_size=7 * hidden // 2,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        max_position_embeddings=ORIGINAL_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    )
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    rotary = type(model.model.rotary_emb)(config)  # its frequencies are no weights
    model.to_empty(device=device)
    model.model.rotary_emb = rotary.to(device)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02) if parameter.ndim > 1 else parameter.fill_(1)
    return model.eval().requires_grad_(False)


def scored(model: PreTrainedModel, length: int) -> None:
    """Score a window as a search does."""
    with install(model, canary=False) as installation:
        objective = _objective(model, installation, length)
        _check([objective.score([_factors(installation, length)], 0)[0].error])


def scored_whole(model: PreTrainedModel, length: int) -> None:
    """Score a window without chunks along the sequence."""
    with install(model, canary=False) as installation, torch.inference_mode():
        installation.set([_factors(installation, length)])
        differentiable_token_nats(model, _ids(model, length)[None]).sum().item()


def differentiated(model: PreTrainedModel, length: int, offload: bool = False) -> None:
    """Make the derivatives of a window's loss."""
    with install(model, canary=False) as installation:
        objective = GradientObjective(_objective(model, installation, length), offload)
        _check([objective.gradient(_factors(installation, length), 0).error])


def answered(model: PreTrainedModel, length: int, offload: bool = False) -> None:
    """Read a prompt and answer."""
    with install(model, canary=False) as installation:
        installation.set([_factors(installation, length)])
        greedy(model, _ids(model, length)[None], NEW_TOKENS, offload=offload)


@torch.inference_mode()
def answered_with_masks(model: PreTrainedModel, length: int) -> None:
    """Read a prompt in the same chunks with the masks of Transformers, and answer."""
    cache, (*chunks, token) = None, _ids(model, length)[None].split(PREFILL_CHUNK, dim=1)
    for part in (*chunks, token, *[token[:, -1:]] * (NEW_TOKENS - 1)):
        cache = model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values


Run = Callable[[PreTrainedModel, int], None]
Need = Callable[[ModelSize, int, int], int]
RUNS: dict[str, tuple[Run, Need]] = {
    "forward": (scored, forward_bytes),
    "forward-whole": (scored_whole, lambda size, length, width: forward_bytes(size, length, width, chunk=length)),
    "gradient": (differentiated, gradient_bytes),
    "gradient-offload": (
        lambda model, length: differentiated(model, length, offload=True),
        lambda size, length, width: gradient_bytes(size, length, width, offload=True),
    ),
    "prompt": (answered, generation_bytes),
    "prompt-offload": (
        lambda model, length: answered(model, length, offload=True),
        lambda size, length, width: generation_bytes(size, length, width, offload=True),
    ),
    "prompt-masks": (answered_with_masks, generation_bytes),
}


def _ids(model: PreTrainedModel, length: int) -> torch.Tensor:
    ids = np.random.default_rng(0).integers(model.config.get_text_config().vocab_size, size=length)
    return torch.from_numpy(ids).to(model.device)


def _objective(model: PreTrainedModel, installation: Any, length: int) -> PerplexityObjective:
    document = TokenDocument("random", _ids(model, length).cpu().numpy())
    return PerplexityObjective(model, installation, [document], length, 1)


def _factors(installation: Any, length: int) -> Any:
    return YaRN(max(2.0, length / ORIGINAL_LENGTH)).factors(installation.geometry)


def _check(errors: Sequence[str | None]) -> None:
    if errors[0] is not None:
        raise RuntimeError(errors[0])


def operations(cell: Cell, size: ModelSize) -> float:
    """Return the floating-point operations of a cell."""
    return forward_flops(size, cell.length) * (GRADIENT_FORWARDS if cell.kind.startswith("gradient") else 1)


def measure(model: PreTrainedModel, cell: Cell) -> Cell:
    """Run a cell once."""
    run, need = RUNS[cell.kind]
    size = model_size(model)
    cell = replace(cell, model_gib=need(size, cell.length, model.dtype.itemsize) / GIB)
    cuda, ends = model.device.type == "cuda", []
    free_memory()

    def finished(*_: Any) -> None:
        torch.cuda.synchronize(model.device) if cuda else None
        ends.append(time.perf_counter())

    if cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    hook, started = model.register_forward_hook(finished), time.perf_counter()
    try:
        run(model, cell.length)
        finished()
    except Exception as error:  # one cell does not cost the others
        return replace(cell, error="out of memory" if is_out_of_memory(error) else " ".join(str(error).split())[:200])
    finally:
        hook.remove()
    seconds = ends[-1] - started
    new = (ends[-2] - ends[-1 - NEW_TOKENS]) / (NEW_TOKENS - 1) if cell.kind.startswith("prompt") else None
    return replace(
        cell,
        seconds=seconds,
        tokens_per_second=cell.length / (seconds - (new or 0) * (NEW_TOKENS - 1)),
        tflops=operations(cell, size) / seconds / 1e12,
        token_seconds=new,
        peak_gib=torch.cuda.max_memory_allocated(model.device) / GIB if cuda else None,
    )


def measure_all(options: argparse.Namespace, device: str, dtype: torch.dtype) -> list[Cell]:
    """Measure the cells in their order, as long as there is time for the next."""
    cells: list[Cell] = []
    model, ends = None, time.perf_counter() + options.seconds
    for cell in options.cells:
        if model is None or model.config.num_hidden_layers != cell.layers:
            model = None
            free_memory()
            model = random_llama(cell.layers, options.hidden, device, dtype)
            measure(model, Cell("forward", cell.layers, 64))  # what happens once, such as loading kernels
        speeds = [one.tflops for one in cells if one.tflops]
        alike = [one.tflops for one in cells if one.tflops and one.kind == cell.kind]
        expected = operations(cell, model_size(model)) / (1e12 * (alike or [min(speeds)])[-1]) if speeds else 0.0
        if speeds and expected > (left := ends - time.perf_counter()):
            cells.append(replace(cell, error=f"left out, {max(left, 0):.0f} s were left"))
        else:
            cells.append(measure(model, cell))
        print(row_of(cells[-1]), flush=True)
    return cells


def row_of(cell: Cell) -> str:
    """Return a row of the table."""
    shown = f"| {cell.kind} | {cell.layers} | {cell.length} |"
    if cell.seconds is None or cell.tokens_per_second is None or cell.model_gib is None:
        return f"{shown} {cell.error} | | | | | |"
    peak, ratio = ("-", "-")
    if cell.peak_gib is not None:
        peak, ratio = f"{cell.peak_gib:.2f}", f"{cell.peak_gib / cell.model_gib:.3f}"
    new = "-" if cell.token_seconds is None else f"{1000 * cell.token_seconds:.0f}"
    speed = f"{cell.seconds:.2f} | {cell.tokens_per_second:,.0f} | {cell.tflops:.3g} | {new}"
    return f"{shown} {speed} | {peak} | {cell.model_gib:.2f} | {ratio} |"


def claims(size: ModelSize) -> list[dict[str, Any]]:
    """Return what the memory model says of all layers at the lengths that the documentation names."""
    needs = [(kind, length, RUNS[kind][1](size, length, 2)) for kind, length in CLAIMS]
    needs.append(("cache on the CPU", 2**21, cache_bytes(size, 2**21, 2)))
    return [{"kind": kind, "length": length, "model_gib": need / GIB} for kind, length, need in needs]


def render(report: dict[str, Any], cells: Sequence[Cell]) -> str:
    """Return the report as Markdown."""
    shape = report["model"]
    return "\n".join(
        [
            f"# Long windows on {report['device']}",
            "",
            f"Random Llama of the shape of Llama 3 8B (hidden size {shape['hidden']}), {shape['dtype']}; torch "
            f"{report['versions']['torch']}, Transformers {report['versions']['transformers']}, commit "
            f"{report['commit']}. Peak is what torch allocated, weights included; each cell ran once.",
            "",
            "| cell | layers | length (tokens) | seconds | tokens/s | TFLOP/s | ms per new token | peak (GiB) | "
            "memory model (GiB) | peak / model |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *map(row_of, cells),
            "",
            "What the memory model says of all 32 layers in bfloat16:",
            "",
            "| cell | length (tokens) | memory model (GiB) |",
            "|---|---|---|",
            *(f"| {one['kind']} | {one['length']} | {one['model_gib']:.1f} |" for one in report["claims"]),
            "",
        ]
    )


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="bfloat16", help="a torch dtype")
    parser.add_argument("--hidden", type=int, default=4096, help="hidden size; the rest of the shape follows it")
    parser.add_argument("--cells", type=read_cell, nargs="+", default=[*map(read_cell, CELLS)], help="what to measure")
    parser.add_argument("--seconds", type=float, default=60.0, help="begin no cell that is not likely to end by then")
    parser.add_argument("--output-dir", default="benchmarks/reports", help="folder of the two files")
    return parser.parse_args()


def main() -> None:
    """Measure and write the report."""
    options = read_options()
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    assert isinstance(dtype, torch.dtype), "no auto"
    card = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{platform.machine()} {device}"
    torch.manual_seed(0)
    cells = measure_all(options, device, dtype)
    report = {
        "device": card,
        "versions": versions(),
        "commit": git_commit(),
        "model": {"hidden": options.hidden, "dtype": str(dtype).removeprefix("torch.")},
        "cells": [asdict(cell) for cell in cells],
        "claims": claims(model_size(random_llama(32, 4096, "meta", torch.bfloat16))),
    }
    name = f"long_context-{re.sub(r'[^a-z0-9]+', '-', card.lower()).strip('-')}"
    path = Path(options.output_dir) / name
    write_atomically(path.with_name(f"{name}.json"), json.dumps(report, indent=1) + "\n")
    write_atomically(path.with_name(f"{name}.md"), render(report, cells))
    print(f"saved: {path}.json and {path}.md")


if __name__ == "__main__":
    main()
