"""`longrope evaluate`: methods x lengths x tasks under one protocol; results.json, a table and plots."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.compare import Comparison, compare
from ..evaluation.model import load_model
from ..evaluation.report.figures import draw_accuracy, draw_lambdas, draw_perplexity, draw_search
from ..evaluation.report.numbers import SearchCurve, curves, lambda_profiles
from ..evaluation.report.table import render_tables
from ..evaluation.results import provenance, write_results
from ..evaluation.tokenized import check_tokenizer, load_tokenized
from ..evolution import search_curve
from ..rope import (
    Method,
    RescaleFactors,
    RopeGeometry,
    build_method,
    read_factors,
    rope_geometry,
    write_atomically,
)
from .configs import EvaluateConfig
from .tasks import TASKS, build_task


def run(config: EvaluateConfig) -> None:
    """Compare methods and factors; print the tables and write them with their numbers and figures."""
    _check(config)
    model, tokenizer = load_model(config.model, config.dtype, config.device, config.attn_implementation)
    geometry = rope_geometry(model, config.original_length)
    methods = _methods(config, geometry)
    min_tokens = max(*config.lengths, config.dataset_min_tokens or 0)
    searched = {name: one.searched_documents for name, one in methods.items() if isinstance(one, RescaleFactors)}
    for name in (name for name, documents in searched.items() if not documents):
        print(f"note: the factors of {name} don't tell their search documents; make sure these are others")
    data = load_tokenized(config.tokenized, min_tokens, config.samples, exclude=set().union(*searched.values()))
    check_tokenizer(data, tokenizer)
    tasks = [build_task(name, config, tokenizer, data) for name in config.tasks]
    origin = provenance(
        model, config.model, {task.name: task.protocol() for task in tasks}, config=asdict(config), seed=config.seed
    )
    folder = Path(config.output_dir)
    compared = compare(model, methods, config.lengths, tasks, folder, origin, config.original_length)
    write_results(folder / "results.json", compared.rows, origin, compared.failures)
    table = render_tables(compared.rows)
    write_atomically(folder / "table.md", table)
    _draw(config, compared, methods, geometry, folder)
    print(table)
    for failure in compared.failures:
        print(
            f"failed: {failure['method']} {failure['task']} {failure['length']} {failure['item']}: {failure['error']}"
        )
    print(f"saved: {folder / 'results.json'}, {folder / 'table.md'} and plots in {folder}")
    if compared.failures:
        raise RuntimeError(f"{len(compared.failures)} cells or samples failed; they are listed in results.json")


def _check(config: EvaluateConfig) -> None:
    if not config.lengths or min(config.lengths) < 2:
        raise ValueError(f"lengths must be at least one number of 2 or more tokens, got {list(config.lengths)}")
    if unknown := set(config.tasks) - set(TASKS):
        raise ValueError(f"tasks must be among {', '.join(TASKS)}, got {', '.join(sorted(unknown))}")
    for name, least in (("samples", 1), ("passkey_depths", 1), ("passkey_trials", 1), ("batch_size", 1), ("seed", 0)):
        if (value := getattr(config, name)) < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _methods(config: EvaluateConfig, geometry: RopeGeometry) -> dict[str, Method | RescaleFactors]:
    """Return baselines, then the factor files, by the names they are reported under.

    Baselines are built for the longest length, or for the target of the factors if that is longer: one ratio for all.
    """
    found: dict[str, RescaleFactors] = {}
    for spec in config.factors:
        name, equals, path = spec.rpartition("=")
        name = name if equals else "longrope"
        if name in found or name in config.methods:
            raise ValueError(f"factors must have names of their own, got {name!r} twice; write NAME=PATH")
        found[name] = read_factors(path, geometry, max(config.lengths), config.csv_attention_factor)
    target = max([*config.lengths, *(factors.target_length for factors in found.values())])
    factor = max(1.0, target / geometry.original_length)
    return {spec: build_method(spec, factor) for spec in config.methods} | found


def _draw(
    config: EvaluateConfig,
    compared: Comparison,
    methods: dict[str, Method | RescaleFactors],
    geometry: RopeGeometry,
    folder: Path,
) -> None:
    length = geometry.original_length
    if perplexities := curves(compared.rows, "perplexity", "token_weighted"):
        draw_perplexity(perplexities, length, folder / "perplexity.png")
    if accuracies := curves(compared.rows, "passkey", "accuracy"):
        draw_accuracy(accuracies, length, folder / "passkey.png")
    factors = {name: one if isinstance(one, RescaleFactors) else one.factors(geometry) for name, one in methods.items()}
    draw_lambdas(lambda_profiles(factors, geometry), folder / "lambdas.png")
    if config.search_run:
        points = search_curve(config.search_run)
        columns: list[Any] = [np.array([getattr(p, name) for p in points]) for name in SearchCurve._fields]
        draw_search(SearchCurve(*columns), folder / "search.png")
