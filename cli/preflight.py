"""Checks before any long work: what would fail after hours is refused at once, in a sentence with its remedy."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache
from transformers import PreTrainedConfig

from ..evaluation.data.tokenized import count_documents
from ..evaluation.scoring.cost import (
    MEMORY_TOLERANCE,
    ModelSize,
    cache_bytes,
    forward_bytes,
    generation_bytes,
    gradient_bytes,
    input_bytes,
    model_size,
    weight_bytes,
)
from ..evaluation.scoring.model import pick_attention, pick_device, pick_dtype, read_config
from ..evaluation.scoring.resources import available_memory
from ..evolution import HybridSettings, Settings
from ..rope.describe import RopeDescription, describe_rope, skeleton
from .comparison_configs import EvaluateConfig, SweepConfig
from .configs import DoctorConfig, SearchConfig
from .documents import EVALUATION_DOCUMENTS, LEAST_DOCUMENTS
from .executors import executor_kind
from .task_options import TaskOptions
from .tasks import READ_DOCUMENTS, task_names

GIB = 2**30
RUN_BYTES = 2**27
"""Disk that a run folder may need: 128 MiB of journal, results and figures."""
CORPUS = "longrope tokenize --model M --dataset pg19 --split train --save-tokenized DATA --min-tokens"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Subject:
    """A model as its config tells it, and how it would run."""

    config: PreTrainedConfig
    rope: RopeDescription
    size: ModelSize
    device: str
    dtype: str
    width: int
    """Bytes per number."""
    eager: bool
    """Whether attention keeps its scores."""
    memory: int | None
    """Bytes that the device has for it; None if unknown, or if quantised weights make the need unknown."""
    main_memory: int | None = None
    """Bytes of the machine that the device is in; None if unknown."""


def preflight(
    config: SearchConfig | EvaluateConfig | SweepConfig, length: int, settings: Settings | None = None
) -> None:
    """Make sure that a command can do its work at its longest length, from the model's config alone.

    Args:
        config: of the command.
        length: tokens of the longest window.
        settings: of a search. Where its gradients do not fit, that is noted, or refused if it can't do without.

    Raises:
        ValueError: the model can't be had, its window hides the extension, or memory or disk do not suffice.
    """
    subject = read_subject(config, pick_device(config.device))
    subject = replace(subject, memory=memory_per_worker(config, subject))
    if isinstance(config, EvaluateConfig):
        if (reason := hidden_by_window(subject.rope, length)) is not None:
            print(f"note: {reason}")
    else:
        check_window(subject.rope, length)
    if isinstance(config, SearchConfig) and settings is not None:
        for name, value in document_facts(config, settings, max(length, config.dataset_min_tokens or 0)):
            print(f"{name}: {value}")
    elif config.tokenized is not None:
        require_documents(
            config.tokenized, max(length, config.dataset_min_tokens or 0), config.samples or LEAST_DOCUMENTS
        )
    check_disk(config.model, subject, config.output_dir)
    check_memory("a forward", forward_need(subject, length), subject.memory, length)
    if isinstance(config, TaskOptions) and set(task_names(config)) - set(READ_DOCUMENTS):
        check_memory("a prompt and its cache", prompt_need(subject, length), subject.memory, length)
        check_main_memory(prompt_on_cpu(subject, length), subject.main_memory, length)
    if wants_gradients(settings) and (verdict := gradient_verdict(subject, length)) is not None:
        print(f"note: {verdict}")


def memory_per_worker(config: SearchConfig | EvaluateConfig | SweepConfig, subject: Subject) -> int | None:
    """Return the memory that one of the workers has, in bytes; None if unknown, as on the machines of a Ray cluster."""
    kind, workers = executor_kind(config), config.workers or 1
    if subject.memory is None or kind == "inline":
        return subject.memory
    if kind == "ray" and config.ray_address is not None:
        return None
    if subject.device == "cpu":
        return subject.memory // workers
    return subject.memory * config.devices_per_worker  # of alike devices


def wants_gradients(settings: Settings | None) -> bool:
    """Tell whether a search asks for derivatives."""
    return isinstance(settings, HybridSettings) and settings.use_gradients


def document_facts(config: SearchConfig | DoctorConfig, settings: Settings, length: int) -> Iterator[tuple[str, str]]:
    """Yield what documents a search and its evaluation need or have, by what they are called.

    Raises:
        ValueError: too few are long enough; of the evaluation's only if a folder is named for them, or in a plan.
    """
    wanted = config.samples or settings.num_documents
    least = config.samples or min(LEAST_DOCUMENTS, wanted)
    long = f"of {length} or more tokens"
    if config.tokenized is None:
        yield "search documents", f"{wanted} {long}, at least {least}: {CORPUS} {length} --num-documents {wanted}"
        others = f"{EVALUATION_DOCUMENTS} others {long}, e.g. of PG19's test split and Proof-pile"
        if (other := config.evaluation_tokenized) is not None:
            others = f"{count_documents(other, length)} {long} in {other}"
        yield "evaluation documents", others
        return
    there = require_documents(config.tokenized, length, least)
    taken = min(there, wanted)
    yield "search documents", f"{taken} of the {there} {long} in {config.tokenized}"
    other = config.evaluation_tokenized
    if other is None and isinstance(config, SearchConfig):
        return
    same = other is None or Path(other).resolve() == Path(config.tokenized).resolve()
    left = there - taken if same else count_documents(str(other), length)
    if left < LEAST_DOCUMENTS:
        raise ValueError(
            f"evaluation documents must be at least {LEAST_DOCUMENTS} {long} that the search does not see, got {left} "
            f"in {other or config.tokenized}; give others (--evaluation-tokenized, EVAL_DATA= of the examples' "
            "scripts), or search on fewer (--samples)"
        )
    yield "evaluation documents", f"{left} {long} in {other or config.tokenized}"


def require_documents(path: str, length: int, least: int) -> int:
    """Return how many documents of a folder are long enough.

    Raises:
        ValueError: they are fewer than `least`.
    """
    if (there := count_documents(path, length)) < least:
        raise ValueError(
            f"samples must be at most the {there} documents of {length} or more tokens in {path}, got {least}; "
            f"get more with {CORPUS} {length}, or take fewer samples or shorter lengths"
        )
    return there


def read_subject(
    config: SearchConfig | EvaluateConfig | SweepConfig | DoctorConfig, device: str, memory: int | None = None
) -> Subject:
    """Return what is known of a model without its weights.

    Args:
        config: names the model, its original length, dtype and attention kernel.
        device: where it would run.
        memory: bytes of a device that is not here; None: what `device` has.
    """
    assert config.model is not None
    settings = read_config(config.model)
    dtype = pick_dtype(config.dtype, device)
    dtype = (getattr(settings, "dtype", None) or torch.bfloat16) if dtype == "auto" else dtype
    kernel = pick_attention(config.attn_implementation, settings.model_type, config.dtype, device)
    shared, quantised = "auto-shard", getattr(settings, "quantization_config", None) is not None
    return Subject(
        config=settings,
        rope=describe_rope(settings, config.original_length),
        size=model_size(skeleton(settings)),
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        width=dtype.itemsize,
        eager=kernel == "eager",
        memory=None if quantised else memory or available_memory(shared if config.device == shared else device),
        main_memory=available_memory("cpu") if memory is None else None,
    )


def hidden_by_window(rope: RopeDescription, length: int) -> str | None:
    """Return why an extension can't show at this length; None where it can.

    Where every layer that is rescaled attends to a sliding window (Mistral 0.1, Phi-3-mini-4k) or a chunk, no two
    tokens further apart than that ever meet. One such layer without a window (Gemma, Qwen) is enough to be extended.
    """
    if rope.reach is None or rope.reach >= length:
        return None
    return (
        f"the {rope.model_type} model attends to {rope.reach} tokens at most in every layer that factors rescale "
        f"(sliding_window or attention_chunk_size of its config), which hides an extension to {length}: take a model "
        "without, such as Mistral-7B-v0.3 for v0.1, or a local copy whose config.json has it null"
    )


def check_window(rope: RopeDescription, length: int) -> None:
    """Raise ValueError if the model's attention window hides an extension to this length."""
    if (reason := hidden_by_window(rope, length)) is not None:
        raise ValueError(f"target_length must be within the attention window of the model, got {length}: {reason}")


