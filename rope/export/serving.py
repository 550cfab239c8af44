"""Command lines that serve an exported folder, and what each engine makes of the factors.

Both engines read the config's `rope_parameters`, ignore `attention_factor`, and compute LongRoPE's `su` value from
the two lengths unless `short_mscale` and `long_mscale` are given.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..factors import RescaleFactors
from .static import has_su, su_attention_factor


@dataclass(frozen=True)
class ServingCommand:
    """A command line, and what to know before it is run."""

    command: str
    """One line for a POSIX shell."""
    warning: str | None
    """Where the engine would depart from the factors, or None."""


def vllm_command(folder: Path | str, factors: RescaleFactors, base_model: str | None = None) -> ServingCommand:
    """Return the command that serves an export with vLLM.

    Args:
        folder: folder written by `export_hf`.
        factors: the factors in it.
        base_model: serve this model instead, with the folder's RoPE given on the command line.

    Raises:
        ValueError: the folder is no export, or its RoPE can't be given on a command line.
    """
    words = ["vllm", "serve", base_model or str(folder), "--max-model-len", str(factors.target_length)]
    if base_model is not None:
        words += ["--hf-overrides", _overrides(folder)]
    return ServingCommand(shlex.join(words), _warning("vLLM", factors))


def sglang_command(folder: Path | str, factors: RescaleFactors, base_model: str | None = None) -> ServingCommand:
    """Return the command that serves an export with SGLang; arguments as for `vllm_command`."""
    words = ["python", "-m", "sglang.launch_server", "--model-path", base_model or str(folder)]
    words += ["--context-length", str(factors.target_length)]
    if base_model is not None:
        words += ["--json-model-override-args", _overrides(folder)]
    return ServingCommand(shlex.join(words), _warning("SGLang", factors))


def _overrides(folder: Path | str) -> str:
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"folder must be one that export_hf wrote, got {folder} without config.json")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "rope_parameters" not in config:
        raise ValueError(
            f"base_model must be None where {path} has no rope_parameters at the top, as the model has several parts; "
            "serve the exported folder itself"
        )
    return json.dumps({key: config[key] for key in ("rope_parameters", "max_position_embeddings")})


def _warning(engine: str, factors: RescaleFactors) -> str | None:
    if has_su(factors):
        return None
    su, ours = su_attention_factor(factors), factors.attention_factor
    return (
        f"{engine} ignores attention_factor {ours:.6g} and would use {su:.6g} = sqrt(1 + ln({factors.target_length} / "
        f"{factors.original_length}) / ln {factors.original_length}), which multiplies attention logits by "
        f"{(su / ours) ** 2:.4g}; short_mscale and long_mscale in the config carry {ours:.6g}, so use a version of "
        f"{engine} that reads them (vLLM 0.32 does)"
    )


def describe_switch(factors: RescaleFactors) -> str:
    """Say how each engine chooses between a short and a long set of factors."""
    original, target = factors.original_length, factors.target_length
    return f"""Short and long factors differ, and engines switch between them at {original} tokens, each in its way:
- Transformers switches in each forward. Phi-3, PhiMoE and Phi-4-multimodal then drop the cache and compute it again;
  all other classes keep cached keys of the short factors beside new ones of the long: generate across {original}
  tokens with use_cache=False only, and don't prefill in chunks.
- vLLM uses the long factors for everything if --max-model-len is above {original} (pass {target}), else the short.
- SGLang uses the long factors for a whole batch once any of its positions is above {original}, so sequences that cross
  it mix both, and what a request gets depends on its neighbours.
- llama.cpp uses the long factors for everything if the allocated context is above {original}, else the short.
The static export (no short factors) is the same everywhere."""
