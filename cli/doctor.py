"""`longrope doctor`: what will be used here, what RoPE a model has, and whether factors act on it."""

import platform

import torch

from ..evaluation.model import load_model, pick_attention, pick_device, pick_dtype
from ..evaluation.results import versions
from ..rope import install
from .configs import DoctorConfig


def run(config: DoctorConfig) -> None:
    """Print the choices and, with a model, its RoPE and the canary."""
    device = pick_device(config.device)
    facts: dict[str, object] = {
        **versions(),
        "device": f"{device} ({torch.cuda.get_device_name() if device.startswith('cuda') else platform.machine()})",
    }
    if config.model is None:
        facts["dtype"] = pick_dtype(config.dtype, device)
        facts["attention"] = pick_attention(config.attn_implementation, "", config.dtype, device)
        _print(facts)
        return
    model, tokenizer = load_model(config.model, config.dtype, config.device, config.attn_implementation)
    with install(model, config.original_length, canary=False) as installation:
        geometry = installation.geometry
        never = geometry.pairs - geometry.critical_dimension
        facts |= {
            "model": f"{config.model} ({type(model).__name__}, {model.num_parameters() / 1e6:.1f} M parameters)",
            "dtype": model.dtype,
            "attention": model.config._attn_implementation,
            "vocabulary": len(tokenizer),
            "rope theta": geometry.theta,
            "rotary dimension": f"{geometry.rotary_dim} ({geometry.pairs} pairs)",
            "original length": f"{geometry.original_length} tokens",
            "attention factor": geometry.attention_factor,
            "critical dimension": f"pair {geometry.critical_dimension}, {never} pairs never complete a period",
        }
        _print(facts)
        moved = installation.check_canary()
    print(f"{'canary:':<20} passed, scaled factors move the logits by up to {moved:.3g}")


def _print(facts: dict[str, object]) -> None:
    for name, value in facts.items():
        print(f"{name + ':':<20} {value}")