def forward_need(subject: Subject, length: int) -> int:
    """Return the memory of one forward of one window, in bytes."""
    return forward_bytes(subject.size, length, subject.width, eager=subject.eager)


def gradient_need(subject: Subject, length: int) -> int:
    """Return the memory of the loss of one window and its derivatives on the device, in bytes."""
    offload = gradient_on_cpu(subject, length) > 0
    return gradient_bytes(subject.size, length, subject.width, subject.eager, offload)


def gradient_on_cpu(subject: Subject, length: int) -> int:
    """Return the memory of the layers' inputs that rest on the CPU, in bytes; 0 where they are on the device."""
    inputs = input_bytes(subject.size, length, subject.width)
    whole = gradient_bytes(subject.size, length, subject.width, subject.eager)
    has_room = subject.main_memory is None or inputs <= subject.main_memory
    return inputs if has_room and offloads(subject, whole) else 0


def prompt_need(subject: Subject, length: int) -> int:
    """Return the memory of reading a prompt into a cache and answering it on the device, in bytes."""
    offload = prompt_on_cpu(subject, length) > 0
    return generation_bytes(subject.size, length, subject.width, offload=offload)


def prompt_on_cpu(subject: Subject, length: int) -> int:
    """Return the memory of a prompt's keys and values that rest on the CPU, in bytes; 0 where on the device."""
    whole = generation_bytes(subject.size, length, subject.width)
    return cache_bytes(subject.size, length, subject.width) if offloads(subject, whole) else 0


