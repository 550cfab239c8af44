"""Run folders made up for tests: every number is chosen, so that what a report must say is known."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longrope.evaluation.comparison.cells import CellEntry, append_cell, digest, factors_as_json, run_identity
from longrope.evaluation.comparison.results import LeftOut, ResultRow, write_results
from longrope.evaluation.comparison.ruler_means import ruler_means
from longrope.evaluation.scoring.estimates import mean_score, token_weighted_perplexity
from longrope.rope import RopeGeometry
from longrope.rope.methods import Linear

DOCUMENTS = 12
TOKENS = 100
PROVENANCE: dict[str, Any] = {
    "versions": {"python": "3", "longrope": "0", "torch": "2", "transformers": "5"},
    "commit": "abc",
    "model": {"id": "models/made-up", "sha256": "f" * 64},
    "device": "cpu",
    "dtype": "float32",
    "attention": "sdpa",
    "seed": 0,
}
GEOMETRY = RopeGeometry(16, 10000.0, 256)


def losses(method: str, task: str, length: int, mean: float) -> list[dict[str, Any]]:
    """Return perplexity records: methods share the spread over documents, but for the means and a little noise."""
    shared = np.random.default_rng(length).normal(0, 0.5, DOCUMENTS)
    own = np.random.default_rng([length, len(method), *method.encode(), *task.encode()]).normal(0, 0.01, DOCUMENTS)
    return [
        {
            "method": method,
            "length": length,
            "document": f"document {number}",
            "nats": float(TOKENS * (mean + shared[number] + own[number])),
            "tokens": TOKENS,
            "error": None,
        }
        for number in range(DOCUMENTS)
    ]


def positions(method: str, length: int, mean: float, bins: int = 8) -> list[dict[str, Any]]:
    """Return records of the loss by position, the same everywhere."""
    edges = [length * edge // bins for edge in range(bins + 1)]
    tokens = np.diff(edges).tolist()
    place = {"method": method, "length": length, "kind": "positions", "edges": edges, "tokens": tokens, "error": None}
    return [
        place | {"document": f"document {n}", "nats": [(mean + n / 10) * count for count in tokens]} for n in range(3)
    ]


def answers(
    method: str, task: str, length: int, share: float, samples: int = 20, metric: str = "accuracy"
) -> list[dict[str, Any]]:
    """Return records of right and wrong answers at five depths: the first of each method are right."""
    right = round(share * samples)
    return [
        {
            "method": method,
            "length": length,
            "item": f"sample {number}",
            "prompt_hash": digest([task, length, number]),
            "depth": round(number * 4 // samples / 4, 3),
            "predicted": "",
            "references": [""],
            "scores": {metric: float(number < right)},
            "error": None,
        }
        for number in range(samples)
    ]


def measure(records: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return the measurements that a task would have made of these records."""
    found: list[list[Any]] = []
    for length in sorted({record["length"] for record in records}):
        own = [record for record in records if record["length"] == length and record.get("kind") is None]
        if "scores" in own[0]:
            for metric in own[0]["scores"]:
                found.append([metric, length, *mean_score([record["scores"][metric] for record in own], 0)])
        else:
            nats, tokens = [record["nats"] for record in own], [record["tokens"] for record in own]
            found.append(["token_weighted", length, *token_weighted_perplexity(nats, tokens, 0)])
    return found


def write_run(
    folder: Path,
    records: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    protocol: str = "one",
    ratio: float = 8.0,
    failures: Sequence[dict[str, Any]] = (),
    left_out: Sequence[LeftOut] = (),
    **provenance: Any,
) -> Path:
    """Write `results.json` and `cells.jsonl` with the records of each task (each with its method and length)."""
    origin = PROVENANCE | provenance
    protocols = {task: {"name": task, "version": protocol} for task in records}
    rows: list[ResultRow] = []
    costs: list[dict[str, Any]] = []
    factors: dict[str, Any] = {}
    for task, of_task in records.items():
        for place, method in enumerate(dict.fromkeys(record["method"] for record in of_task)):
            factors.setdefault(method, factors_as_json(Linear(ratio + place).factors(GEOMETRY)))
            own = [
                {k: v for k, v in record.items() if k != "method"} for record in of_task if record["method"] == method
            ]
            entry = CellEntry(
                key=digest([method, task, protocol]),
                identity=run_identity(origin),
                method=method,
                method_key=digest(factors[method]),
                factors=factors[method],
                task=task,
                protocol=protocols[task],
                lengths=sorted({record["length"] for record in own}),
                seconds=2.0,
                tokens=1000,
                peak_memory_bytes=2**30,
                commit="abc",
                error=None,
                measurements=measure(own),
                failures=[],
                records=own,
            )
            append_cell(folder, entry)
            rows += [row for length in entry.lengths for row in entry.rows(length)]
            costs.append(entry.costs())
    origin |= {"protocols": protocols, "factors": factors}
    write_results(folder / "results.json", rows + ruler_means(rows), origin, failures, costs, left_out)
    return folder
