"""Whether the budgets of an extension's searches suffice, told before its first stage and not after its fine-tuning."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from ..evaluation.scoring.model import read_config
from ..evolution import build_seeds, build_strategy, cost_of, load_settings
from ..hyperparams import preset
from ..rope import RopeGeometry, rope_geometry
from ..rope.describe import skeleton
from .budget import with_budget
from .configs import SearchConfig
from .estimate import WindowLengths
from .extend_recipe import Extension, StagePlan
from .model_search import search_space
from .seeds import seed_options


class Planned(NamedTuple):
    """One search of an extension."""

    label: str
    config: SearchConfig
    geometry: RopeGeometry
    """RoPE of the model that is searched."""
    longest: int
    """Length that its space and its seeds are made for: the target, or that of the extension that is readjusted."""


def check_budgets(extension: Extension) -> None:
    """Make sure that each search can pay for its first and its last generation.

    Raises:
        ValueError: one can't, or its settings are wrong.
    """
    for planned in searches(extension):
        try:
            _check(planned)
        except ValueError as error:
            raise ValueError(f"{planned.label}: {error}") from error


def searches(extension: Extension) -> Iterator[Planned]:
    """Yield all searches in their order.

    The seeds of a readjustment are not known before its extension is: those of a search for that are at least as many.
    """
    geometry = rope_geometry(skeleton(read_config(extension.model)), extension.original_length)
    longest = geometry.original_length
    for number, stage in enumerate(extension.stages, 1):
        if stage.kind == "finetune":
            geometry = replace(geometry, original_length=longest)
        for target in _targets(stage):
            longest = target if stage.kind == "search" else longest
            options = {name: value for name, value in stage.options.items() if name not in ("lengths", "target_length")}
            config = SearchConfig(extension.model, extension.search, target, extension.output_dir, **options)
            yield Planned(f"stage {number}, {stage.kind} {target}", config, geometry, longest)


def _targets(stage: StagePlan) -> tuple[int, ...]:
    if stage.kind == "search":
        return (stage.options["target_length"],)
    return stage.options["lengths"] if stage.kind == "readjust" else ()


def _check(planned: Planned) -> None:
    config, geometry = planned.config, planned.geometry
    settings = load_settings(preset(config.hyper_params))
    num_documents = config.samples or settings.num_documents
    price = WindowLengths(settings, config, num_documents, geometry.original_length).price
    settings, budget = with_budget(settings, config, price(0, False))
    beyond = max(
        planned.longest, 2 * geometry.original_length
    )  # a tuned model may be readjusted without a second search
    made_for = replace(config, target_length=beyond)
    space = search_space(settings, made_for, geometry)
    seeds = build_seeds(seed_options(made_for, geometry), geometry, space)
    strategy = build_strategy(settings, space, seeds, num_documents, config.seed)
    least = cost_of(strategy.ask(), price) + sum(price(document, False) for document in strategy.reserved)
    if budget.max_scored_tokens is not None and budget.max_scored_tokens < least:
        raise ValueError(
            f"max_scored_tokens must be at least {least} for the first and the last generation, got "
            f"{budget.max_scored_tokens}; raise it, or choose smaller hyper-parameters"
        )
