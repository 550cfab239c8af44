"""Load a causal language model and its tokenizer: device, dtype and attention kernel in one place."""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging
from transformers.utils.import_utils import is_flash_attn_2_available

from .checkpoint import find_checkpoint, refuse_quantised

logging.disable_progress_bar()  # of loading weights: it would tear our own bars
EAGER_ONLY = {"gemma2"}  # Transformers 5.23 refuses sdpa for it
DRIVER = ("/proc/driver/nvidia", "/dev/nvidia0")
"""What is there where a driver for an NVIDIA card is loaded."""


def load_model(
    model: str, dtype: str = "auto", device: str = "auto", attn_implementation: str = "auto"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in evaluation mode, and its tokenizer.

    The dtype is given to `from_pretrained` and never changed afterwards: `model.to(dtype)` would round the inverse
    frequencies, which damages long positions.

    Args:
        model: local folder, GGUF file (its weights are unpacked to the dtype), or hub id.
        dtype: `auto` (bfloat16 on CUDA, float32 on CPU, else the checkpoint's) or a torch dtype's name.
        device: `auto` (the best there is), a torch device, or `auto-shard` to spread the layers over all devices.
        attn_implementation: `auto` (flash_attention_2 if it can run here, else sdpa) or a name Transformers knows.

    Raises:
        ValueError: the model can't be found or read, or the dtype is unknown.
    """
    checkpoint = find_checkpoint(model)
    placed = pick_device(device)
    chosen = pick_dtype(dtype, placed)
    config = read_config(model)
    refuse_quantised(model, config)
    tokenizer = read_tokenizer(model)
    with _in_one_sentence(model):
        loaded = AutoModelForCausalLM.from_pretrained(
            checkpoint.source,
            dtype=chosen,
            attn_implementation=pick_attention(attn_implementation, config.model_type, dtype, placed),
            device_map="auto" if device == "auto-shard" else None,
            **checkpoint.options,
            **checkpoint.weight_options,
        )
    if device != "auto-shard":
        loaded.to(placed)  # type: ignore[arg-type]
    return loaded.eval(), tokenizer


def read_config(model: str) -> PreTrainedConfig:
    """Read the config of a local folder, GGUF file or hub id.

    Raises:
        ValueError: there is none.
    """
    checkpoint = find_checkpoint(model)
    with _in_one_sentence(model):
        return AutoConfig.from_pretrained(checkpoint.source, **checkpoint.options)


def read_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a local folder, GGUF file or hub id.

    Raises:
        ValueError: there is none.
    """
    checkpoint = find_checkpoint(model)
    with _in_one_sentence(model):
        return AutoTokenizer.from_pretrained(checkpoint.source, **checkpoint.options)


@contextmanager
def _in_one_sentence(model: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        if "trust_remote_code" in reason:
            raise ValueError(
                f"model must be of an architecture that Transformers knows, got {model}, whose config asks to run code "
                "of its own (auto_map), which longrope never does; use a version of the model without, or convert it"
            ) from error
        if isinstance(error, OSError) and "model.safetensors" in reason:
            convert = f"from transformers import AutoModelForCausalLM as M; M.from_pretrained({model!r})"
            raise ValueError(
                f"model must have its weights as safetensors, got {model} without; pickled ones (pytorch_model.bin) "
                "can run code when they are read. If you trust where they come from, convert them: "
                f"python -c \"{convert}.save_pretrained('FOLDER')\", and copy the tokenizer's files beside them"
            ) from error
        raise ValueError(f"model must be a readable folder or hub id, got {model}: {reason}") from error


def pick_device(device: str) -> str:
    """Return the device that `auto` and `auto-shard` stand for here: cuda, mps or cpu.

    Warns if that is the CPU although an NVIDIA card is there.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device must be one that is here, got {device!r} without a CUDA device; use auto or cpu")
    if not device.startswith("auto"):
        return device
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    if unused := _unused_card():
        warnings.warn(unused, stacklevel=2)
    return "cpu"


def _unused_card() -> str | None:
    """Return why torch can't use the NVIDIA card that is there, with the remedy; None if none is, or it is hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    if shutil.which("nvidia-smi") is None and not any(Path(path).exists() for path in DRIVER):
        return None
    if torch.version.cuda is None:
        why, remedy = "is built for the CPU only", "install a CUDA build of torch (https://pytorch.org/get-started)"
    else:
        why = f"is built for CUDA {torch.version.cuda}, which the driver does not run"
        remedy = "update the driver, or install a torch for its CUDA version, which nvidia-smi shows"
    return (
        f"an NVIDIA card is here, but torch {torch.__version__} {why}, so everything runs on the CPU in float32, many "
        f"times slower: {remedy}; --device cpu says that the CPU is meant"
    )


def pick_dtype(dtype: str, device: str) -> torch.dtype | Literal["auto"]:
    """Return the dtype that `auto` stands for on a device; the string `auto` is the checkpoint's own."""
    if dtype == "auto":
        if device.startswith("cuda"):
            return torch.bfloat16
        return torch.float32 if device == "cpu" else "auto"
    value = getattr(torch, dtype, None)
    if not isinstance(value, torch.dtype):
        raise ValueError(f"dtype must be auto or a torch dtype such as bfloat16 or float32, got {dtype!r}")
    return value


def input_device(model: PreTrainedModel) -> torch.device:
    """Return the device that token ids go to.

    That of the input embeddings; the CPU where they rest in main memory or on the disk, from where accelerate moves
    inputs and weights together.
    """
    embeddings = model.get_input_embeddings()
    place = next(embeddings.parameters()).device
    return torch.device("cpu") if place.type == "meta" else place


def pick_attention(attn_implementation: str, model_type: str, dtype: str, device: str) -> str:
    """Return the attention kernel that `auto` stands for, given the model's type, dtype and device."""
    if attn_implementation != "auto":
        return attn_implementation
    if model_type in EAGER_ONLY:
        return "eager"
    half = pick_dtype(dtype, device) in (torch.bfloat16, torch.float16)
    return "flash_attention_2" if device.startswith("cuda") and half and is_flash_attn_2_available() else "sdpa"
