"""`longrope finetune`: continued pre-training with factors applied; tuned weights, factors and an export out."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel

from ..evaluation.comparison.results import git_commit, model_fingerprint, versions
from ..evaluation.data.tokenized import tokenizer_fingerprint
from ..evaluation.scoring.model import load_model, pick_device, read_config, read_tokenizer
from ..hyperparams import finetune_recipe
from ..rope import METHODS, RescaleFactors, RopeGeometry, build_method, load_factors, write_atomically
from ..rope.describe import describe_rope
from ..rope.export import export_hf
from ..rope.export.model_card import model_card
from ..rope.files import lock_file
from ..training import Job, LoRA, Options, Recipe, StoredDocuments, finetune, load_recipe, training_text
from ..training.recipe import DOCUMENTS
from .training_configs import FinetuneConfig

RUN_JSON = "finetune.json"
FACTORS_JSON = "factors.json"
TUNED, MODEL = "tuned", "model"
NOT_DECISIVE = ("output_dir", "save_steps", "trackers")
"""Options that do not decide the weights, so a run may go on with others."""


def run(config: FinetuneConfig) -> None:
    """Fine-tune, or go on with it, and write tuned weights, factors and the export."""
    recipe = load_recipe(finetune_recipe(config.recipe)).changed(
        config.lengths, config.steps, config.batch_size, config.learning_rate
    )
    geometry = describe_rope(read_config(config.model), config.original_length).geometry
    factors = stage_factors(config, recipe, geometry)
    sources = {name: StoredDocuments(path) for name, path in named_folders(config.tokenized).items()}
    folder = Path(config.output_dir)
    PartialState(cpu=pick_device(config.device) == "cpu")  # from here on each process knows whether it is the first
    with _lock(folder):
        _run(config, recipe, factors, sources, folder)


def _lock(folder: Path) -> AbstractContextManager[Any]:
    """Keep other commands out of the folder; of processes that train together the first one does so for all."""
    if not PartialState().is_main_process:
        return nullcontext()
    taken = f"output_dir must be used by one fine-tuning at a time, got {folder}, which another process holds; "
    return lock_file(folder / ".lock", taken + "wait for it or choose another folder")


def _run(
    config: FinetuneConfig,
    recipe: Recipe,
    factors: list[RescaleFactors],
    sources: dict[str, StoredDocuments],
    folder: Path,
) -> None:
    tokenizer = read_tokenizer(config.model)
    for name, documents in sources.items():
        if documents.info.tokenizer != tokenizer_fingerprint(tokenizer):
            raise ValueError(
                f"tokenized data must be made with the model's tokenizer, got others in {name}; "
                "run longrope tokenize with this model"
            )
    provenance = _provenance(config, recipe, sources)
    if PartialState().is_main_process:
        _check_same(folder / RUN_JSON, provenance)
    PartialState().wait_for_everyone()
    options = Options(
        config.micro_batch_size,
        config.precision,
        config.gradient_checkpointing,
        config.save_steps,
        trackers=config.trackers,
        seed=config.seed,
        use_cpu=pick_device(config.device) == "cpu",
    )
    lora = LoRA(config.lora_rank) if config.lora_rank else None
    text = training_text(tokenizer, dict(sources))
    job = Job(config.model, _loader(config), tokenizer, text, config.original_length, lora)
    tuned = finetune(job, recipe, factors, folder, options)
    if PartialState().is_main_process:
        last = factors[-1]
        _finish(folder, tuned, replace(last, provenance=last.provenance | {"finetune": provenance}), config)


def stage_factors(config: FinetuneConfig, recipe: Recipe, geometry: RopeGeometry) -> list[RescaleFactors]:
    """Return one set of factors for each stage.

    Raises:
        ValueError: there are as many sources as neither 1 nor the stages, or one can't be read.
    """
    sources = config.factors * len(recipe.stages) if len(config.factors) == 1 else config.factors
    if len(sources) != len(recipe.stages):
        raise ValueError(
            f"factors must be one set, or one for each of the {len(recipe.stages)} stages, got {len(sources)}"
        )
    return [
        build_method(source, max(1.0, stage.length / geometry.original_length)).factors(geometry)
        if source.partition(":")[0] in METHODS
        else load_factors(source, geometry, stage.length)
        for source, stage in zip(sources, recipe.stages, strict=True)
    ]


def named_folders(folders: tuple[str, ...]) -> dict[str, str]:
    """Return folders by name, from texts like PATH or NAME=PATH.

    Raises:
        ValueError: a name is there twice.
    """
    named: dict[str, str] = {}
    for text in folders:
        name, equals, path = text.partition("=")
        name, path = (name, path) if equals else (DOCUMENTS, text)
        if name in named:
            raise ValueError(f"tokenized folders must have names of their own, got {name!r} twice; write NAME=PATH")
        named[name] = path
    return named


def _loader(config: FinetuneConfig) -> Any:
    def load(source: str) -> PreTrainedModel:
        stored = read_config(source).dtype
        model, _ = load_model(source, "float32", "cpu", config.attn_implementation)
        model.config.dtype = stored  # what the tuned weights are stored in
        return model

    return load


def _provenance(config: FinetuneConfig, recipe: Recipe, sources: Mapping[str, StoredDocuments]) -> dict[str, Any]:
    options = {name: value for name, value in asdict(config).items() if name not in NOT_DECISIVE}
    return {
        "options": json.loads(json.dumps(options)),
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "model": {"id": config.model, **model_fingerprint(read_config(config.model), config.model)},
        "data": {name: documents.info.fingerprint for name, documents in sources.items()},
        "versions": versions(),
        "commit": git_commit(),
    }


def _check_same(path: Path, provenance: dict[str, Any]) -> None:
    """Store what decides the weights, or refuse to go on with something else."""
    if not path.is_file():
        write_atomically(path, json.dumps(provenance, indent=1) + "\n")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    if changed := [name for name in ("options", "recipe", "model", "data") if before.get(name) != provenance[name]]:
        raise ValueError(
            f"output_dir must be a new folder or one of the same run, got {path.parent}, whose {' and '.join(changed)} "
            "differ; choose another folder"
        )


def _finish(folder: Path, tuned: Path, factors: RescaleFactors, config: FinetuneConfig) -> None:
    """Write the factors, a link to the last weights, and the export."""
    factors.save(folder / FACTORS_JSON)
    link = folder / TUNED
    if not link.is_symlink():
        link.symlink_to(tuned.relative_to(folder), target_is_directory=True)
    print(f"saved: {link}, to be used with {folder / FACTORS_JSON}")
    exported = factors.without_start_tokens()
    export_hf(tuned, exported, folder / MODEL, "link", None, model_card(exported, config.model))
    lost = f", without the {factors.start_tokens} start tokens, which it can't express" if factors.start_tokens else ""
    print(f"saved: {folder / MODEL}, the export{lost}")
