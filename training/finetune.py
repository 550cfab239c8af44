"""Continued pre-training with rescale factors applied, stage by stage (LongRoPE, arXiv 2402.13753, section 3.3).

folder/1-131072/   checkpoints while it runs; then tuned/ and factors.json
folder/2-262144/   the same, from the weights of the first
"""

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation.data.tokenized import leading_special_tokens
from ..rope import RescaleFactors, install, staging_folder
from ..rope.files import cannot_save
from .batches import MicroBatches, TrainingText
from .checkpoints import remove_checkpoints
from .documents import Documents
from .lora import LoRA, add_adapters, merge_adapters
from .recipe import Recipe, Stage
from .trainer import Options, train_stage

TUNED = "tuned"
"""Weights of a stage that has ended, with the configuration of the model it began with: its RoPE is not rescaled."""

LoadModel = Callable[[str], PreTrainedModel]
"""Loads a folder or hub id in the dtype that is trained."""


@dataclass(frozen=True)
class Job:
    """What is fine-tuned on what."""

    model: str
    """Local folder or hub id."""
    load: LoadModel
    tokenizer: PreTrainedTokenizerBase
    text: TrainingText
    original_length: int | None = None
    lora: LoRA | None = None


def finetune(job: Job, recipe: Recipe, factors: Sequence[RescaleFactors], folder: Path, options: Options) -> Path:
    """Run all stages, or what a killed run left of them, and return the folder of the tuned weights.

    Args:
        job: model and text.
        recipe: the stages.
        factors: one set per stage, or one for all.
        folder: where each stage gets its folder.
        options: speed and memory.

    Raises:
        ValueError: there are as many sets of factors as neither 1 nor the stages, or something doesn't fit the model.
    """
    if len(factors) not in (1, len(recipe.stages)):
        raise ValueError(
            f"factors must be one set, or one for each of the {len(recipe.stages)} stages, got {len(factors)}"
        )
    source = job.model
    for index, stage in enumerate(recipe.stages):
        chosen = factors[index] if len(factors) > 1 else factors[0]
        place = folder / f"{index + 1}-{stage.length}"
        if not (place / TUNED).is_dir():
            _run(job, source, stage, chosen, place, options)
        remove_checkpoints(place)
        source = str(place / TUNED)
    return Path(source)


def training_text(tokenizer: PreTrainedTokenizerBase, sources: dict[str, Documents]) -> TrainingText:
    """Return documents with the special tokens of a tokenizer: its own in front, EOS behind if it has one."""
    eos = tokenizer.eos_token_id
    added = tokenizer.encode("a")[-1] == eos
    closing = [] if eos is None or added else [int(eos)]  # type: ignore[arg-type]
    return TrainingText(sources, leading_special_tokens(tokenizer), closing)


def as_stored(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return weights in another dtype; those that are one tensor under two names stay one."""
    converted: dict[tuple[int, torch.Size], Tensor] = {}
    for value in state.values():
        place = value.data_ptr(), value.shape
        if place not in converted:
            converted[place] = value.to(dtype) if value.is_floating_point() else value
    return {name: converted[value.data_ptr(), value.shape] for name, value in state.items()}


def _run(job: Job, source: str, stage: Stage, factors: RescaleFactors, place: Path, options: Options) -> None:
    place.mkdir(parents=True, exist_ok=True)
    batches = MicroBatches(stage, job.text, options.micro_batch_size, options.seed)
    model = job.load(source)
    stored: Any = model.config.dtype
    with install(model, job.original_length) as installation:
        trained = model if job.lora is None else add_adapters(model, job.lora)
        with _saving(place):
            trainer = train_stage(trained, installation, factors, stage, batches, place, options)
        state: Any = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if job.lora is not None:
            model = merge_adapters(trained)
            state = model.state_dict()
    if trainer.is_world_process_zero():
        factors.save(place / "factors.json")
        with _saving(place), staging_folder(place / TUNED) as new:
            model.config.dtype = stored
            model.save_pretrained(new, state_dict=as_stored(state, stored))
            job.tokenizer.save_pretrained(new)
            new.rename(place / TUNED)
    trainer.accelerator.wait_for_everyone()


@contextmanager
def _saving(folder: Path) -> Iterator[None]:
    """Let a disk that is full be one kind of error, where each library of weights has its own.

    Raises:
        OSError: a file in the folder can't be written; complete checkpoints are as they were.
    """
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None and "PytorchStreamWriter" not in str(error):
            raise
        code = int(number[1]) if number else errno.ENOSPC
        raise cannot_save(folder, OSError(code, os.strerror(code))) from error
