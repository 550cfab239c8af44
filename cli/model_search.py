"""The search of one model's factors, for the command and `optimize`: joins space, seeds, executor and run folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation.comparison.results import git_commit, versions
from ..evaluation.data.tokenized import TokenizedDocuments
from ..evolution import (
    Genome,
    HistoryRow,
    Objective,
    ParetoSettings,
    ParetoStrategy,
    RunFolder,
    SearchResult,
    Settings,
    Space,
    attention_policy,
    build_seeds,
    build_strategy,
    run_search,
)
from ..execution import Executor, InlineExecutor, only
from ..rope import Installation, RescaleFactors, RopeGeometry, install
from .budget import with_budget
from .configs import SearchConfig
from .front import save_front
from .objectives import build_objective
from .progress import SearchReport, describe_result, render_origins
from .readjust import extension_of, save_readjusted
from .search_worker import ExecutedObjective, SearchWorker
from .seeds import number_or_name, seed_options

RECORDED_ONLY = ("commit", "versions")
"""Provenance that is recorded but may differ when a run is resumed: a commit must not end a search of days."""
MAY_DIFFER = {
    "search": ("max_scored_tokens", "max_hours", "tokenized", "hyper_params", "device", "dtype", "attn_implementation"),
    "hyper_params": ("num_scores",),
}
"""Options that may differ, too: the budget, which may grow, and what provenance has in its final form elsewhere."""
NOT_DECISIVE = (
    "output_dir",
    "resume",
    "trackers",
    "estimate",
    "sustained_tflops",
    "price_per_hour",
    "evaluation_tokenized",
    "executor",
    "workers",
    "devices_per_worker",
    "ray_address",
)
"""Options that do not decide the result, so a run may be resumed with others."""


def search_on_documents(
    config: SearchConfig,
    settings: Settings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TokenizedDocuments,
) -> RescaleFactors:
    """Search with a model that is here on tokenized documents; see `search_model`."""

    def objective(installation: Installation) -> Objective:
        return build_objective(config, settings, model, tokenizer, installation, data)

    provenance = data_provenance(settings, config, data)
    return search_here(config, settings, model, objective, len(data.documents), provenance)


def search_here(
    config: SearchConfig,
    settings: Settings,
    model: PreTrainedModel,
    objective_of: Callable[[Installation], Objective],
    num_documents: int,
    data: Mapping[str, Any],
) -> RescaleFactors:
    """Search with a model that is here, which has its own RoPE again afterwards; see `search_model`.

    Args:
        config: options.
        settings: hyper-parameters.
        model: a model.
        objective_of: makes the objective from what `install(model)` gives.
        num_documents: search documents.
        data: what is known of them, for the provenance.
    """
    with install(model, config.original_length) as installation:
        worker = SearchWorker(config, model, installation, objective_of(installation))
        return search_model(settings, InlineExecutor(lambda _: worker), num_documents, data)


def search_model(
    settings: Settings, executor: Executor[SearchWorker], num_documents: int, data: Mapping[str, Any]
) -> RescaleFactors:
    """Search and write factors.json and factors.csv into the run folder.

    Args:
        settings: hyper-parameters.
        executor: whose workers hold the model.
        num_documents: search documents.
        data: what is known of them, for the provenance.

    Raises:
        ValueError: options don't fit together, the model or the run folder.
        RuntimeError: nothing could be scored.
    """
    num_windows = num_documents * settings.windows_per_document
    both = 2 * num_windows if isinstance(settings, ParetoSettings) else num_windows
    facts = only(executor, SearchWorker.facts, both)
    config, geometry = facts.config, facts.geometry
    objective = ExecutedObjective(executor, facts.prices, config.batch_size)
    settings, budget = with_budget(settings, config, max(facts.prices[False][:num_windows]))
    space = search_space(settings, config, geometry)
    provenance = _provenance(config, settings, data, facts.provenance)
    policy = attention_policy(number_or_name(config.attention_factor), geometry, space)

    def build(genome: Genome) -> RescaleFactors:
        return space.factors(genome, geometry, config.target_length, policy, provenance)

    seeds = build_seeds(seed_options(config, geometry), geometry, space)
    strategy = build_strategy(settings, space, seeds, num_documents, config.seed)
    with RunFolder(config.output_dir, _decisive(provenance), resume=config.resume) as folder:
        for note in folder.notes:
            print(f"note: {note}")
        with SearchReport(folder, config.trackers) as report:
            result = run_search(strategy, objective, folder, build, report.show, budget)
        rows = folder.rows
    factors = build(result.best.genome)
    if result.gain is not None:
        factors = replace(factors, provenance={**factors.provenance, "gain": result.gain.as_json()})
    if config.readjust is not None:  # before the factors, which mark the end
        save_readjusted(config, geometry, factors)
    _save(config, factors, result, rows, num_documents)
    if isinstance(strategy, ParetoStrategy):
        save_front(Path(config.output_dir), strategy.front, result.best.genome, build)
    return factors


def search_space(settings: Settings, config: SearchConfig, geometry: RopeGeometry) -> Space:
    """Return what is searched on a model.

    Raises:
        ValueError: the target is not above the original length, and nothing is readjusted.
    """
    extension = extension_of(config, geometry)
    if extension is None and config.target_length <= geometry.original_length:
        raise ValueError(_too_short(config, geometry))
    ratio = config.target_length / geometry.original_length
    space = settings.space(geometry.pairs, ratio if extension is None else extension.scale)
    periods = [int((geometry.rotations >= least).sum()) for least in (10, 1)]  # LongRoPE2, algorithm 1
    first, last = (min(max(count, 1), geometry.pairs - 1) for count in periods)
    target = int((geometry.rotations * max(1.0, ratio) >= 1).sum())
    return replace(space, critical_dimensions=(first, last), sensitive_pairs=(first, target))


def _too_short(config: SearchConfig, geometry: RopeGeometry) -> str:
    """Say why there is nothing to search for, and what would help."""
    own = geometry.original_length
    rule = f"target_length must be above the original length, got {config.target_length} tokens for "
    if config.original_length is not None:
        return f"{rule}--original-length {own}; give the length that the model was trained on, or a longer target"
    return (
        f"{rule}a model that reads {own} without any factors; give a longer target, or for weights that were tuned "
        "with factors --readjust FACTORS"
    )


def data_provenance(settings: Settings, config: SearchConfig, data: TokenizedDocuments) -> dict[str, Any]:
    """Return what the provenance tells of search documents."""
    scored = config.target_length if settings.windows_per_document == 1 else None
    return {
        "source": data.info.source,
        "fingerprint": data.fingerprint(scored),
        "documents": {document.digest: document.name for document in data.documents},
    }


def _provenance(
    config: SearchConfig, settings: Settings, data: Mapping[str, Any], model: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what decides the result, and nothing that changes between two equal runs (such as the time)."""
    options = {name: value for name, value in asdict(config).items() if name not in NOT_DECISIVE}
    return {
        "search": {**options, "init_factors": list(config.init_factors)},
        "hyper_params": {"strategy": settings.strategy, **asdict(settings)},
        "model": model["model"],
        "data": dict(data),
        **model,
        "versions": versions(),
        "commit": git_commit(),
    }


def _decisive(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the provenance that a resumed run must share."""
    parts = {name: part for name, part in provenance.items() if name not in RECORDED_ONLY}
    for name, left_out in MAY_DIFFER.items():
        parts[name] = {key: value for key, value in parts[name].items() if key not in left_out}
    return parts


def _save(
    config: SearchConfig,
    factors: RescaleFactors,
    result: SearchResult,
    rows: Sequence[HistoryRow],
    num_documents: int,
) -> None:
    folder = Path(config.output_dir)
    factors.save(folder / "factors.csv")
    factors.save(folder / "factors.json")
    summary: Mapping[str, Any] = {
        **describe_result(result, rows, num_documents),
        "start tokens": factors.start_tokens,
        "attention factor": f"{factors.attention_factor:.5f}",
        "candidates": result.candidates,
        "scored tokens": f"{result.scored_tokens:,}",
        "saved": folder / "factors.json",
    }
    print(render_origins(rows))
    for name, value in summary.items():
        print(f"{name + ':':<18} {value}")
