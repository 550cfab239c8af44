"""Rescale factors as a Transformers config: the longrope schema, for Transformers 5 and 4 alike.

Transformers computes `inv_freq_i = 1 / (f_i theta^(2i/d))` from lists f, so `f_i = theta^(-2i/d) / final inv_freq_i`:
a base model that is already scaled (llama3, yarn, longrope) is folded into them.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from numpy.typing import NDArray
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from ..factors import RescaleFactors
from ..families import find_rope
from ..frequencies import RopeGeometry
from .static import final_inv_freq, has_su

Json = dict[str, Any]


def skeleton(folder: Path) -> nn.Module:
    """Build the model of a folder without its weights; only its buffers, the RoPE among them, are real."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with init_empty_weights(include_buffers=False):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def config_factors(inv_freq: NDArray[np.float32], theta: float) -> list[float]:
    """Return f, shape (P,), for which Transformers' float32 `1 / (f theta^(2i/d))` comes closest to `inv_freq`.

    Where a float32 f gives the very same number, it is taken; else the result is one unit in the last place away.
    """
    target, d = torch.from_numpy(inv_freq), 2 * len(inv_freq)
    powers = theta ** (torch.arange(0, d, 2, dtype=torch.int64).float() / d)
    guess = (1 / (target.double() * powers.double())).float()
    above, below = (torch.nextafter(guess, torch.full_like(guess, end)) for end in (math.inf, 0.0))
    candidates = torch.stack((guess, above, below))
    best = (1 / (candidates * powers) - target).abs().argmin(0)
    chosen = candidates.gather(0, best[None])[0]
    return [float(str(value)) for value in chosen.numpy()]  # the shortest decimal that is this float32


def longrope_parameters(
    long: RescaleFactors, long_list: list[float], short_list: list[float], partial: float | None
) -> Json:
    """Return `rope_parameters` of type longrope."""
    a, s = long.attention_factor, long.scale
    parameters: Json = {
        "rope_type": "longrope",
        "rope_theta": long.theta,
        "short_factor": short_list,
        "long_factor": long_list,
        "factor": s,
        "attention_factor": a,
        "original_max_position_embeddings": long.original_length,
    }
    if partial is not None:
        parameters["partial_rotary_factor"] = partial
    if not has_su(long):  # vLLM and SGLang ignore attention_factor and compute su, unless they find these
        parameters |= {"short_mscale": a, "long_mscale": a}
    return parameters


def longrope_config(folder: Path, long: RescaleFactors, short: RescaleFactors | None) -> Json:
    """Return the config.json of the model in `folder` with the factors in it, every other key as it was."""
    model = skeleton(folder)
    rope = find_rope(model)
    config: Any = model.config
    text = config.get_text_config()
    raw: Json = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    raw.pop("auto_map", None)  # code of the repository is not exported, and not what was verified
    section = raw
    if text is not config:  # a model with vision or audio keeps its language model's settings one level down
        section = raw.setdefault(next(name for name in config.sub_configs if getattr(config, name) is text), {})
    theta = rope.geometry.theta
    long_list = config_factors(final_inv_freq(rope.geometry, long), theta)
    short_list = config_factors(final_inv_freq(rope.geometry, short), theta) if short else long_list
    parameters = longrope_parameters(long, long_list, short_list, rope.parameters.get("partial_rotary_factor"))
    layered = rope.layer_type is not None
    section["rope_parameters"] = {**text.rope_parameters, rope.layer_type: parameters} if layered else parameters
    section["head_dim"] = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    section["max_position_embeddings"] = long.target_length
    _add_version_4_keys(section, text, parameters, dual=short is not None)
    return raw


def _add_version_4_keys(section: Json, text: Any, parameters: Json, dual: bool) -> None:
    """Add what Transformers 4 reads; it would silently use plain RoPE with theta 10000 without them."""
    own_field = hasattr(text, "original_max_position_embeddings")
    section["rope_theta"] = parameters["rope_theta"]
    section["rope_scaling"] = dict(parameters)  # with theta, as Transformers 5 prefers this dictionary to the other
    if "partial_rotary_factor" in parameters:
        section["partial_rotary_factor"] = parameters["partial_rotary_factor"]
    # Where it is no field, vLLM would take it for the length to serve, but Transformers 4 needs it to switch.
    if own_field or dual:
        section["original_max_position_embeddings"] = parameters["original_max_position_embeddings"]
    if text.model_type == "gpt_neox":
        section["rotary_emb_base"] = parameters["rope_theta"]
        section["rotary_pct"] = parameters["partial_rotary_factor"]
    if (local := text.rope_parameters.get("sliding_attention")) is not None:
        section["rope_local_base_freq"] = local["rope_theta"]
    if text.model_type == "phi3" and "long_mscale" not in parameters:
        # Version 4 of Phi-3 takes these three keys only, and computes su; another attention factor makes it refuse.
        section["rope_scaling"] = {
            "type": "longrope",
            "short_factor": parameters["short_factor"],
            "long_factor": parameters["long_factor"],
        }


def verify(folder: Path, geometry: RopeGeometry, long: RescaleFactors, short: RescaleFactors) -> None:
    """Reload an exported config and check that Transformers computes the factors' RoPE from it.

    Raises:
        RuntimeError: an inverse frequency or the attention factor differs beyond float32 rounding.
    """
    rope = find_rope(skeleton(folder))
    rotary: Any = rope.module
    prefix, extra = (f"{rope.layer_type}_", (rope.layer_type,)) if rope.layer_type else ("", ())
    for factors, length in ((short, long.original_length), (long, long.target_length)):
        rotary(torch.zeros(1), torch.tensor([[length - 1]]), *extra)
        found = getattr(rotary, f"{prefix}inv_freq").numpy()
        expected = final_inv_freq(geometry, factors)
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=3e-7, atol=0):
            raise RuntimeError(f"exported inverse frequencies must equal the factors' at length {length}, but differ")
        attention = getattr(rotary, f"{prefix}attention_scaling")
        if not math.isclose(attention, factors.attention_factor, rel_tol=1e-6):
            raise RuntimeError(f"exported attention factor must be {factors.attention_factor}, got {attention}")
