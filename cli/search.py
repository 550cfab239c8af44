"""`longrope search`: builds space, seeds, objective and run folder, runs the search, saves the factors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..evaluation.comparison.results import git_commit, model_fingerprint, versions
from ..evaluation.data.tokenized import TokenizedDocuments, check_tokenizer
from ..evaluation.scoring.model import load_model, pick_device
from ..evolution import (
    Genome,
    HistoryRow,
    ParetoStrategy,
    RunFolder,
    SearchResult,
    Settings,
    Space,
    attention_policy,
    build_seeds,
    build_strategy,
    load_settings,
    run_search,
)
from ..hyperparams import preset
from ..rope import RescaleFactors, RopeGeometry, install
from .budget import with_budget
from .configs import SearchConfig
from .documents import load_documents
from .estimate import print_estimate
from .front import save_front
from .objectives import build_objective
from .preflight import preflight
from .progress import SearchReport, describe_result, render_origins
from .readjust import extension_of, prepare_readjustment, save_readjusted
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
)
"""Options that do not decide the result, so a run may be resumed with others."""


def run(config: SearchConfig) -> None:
    """Search and write factors.json and factors.csv into the run folder, or tell what that would cost."""
    settings = load_settings(preset(config.hyper_params))
    if config.estimate:
        print_estimate(config, settings, search_space)
        return
    preflight(config, config.target_length, settings)
    if config.price_per_hour is not None or pick_device(config.device).startswith("cuda"):
        print_estimate(config, settings, search_space)
    min_tokens = max(config.target_length, config.dataset_min_tokens or 0)
    data = load_documents(config.tokenized, min_tokens, config.samples, settings.num_documents, config.seed)
    model, tokenizer = load_model(config.model, config.dtype, config.device, config.attn_implementation)
    check_tokenizer(data, tokenizer)
    config = prepare_readjustment(config, model)
    with install(model, config.original_length) as installation:
        geometry = installation.geometry
        objective = build_objective(config, settings, model, tokenizer, installation, data)
        num_windows = len(data.documents) * settings.windows_per_document
        price = max(objective.price(window, False) for window in range(num_windows))
        settings, budget = with_budget(settings, config, price)
        space = search_space(settings, config, geometry)
        provenance = _provenance(config, settings, data, model)
        build = _builder(config, geometry, space, provenance)
        seeds = build_seeds(seed_options(config, geometry), geometry, space)
        strategy = build_strategy(settings, space, seeds, len(data.documents), config.seed)
        with RunFolder(config.output_dir, _decisive(provenance), resume=config.resume) as folder:
            for note in folder.notes:
                print(f"note: {note}")
            with SearchReport(folder, config.trackers) as report:
                result = run_search(strategy, objective, folder, build, report.show, budget)
            rows = folder.rows
    if config.readjust is not None:  # before the factors, which mark the end
        save_readjusted(config, geometry, build(result.best.genome))
    _save(config, build(result.best.genome), result, rows, len(data.documents))
    if isinstance(strategy, ParetoStrategy):
        save_front(Path(config.output_dir), strategy.front, result.best.genome, build)


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


def _builder(
    config: SearchConfig, geometry: RopeGeometry, space: Space, provenance: dict[str, Any]
) -> Callable[[Genome], RescaleFactors]:
    policy = attention_policy(number_or_name(config.attention_factor), geometry, space)

    def build(genome: Genome) -> RescaleFactors:
        searched = space.decode_attention(genome)
        return RescaleFactors(
            lambdas=space.decode(genome),
            original_length=geometry.original_length,
            target_length=config.target_length,
            theta=geometry.theta,
            rotary_dim=geometry.rotary_dim,
            attention_factor=geometry.attention_factor * (policy if searched is None else searched),
            start_tokens=genome.start_tokens,
            start_attention_factor=geometry.attention_factor,
            provenance=provenance,
        )

    return build


def _provenance(config: SearchConfig, settings: Settings, data: TokenizedDocuments, model: Any) -> dict[str, Any]:
    """Return what decides the result, and nothing that changes between two equal runs (such as the time)."""
    scored = config.target_length if settings.windows_per_document == 1 else None
    options = {name: value for name, value in asdict(config).items() if name not in NOT_DECISIVE}
    return {
        "search": {**options, "init_factors": list(config.init_factors)},
        "hyper_params": {"strategy": settings.strategy, **asdict(settings)},
        "model": {"id": config.model, **model_fingerprint(model, config.model)},
        "data": {
            "source": data.info.source,
            "fingerprint": data.fingerprint(scored),
            "documents": {document.digest: document.name for document in data.documents},
        },
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": model.config._attn_implementation,
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
