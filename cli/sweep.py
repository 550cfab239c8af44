"""`longrope sweep`: the baselines over their own parameters, ranked; sweep.json, sweep.csv and best.yaml."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from ..evaluation.comparison.cells import collect, method_key, read_cells
from ..evaluation.comparison.compare import run_cells
from ..evaluation.comparison.results import provenance, write_results
from ..evaluation.comparison.runner import CellRunner
from ..evaluation.comparison.sweep import Point, parameters_of, rank_points, read_sweep
from ..evaluation.data.tokenized import TokenizedDocuments, check_tokenizer
from ..evaluation.scoring.model import load_model, read_config
from ..evaluation.tasks.perplexity import Perplexity
from ..execution import Resources, only
from ..hyperparams import sweep_file
from ..rope import Method, build_method, write_atomically
from ..rope.describe import describe_rope
from .comparison_configs import SweepConfig
from .documents import load_documents
from .executors import device_of, open_executor, use
from .preflight import preflight

FORMAT = "longrope-sweep"
VERSION = 1
SHOWN = 10
SAMPLES = 5
"""Tuning documents where the user does not say how many."""


def run(config: SweepConfig) -> None:
    """Measure every point, print the best ones, and write all of them."""
    lengths = _check(config)
    geometry = describe_rope(read_config(config.model), config.original_length).geometry
    ratio = max(1.0, config.target_length / geometry.original_length)
    methods = {spec: build_method(spec, ratio) for spec in _points(config, ratio)}
    for method in methods.values():  # a dry run refuses what a run would
        method.at_length(geometry, config.target_length).factors(geometry)
    if config.dry_run:
        print("\n".join(methods) + f"\n{len(methods)} points")
        return
    preflight(config, max(lengths))
    min_tokens = max(*lengths, config.dataset_min_tokens or 0)
    data = load_documents(config.tokenized, min_tokens, config.samples, SAMPLES, config.seed)
    folder = Path(config.output_dir)
    with open_executor(config, SweepFactory(config, methods, lengths, data)) as executor:
        outline = only(executor, CellRunner.outline)
        compared = run_cells(executor, outline, folder)
    origin, protocols = outline.provenance, outline.provenance["protocols"]
    keys = {name: method_key(method) for name, method in methods.items()}
    results = collect(read_cells(folder), origin, protocols, keys).results
    write_results(folder / "results.json", results.rows, results.provenance, results.failures, results.costs)
    points = rank_points(compared.entries, config.target_length, config.seed)
    write_atomically(folder / "sweep.json", _as_json(config, points, compared.failures, origin))
    write_atomically(folder / "sweep.csv", _as_csv(points))
    write_atomically(folder / "best.yaml", _as_yaml(config, points, data))
    print(_table(points, config.target_length))
    print(
        f"saved: {folder / 'sweep.json'}, sweep.csv and best.yaml; compare the best of each method on other documents:"
    )
    print(f"longrope evaluate --methods none @{folder / 'best.yaml'} ...")
    if compared.failures:
        raise RuntimeError(f"{len(compared.failures)} cells or documents failed; {folder / 'sweep.json'} lists them")


@dataclass(frozen=True)
class SweepFactory:
    """Loads the model, where points are measured."""

    config: SweepConfig
    methods: Mapping[str, Method]
    lengths: Sequence[int]
    data: TokenizedDocuments

    def __call__(self, resources: Resources) -> CellRunner:
        use(resources)
        config = self.config
        model, tokenizer = load_model(config.model, config.dtype, device_of(config), config.attn_implementation)
        check_tokenizer(self.data, tokenizer)
        task = Perplexity(self.data, config.batch_size, config.seed)
        protocols = {task.name: task.protocol()}
        origin = provenance(model, config.model, protocols, config=asdict(config), seed=config.seed)
        return CellRunner(model, self.methods, self.lengths, [task], origin, config.original_length)


def _check(config: SweepConfig) -> list[int]:
    """Return the lengths to measure."""
    lengths = sorted({config.target_length, *config.lengths})
    if lengths[0] < 2:
        raise ValueError(f"target_length and lengths must be at least 2 tokens, got {lengths[0]}; give longer ones")
    for name in ("samples", "num_samples", "best", "batch_size"):
        if (value := getattr(config, name)) is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return lengths


def _points(config: SweepConfig, ratio: float) -> list[str]:
    """Return the texts of all points, each once."""
    specs: list[str] = []
    for name in config.sweeps:
        sweep = read_sweep(sweep_file(name))
        specs += (
            sweep.grid(ratio) if config.num_samples is None else sweep.samples(ratio, config.num_samples, config.seed)
        )
    if not specs:
        raise ValueError("sweeps must be at least one, such as yarn, got none")
    return list(dict.fromkeys(specs))


def _as_json(
    config: SweepConfig, points: Sequence[Point], failures: Sequence[Mapping[str, Any]], origin: dict[str, Any]
) -> str:
    facts = {"format": FORMAT, "version": VERSION, "provenance": origin, "target_length": config.target_length}
    facts |= {"metric": "token_weighted", "points": [point._asdict() for point in points], "failures": failures}
    return json.dumps(facts, indent=1, allow_nan=False) + "\n"


def _as_csv(points: Sequence[Point]) -> str:
    """Return one row per point, with a column for each parameter that any of them has."""
    parameters = [parameters_of(point.spec) for point in points]
    names = list(dict.fromkeys(name for one in parameters for name in one))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*Point._fields, *names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**point._asdict(), **one} for point, one in zip(points, parameters, strict=True))
    return text.getvalue()


def _as_yaml(config: SweepConfig, points: Sequence[Point], data: TokenizedDocuments) -> str:
    best: list[str] = []
    for method in dict.fromkeys(point.method for point in points):
        best += [point.spec for point in points if point.method == method][: config.best]
    content = {"methods": best, "tuned_documents": [document.digest for document in data.documents]}
    note = f"# Lowest perplexity at {config.target_length} tokens; longrope evaluate leaves the tuned documents out.\n"
    return note + yaml.safe_dump(content, sort_keys=False, width=1000)


def _table(points: Sequence[Point], length: int) -> str:
    """Return the best points of each method, as many as `SHOWN`; `=` marks those not proven worse than its best."""
    lines = []
    for method in dict.fromkeys(point.method for point in points):
        alike = [point for point in points if point.method == method]
        lines.append(f"{method}: {len(alike)} points, perplexity at {length} tokens, = not proven worse than the best")
        lines += [f"{p.rank:5d} {'=' if p.tied else ' '} {p.perplexity:10.4f}  {p.spec}" for p in alike[:SHOWN]]
    return "\n".join(lines)
