"""Where the files of a model are: a folder, a hub id, or one GGUF file; and what can't be loaded, with the reason."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig

from ...rope.export.folder import WEIGHTS
from ...rope.export.gguf import FREQS, LONG, SHORT
from ..data.hub import locate_model

GGUF = ".gguf"
OWN_DEQUANTISERS = ("fp8", "mxfp4")
"""Formats in which models are published, and which Transformers unpacks by itself where the device lacks them."""
NO_CODE = {"trust_remote_code": False}
"""No Python from a model's folder runs, and Transformers does not ask whether it may."""

SAFE_WEIGHTS = {"use_safetensors": True}
"""No weights are read in a format that can run code, neither from a folder nor from the hub."""


@dataclass(frozen=True)
class Checkpoint:
    """How `from_pretrained` of Transformers finds a model."""

    source: str
    """Its first argument: a folder or hub id."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of a config, tokenizer or model."""
    weight_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the model alone."""


def find_checkpoint(model: str) -> Checkpoint:
    """Return where a model is.

    Args:
        model: folder, GGUF file, or hub id.

    Raises:
        ValueError: there is no such folder or file, the hub does not give it (`locate_model`), the folder holds an
            adapter without its model, or the GGUF file can't be read, is a part of one, or has a scaled RoPE, which
            Transformers would silently drop.
    """
    path = Path(model).expanduser()
    if path.suffix == GGUF:
        return _gguf_checkpoint(path)
    source = locate_model(model)
    if path.is_dir():
        _refuse_adapter(path)
    return Checkpoint(source, NO_CODE, SAFE_WEIGHTS)


def refuse_quantised(model: str, config: PreTrainedConfig) -> None:
    """Raise if a model's weights are quantised in a way that stays in memory.

    Raises:
        ValueError: they are; the message names the method, the reason and the remedy.
    """
    settings: Any = getattr(config, "quantization_config", None)
    if settings is None:
        return
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    name = str(getattr(method, "value", method) or "an unnamed method")
    if name not in OWN_DEQUANTISERS:
        raise ValueError(
            f"model must have unquantised weights, got {model}, quantised by {name}: its kernels bring their own "
            "rounding and may lack gradients, so nothing here is tested with them; search and evaluate on the model it "
            "was made from, whose factors fit it too, or on a copy that Transformers unpacked "
            "(model.dequantize(), then save_pretrained)"
        )


def _refuse_adapter(folder: Path) -> None:
    adapter = folder / "adapter_config.json"
    if not adapter.is_file() or any(path for pattern in WEIGHTS for path in folder.glob(pattern)):
        return
    try:
        base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    raise ValueError(
        f"model must be a whole model, got {folder}, which holds an adapter of {base or 'another model'} without its "
        f"weights; merge it: PeftModel.from_pretrained(base, {str(folder)!r}).merge_and_unload().save_pretrained(...), "
        "with the tokenizer beside it"
    )


def _gguf_checkpoint(file: Path) -> Checkpoint:
    if not file.is_file():
        raise ValueError(f"model must be a GGUF file that exists, got {file}; no such file")
    state = file.stat()
    return _read_gguf(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1)
def _read_gguf(file: Path, size: int, modified: int) -> Checkpoint:
    """Read a file in a certain state once: its vocabulary alone takes seconds."""
    try:
        reader: Any = import_module("gguf").GGUFReader(file)
        _check_gguf(reader, file)
    except ImportError as error:
        raise ValueError(f"a GGUF model needs the package gguf, got {file} without it; pip install gguf") from error
    except _Refused:
        raise
    except Exception as error:  # what the reader raises depends on the byte that is wrong
        raise ValueError(f"model must be a readable GGUF file, got {file}: {error}; fetch it again") from error
    unpack = getattr(transformers, "GgufConfig", None)  # without it all versions unpack
    weight_options = {} if unpack is None else {"quantization_config": unpack(dequantize=True)}
    return Checkpoint(str(file.parent), {**NO_CODE, "gguf_file": file.name}, weight_options)


class _Refused(ValueError):
    """A GGUF file that can be read and is not taken."""


def _check_gguf(reader: Any, file: Path) -> None:
    if (parts := _value(reader, "split.count", 1)) > 1:
        raise _Refused(
            f"model must be one GGUF file, got {file}, one of {parts} parts; merge them with llama-gguf-split --merge"
        )
    architecture = _value(reader, "general.architecture")
    scaling = _value(reader, f"{architecture}.rope.scaling.type", "none")
    found = [tensor.name for tensor in reader.tensors if tensor.name in (FREQS, LONG, SHORT)]
    if scaling != "none" or found:
        raise _Refused(
            f"a GGUF model must have an unscaled RoPE, as Transformers drops the scaling of a GGUF, got {file} with "
            f"{found[0] if found else f'scaling {scaling}'}; use the model it was converted from"
        )


def _value(reader: Any, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()
