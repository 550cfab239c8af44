"""`longrope doctor`: what will be used here, what RoPE a model has, and whether factors act on it."""

import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from ..evaluation.comparison.results import versions
from ..evaluation.scoring.model import load_model, pick_attention, pick_device, pick_dtype, read_config
from ..rope import install
from ..rope.describe import RopeDescription, describe_rope, probe_model
from .configs import DoctorConfig
from .measure import measure
from .plan import print_plan

WEIGHTS = ("*.safetensors", "*.bin")


def run(config: DoctorConfig) -> None:
    """Print the choices and, with a model, its RoPE and the canary; or the plan of an extension, or what is fastest."""
    if config.plan:
        print_plan(config)
        return
    if config.measure:
        _print(measure(config))
        return
    device = pick_device(config.device)
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    _print({**versions(), "device": f"{device} ({name})", "dtype": _dtype(config, device)})
    if config.model is None:
        _print({"attention": pick_attention(config.attn_implementation, "", config.dtype, device)})
        return
    if _has_weights(config.model):
        model, _ = load_model(config.model, config.dtype, config.device, config.attn_implementation)
        facts = {"model": f"{config.model}, {model.num_parameters() / 1e6:.1f} M parameters"}
        description, probed = describe_rope(model, config.original_length), "the model"
    else:
        settings = read_config(config.model)
        model, facts = probe_model(settings), {"model": f"{config.model}, config only"}
        description, probed = describe_rope(settings, config.original_length), "a small random model of this config"
    kernel = pick_attention(config.attn_implementation, description.model_type, config.dtype, device)
    _print(facts | {"attention": kernel} | describe(description))
    with install(model, config.original_length, canary=False) as installation:
        moved = installation.check_canary()
    _print({"canary": f"passed on {probed}: scaled factors move the logits by up to {moved:.3g}"})


def describe(rope: RopeDescription) -> dict[str, str]:
    """Return the facts of a model's RoPE by what they are called."""
    geometry, incomplete = rope.geometry, rope.incomplete_pairs
    facts = {
        "model type": rope.model_type,
        "rope type": rope.rope_type,
        "rope theta": f"{geometry.theta:g}",
        "rotary dimension": f"{geometry.rotary_dim} ({geometry.pairs} pairs, {rope.layout})",
        "original length": _original_length(rope),
        "attention factor": f"{geometry.attention_factor:.6g}",
        "critical dimension": f"pair {geometry.critical_dimension}",
        "incomplete pairs": f"{_ranges(incomplete)}: they never complete a period in training",
        "rescaled layers": _ranges(rope.layers),
    }
    if rope.local is not None:
        facts["local layers"] = f"{_ranges(rope.local.layers)}, theta {rope.local.theta:g}, not rescaled"
    if rope.layers_without_rope:
        facts["no RoPE in layers"] = _ranges(rope.layers_without_rope)
    if rope.sliding_window is not None:
        facts["sliding window"] = f"{rope.sliding_window} tokens"
    return facts


def _original_length(rope: RopeDescription) -> str:
    trained = f"{rope.geometry.original_length} tokens"
    return trained if rope.unscaled_length is None else f"{trained} (extended from {rope.unscaled_length})"


def _ranges(numbers: Sequence[int]) -> str:
    """Write whole numbers as ranges: 0, 1, 2, 5 as `0-2, 5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) or "none"


def _dtype(config: DoctorConfig, device: str) -> str:
    return str(pick_dtype(config.dtype, device)).removeprefix("torch.")


def _has_weights(model: str) -> bool:
    """Whether there are weights to load; a hub id is taken to have them, and a GGUF file has them."""
    folder = Path(model).expanduser()
    return not folder.is_dir() or any(path for pattern in WEIGHTS for path in folder.glob(pattern))


def _print(facts: dict[str, str]) -> None:
    for name, value in facts.items():
        print(f"{name + ':':<20} {value}")
