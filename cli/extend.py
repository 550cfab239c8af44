"""`longrope extend`: search, fine-tune, search again, readjust, evaluate and export, each in a folder of its own."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..evaluation.comparison.results import model_fingerprint, write_results
from ..evaluation.report.runs import RESULTS_JSON, combine, read_evaluation
from ..evaluation.scoring.model import read_config
from ..hyperparams import extend_recipe
from ..rope import FactorSets, RescaleFactors, compose, load_factor_sets, load_factors, write_atomically
from . import evaluate, export, finetune, report, search
from .comparison_configs import EvaluateConfig
from .configs import ExportConfig, ReportConfig, SearchConfig
from .extend_budget import check_budgets
from .extend_plan import print_plan
from .extend_recipe import Extension, StagePlan, load_extension
from .training_configs import ExtendConfig, FinetuneConfig

FACTORS_JSON, TOTAL_JSON, SETS_JSON = "factors.json", "total.json", "factor_sets.json"


@dataclass(frozen=True)
class State:
    """What the stages so far have made."""

    weights: str
    """Folder or hub id of the weights, whose RoPE is that of the pre-training."""
    searched: tuple[Path, ...] = ()
    """Factors searched on the weights that were there before the fine-tuning, in their order."""
    tuned_with: Path | None = None
    """Factors that the weights were tuned with."""
    extended: Path | None = None
    """The tuned weights with these factors in their config: what the second search is run on."""
    current: Path | None = None
    """The longest factors for the weights, relative to the RoPE of the pre-training."""
    sets: Path | None = None
    """Factors by length."""
    evaluations: tuple[Path, ...] = ()


def run(config: ExtendConfig) -> None:
    """Run what is left of the stages, and write the report over all of them; or print the plan."""
    extension = load_extension(extend_recipe(config.recipe), config)
    if config.plan:
        print_plan(extension, config)
    check_budgets(extension)
    if config.plan:
        return
    folder, state = Path(extension.output_dir), State(extension.model)
    for number, stage in enumerate(extension.stages, 1):
        place = folder / stage.folder(number)
        print(f"== stage {number} of {len(extension.stages)}: {stage.kind}, in {place}")
        _check_same(place, stage, state)
        state = STAGES[stage.kind](extension, stage, place, state, config)
    if state.evaluations:
        _report(folder, state)


def _search(extension: Extension, stage: StagePlan, place: Path, state: State, config: ExtendConfig) -> State:
    model = state.weights if state.extended is None else str(state.extended)
    original_length = extension.original_length if state.extended is None else None
    _run_search(extension, stage, place, SearchOf(model, original_length), config)
    if state.tuned_with is None:
        return replace(state, searched=(*state.searched, place / FACTORS_JSON), current=place / FACTORS_JSON)
    total = place / TOTAL_JSON
    if not total.is_file():
        compose(load_factors(state.tuned_with), load_factors(place / FACTORS_JSON)).save(total)
    return replace(state, current=total)


@dataclass(frozen=True)
class SearchOf:
    """What a search is run on."""

    model: str
    original_length: int | None
    readjust: str | None = None


def _run_search(
    extension: Extension, stage: StagePlan, place: Path, of: SearchOf, config: ExtendConfig, **more: Any
) -> None:
    if (place / FACTORS_JSON).is_file():
        return
    options = {name: value for name, value in stage.options.items() if name != "lengths"}
    search.run(
        SearchConfig(
            model=of.model,
            tokenized=extension.search,
            output_dir=str(place),
            original_length=of.original_length,
            readjust=of.readjust,
            resume=True,
            **{"device": config.device, "dtype": config.dtype, "seed": config.seed, **options, **more},
        )
    )


def _finetune(extension: Extension, stage: StagePlan, place: Path, state: State, config: ExtendConfig) -> State:
    if not (place / finetune.MODEL).is_dir():
        sources = tuple(str(path) for path in state.searched)
        device = "cpu" if config.device == "cpu" else "auto"
        finetune.run(
            FinetuneConfig(
                model=state.weights,
                factors=sources,
                tokenized=extension.train,
                output_dir=str(place),
                original_length=extension.original_length,
                **{"device": device, "seed": config.seed, **stage.options},
            )
        )
    factors = place / FACTORS_JSON
    weights, extended = str(place / finetune.TUNED), place / finetune.MODEL
    return replace(state, weights=weights, tuned_with=factors, extended=extended, current=factors)


def _readjust(extension: Extension, stage: StagePlan, place: Path, state: State, config: ExtendConfig) -> State:
    """Search factors for shorter lengths, from those that the weights were tuned with where these reach so far."""
    longest = load_factors(_known(state.current))
    tuned = load_factors(state.tuned_with) if state.tuned_with is not None else longest
    sets = {one.target_length: one for one in (tuned, longest)}
    for length in stage.options["lengths"]:
        source = state.tuned_with if length <= tuned.target_length and state.tuned_with else state.current
        of = SearchOf(state.weights, extension.original_length, str(source))
        _run_search(extension, stage, place / str(length), of, config, target_length=length)
        sets[length] = load_factors(place / str(length) / FACTORS_JSON)
    FactorSets(tuple(sets[length] for length in sorted(sets))).save(place / SETS_JSON)
    return replace(state, sets=place / SETS_JSON)


def _evaluate(extension: Extension, stage: StagePlan, place: Path, state: State, config: ExtendConfig) -> State:
    """Measure the model as it was under baselines and the first factors, then the tuned one under each of its own."""
    longest = load_factors(_known(state.current)).target_length
    options = {"target_length": longest, "device": config.device, "dtype": config.dtype, **stage.options}
    of_base = f"sha256 {model_fingerprint(read_config(extension.model), extension.model)}"
    common = {"tokenized": extension.eval, "original_length": extension.original_length, **options}
    first = f"search={state.searched[-1]}"
    base = EvaluateConfig(model=extension.model, output_dir=str(place / "base"), factors=(first,), **common)
    evaluate.run(base, extends=of_base)
    folders = [place / "base"]
    if state.tuned_with is not None:
        own = {"fine-tuned": state.tuned_with, "second search": state.current, "readjusted": state.sets}
        factors = tuple(f"{name}={path}" for name, path in own.items() if path is not None)
        if state.current == state.tuned_with:
            factors = tuple(one for one in factors if not one.startswith("second"))
        common["methods"] = ()
        tuned = EvaluateConfig(model=state.weights, output_dir=str(place / "tuned"), factors=factors, **common)
        evaluate.run(tuned, extends=of_base)
        folders.append(place / "tuned")
    return replace(state, evaluations=(*state.evaluations, *folders))


def _export(extension: Extension, stage: StagePlan, place: Path, state: State, config: ExtendConfig) -> State:
    """Write the longest factors as a static export, or with those of the original length as a pair where it can be."""
    longest = load_factors(_known(state.current))
    short = place.parent / "short_factors.json"
    options = dict(stage.options)
    if state.sets is not None:
        load_factor_sets(state.sets).save(place.parent / SETS_JSON)
        print(f"saved: {place.parent / SETS_JSON}, factors by length for apply_factors")
    pair = _short_of(state, longest.original_length)
    if pair is not None and pair.attention_factor == longest.attention_factor and not pair.start_tokens:
        pair.save(short)
        options["short_factors"] = str(short)
    export.run(
        ExportConfig(
            model=state.weights,
            factors=str(state.current),
            output_dir=str(place),
            **{"tokenized": extension.eval, **options},
        )
    )
    return state


def _short_of(state: State, length: int) -> RescaleFactors | None:
    return None if state.sets is None else load_factor_sets(state.sets).at(length)


STAGES: dict[str, Callable[[Extension, StagePlan, Path, State, ExtendConfig], State]] = {
    "search": _search,
    "finetune": _finetune,
    "readjust": _readjust,
    "evaluate": _evaluate,
    "export": _export,
}


def _known(path: Path | None) -> Path:
    assert path is not None, "the order of the stages was checked"
    return path


def _check_same(place: Path, stage: StagePlan, state: State) -> None:
    """Refuse to go on in the folder of a stage with other options or another input."""
    wanted = json.loads(json.dumps({"options": dict(stage.options), "input": asdict(state)}, default=str))
    path = place.parent / f"{place.name}.json"
    if not path.is_file():
        write_atomically(path, json.dumps(wanted, indent=1) + "\n")
    elif stage.kind != "evaluate" and (before := json.loads(path.read_text(encoding="utf-8"))) != wanted:
        changed = [name for name in wanted if before.get(name) != wanted[name]]
        raise ValueError(
            f"{place} must be of the same recipe, but its {' and '.join(changed)} differ; choose another --output-dir, "
            f"or remove {path.name}, this folder and those after it"
        )


def _report(folder: Path, state: State) -> None:
    """Write all rows as one results.json, and the report over them and all searches."""
    evaluations = [read_evaluation(path) for path in state.evaluations]
    together, *apart = combine(evaluations)
    assert not apart, "they share protocols and the model they extend"
    models = [one.provenances[0]["model"] for one in evaluations]
    origin = together.provenances[0] | {"models": models, "factors": together.factors}
    write_results(folder / RESULTS_JSON, together.rows, origin, together.failures, together.costs, together.left_out)
    runs = [str(path) for path in state.evaluations]
    runs += sorted(str(path.parent) for path in folder.glob("*-*/history.jsonl"))
    report.run(ReportConfig(tuple(runs), str(folder / "report")))