def offloads(subject: Subject, need: int) -> bool:
    """Tell whether what can rest on the CPU will: on a CUDA device whose memory may not hold it."""
    if subject.memory is None or not subject.device.startswith("cuda"):
        return False
    return fits(need, subject.memory) is not True


def check_memory(what: str, need: int, memory: int | None, length: int) -> None:
    """Raise ValueError if memory does not suffice by more than the error of the formulas."""
    if memory is not None and fits(need, memory) is False:
        raise ValueError(
            f"the memory of the device must hold {what} of {length} tokens, about {need / GIB:.1f} GiB, got "
            f"{memory / GIB:.1f} GiB free; use a shorter length, --dtype bfloat16, --device auto-shard over several "
            "devices, or a smaller model"
        )


def check_main_memory(need: int, memory: int | None, length: int) -> None:
    """Raise ValueError if the main memory does not suffice for a cache that rests there."""
    if memory is not None and need > memory:
        raise ValueError(
            f"the main memory must hold the keys and values of a prompt of {length} tokens, {need / GIB:.1f} GiB, for "
            f"which the device has no room, got {memory / GIB:.1f} GiB; use a shorter length, --dtype bfloat16, or a "
            "machine with more memory"
        )


def fits(need: int, memory: int) -> bool | None:
    """Tell whether memory suffices; None where that is within the error of the formulas."""
    if need * (1 + MEMORY_TOLERANCE) <= memory:
        return True
    return False if need * (1 - MEMORY_TOLERANCE) > memory else None


def gradient_verdict(subject: Subject, length: int) -> str | None:
    """Return what to know if derivatives may not fit on the device; None if they fit, or its memory is unknown."""
    need = gradient_need(subject, length)
    if subject.memory is None or (answer := fits(need, subject.memory)) is True:
        return None
    return (
        f"a gradient at {length} tokens needs about {need / GIB:.1f} GiB, which "
        f"{'does not' if answer is False else 'may not'} fit in {subject.memory / GIB:.1f} GiB: where it fails, "
        "the default search goes on without gradients"
    )


def check_disk(model: str, subject: Subject, output_dir: str) -> None:
    """Raise ValueError if the disk has no place for the weights that have to be downloaded, or for the run folder."""
    _check_free(Path(output_dir), RUN_BYTES, "output_dir", "the results of a run; free some or choose another folder")
    if (download := download_bytes(model, subject)) > 0:
        advice = f"the weights of {model}; free some or set HF_HOME to a folder on a larger disk"
        _check_free(Path(constants.HF_HUB_CACHE), download, "the hub's cache", advice)


def download_bytes(model: str, subject: Subject) -> int:
    """Return how much of a model is still to be downloaded, in bytes: nothing, or all its weights."""
    if getattr(subject.config, "quantization_config", None) is not None:  # smaller than the formula knows
        return 0
    if Path(model).expanduser().exists() or any(isinstance(try_to_load_from_cache(model, w), str) for w in WEIGHTS):
        return 0
    stored = getattr(subject.config, "dtype", None) or torch.float32
    return weight_bytes(subject.size, stored.itemsize)


def _check_free(folder: Path, need: int, name: str, advice: str) -> None:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if (free := shutil.disk_usage(there).free) < need:
        raise ValueError(
            f"{name} must be on a disk with {need / GIB:.1f} GiB free, got {free / GIB:.1f} GiB at {there}, too little "
            f"for {advice}"
        )
