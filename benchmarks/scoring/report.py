"""The report of the benchmark as Markdown."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

HEADER = (
    "| model | kernel | tokens | candidates per forward | tokens/s | TFLOP/s | of the matrix product's rate | "
    "times the bare forward | times the call with labels | attention's share | peak (GiB) |"
)


def row_of(cell: Mapping[str, Any]) -> str:
    """Return a row of the table."""
    shown = f"| {cell['model']} | {cell['kernel']} | {cell['length']} | {cell['candidates']} |"
    if cell["tokens_per_second"] is None:
        return f"{shown} {cell['error']} | | | | | | |"
    peak = "-" if cell["peak_gib"] is None else f"{cell['peak_gib']:.2f}"
    ratios = (_range(cell[name]) for name in ("of_roof", "vs_bare_forward", "vs_labels_call"))
    rates = f"{cell['tokens_per_second']:,.0f} | {cell['tflops']:.3g} | {' | '.join(ratios)}"
    return f"{shown} {rates} | {cell['attention_share']:.0%} | {peak} |"


def _range(values: Sequence[float]) -> str:
    """Return the median and, in brackets, the least and the most."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f} to {max(values):.2f})"


def _growth(found: Mapping[str, Any]) -> str:
    pairs = zip(found["lengths"][1:], found["between_neighbours"], found["attention_share"][1:], strict=True)
    steps = ", ".join(f"{power:.2f} up to {length:,} ({share:.0%})" for length, power, share in pairs)
    return (
        f"{found['model']}: the time of a candidate grows with the length to the power of {found['exponent']:.2f} "
        f"from {found['lengths'][0]:,} to {found['lengths'][-1]:,} tokens; from each length to the next {steps}; in "
        "brackets attention's share of the operations at the longer one."
    )


def _memory(memory: Mapping[str, Any]) -> str:
    if "error" in memory:
        return f"Peak memory at {memory['length']:,} tokens was not measured: {memory['error']}"
    scoring, labels = (memory[kind] / 2**20 for kind in ("score", "labels"))
    return (
        f"Peak memory above the weights, {memory['model']} at {memory['length']:,} tokens, each in a fresh process: "
        f"scoring {scoring:,.0f} MiB, the call with labels {labels:,.0f} MiB, ratio {memory['ratio']:.3f}."
    )


def render(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [
        f"# Scoring on {report['device']}",
        "",
        f"torch {report['versions']['torch']}, Transformers {report['versions']['transformers']}, commit "
        f"{report['commit']}; {report['dtype']}. Ratios are medians over rounds in turns, with their range; rates on a "
        "processor are by the CPU time of its one thread. `random-LAYERSxHIDDENxVOCABULARY` has random weights.",
        "",
        HEADER,
        "|---" * (HEADER.count("|") - 1) + "|",
        *map(row_of, report["cells"]),
    ]
    if report["peak_memory"]:
        lines += ["", _memory(report["peak_memory"])]
    for found in report["growth"]:
        lines += ["", _growth(found)]
    if search := report["search"]:
        lines += [
            "",
            f"A short search on {search['model']} for {search['target_length']} tokens: {search['candidates']} "
            f"candidates, {search['tokens']:,} tokens in {search['seconds']:.1f} s of scoring, "
            f"{search['tokens_per_second']:,.0f} tokens/s.",
        ]
    return "\n".join(lines) + "\n"
