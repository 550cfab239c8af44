"""What RoPE a model has, for reading: from a model, or from a config alone."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModel, AutoModelForCausalLM, PreTrainedConfig

from .embedding import Layout
from .families import PretrainedRope, find_rope, refuse
from .frequencies import RopeGeometry

_ROPE_ON_SLIDING_LAYERS_ONLY = ("cohere2", "exaone4", "exaone_moe")
"""Model types whose global layers have no RoPE when there are sliding-window layers."""


@dataclass(frozen=True)
class LocalRope:
    """The second RoPE of a model, on its sliding-window layers; rescale factors do not touch it."""

    theta: float
    layers: tuple[int, ...]


@dataclass(frozen=True)
class RopeDescription:
    """The pre-trained RoPE of a model, as `longrope doctor` prints it."""

    model_type: str
    rope_type: str
    """`default`, or the scaling that the checkpoint already has; factors are relative to it."""
    geometry: RopeGeometry
    """Theta, rotary dimensions, original length, inverse frequencies and attention factor."""
    unscaled_length: int | None
    """`original_max_position_embeddings` of a checkpoint that is already scaled, in tokens."""
    layout: Layout
    layers: tuple[int, ...]
    """Layers whose RoPE the factors rescale."""
    layers_without_rope: tuple[int, ...]
    sliding_window: int | None
    """Tokens that sliding-window layers attend to, where the model has such layers."""
    reach: int | None
    """Most tokens that a rescaled layer attends to, where each of them has a sliding window or chunks; else None."""
    local: LocalRope | None

    @property
    def incomplete_pairs(self) -> tuple[int, ...]:
        """Pairs that never complete a period within the original length."""
        return tuple(int(i) for i in np.flatnonzero(self.geometry.rotations < 1))


def describe_rope(model: nn.Module | PreTrainedConfig, original_length: int | None = None) -> RopeDescription:
    """Return what RoPE a model has; of a config, without building any weights.

    Args:
        model: a Transformers model, or its config (of a vision-language model, the text part is described).
        original_length: context length of the pre-training, in tokens; default `max_position_embeddings`.

    Raises:
        ValueError: the model has no RoPE, or one that can't be rescaled.
    """
    rope = find_rope(skeleton(model) if isinstance(model, PreTrainedConfig) else model, original_length)
    config: Any = rope.module.config
    kinds = _layer_kinds(config)
    without = tuple(i for i in range(config.num_hidden_layers) if not _has_rope(config, kinds, i))
    local = _local_rope(rope, config, kinds)
    apart = (*without, *(local.layers if local else ()))
    layers = tuple(i for i in range(config.num_hidden_layers) if i not in apart)
    return RopeDescription(
        model_type=config.model_type,
        rope_type=rope.parameters["rope_type"],
        geometry=rope.geometry,
        unscaled_length=rope.parameters.get("original_max_position_embeddings"),
        layout=rope.layout,
        layers=layers,
        layers_without_rope=without,
        sliding_window=_sliding_window(config, kinds),
        reach=_reach(config, {kinds[i] for i in layers}),
        local=local,
    )


def skeleton(config: PreTrainedConfig) -> nn.Module:
    """Build the text model of a config on the meta device: modules without weights.

    Raises:
        ValueError: models of this type can't be rescaled.
    """
    refuse(config)
    text = config.get_text_config()
    factory = AutoModelForCausalLM if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel
    with torch.device("meta"):
        return factory.from_config(text)


def probe_model(config: PreTrainedConfig) -> nn.Module:
    """Build a small random model of a config's kind, one layer of each kind: what the canary needs without weights."""
    refuse(config)
    text: Any = copy.deepcopy(config.get_text_config())
    kinds = list(dict.fromkeys(_layer_kinds(text)))
    if getattr(text, "layer_types", None):
        text.layer_types = kinds
    if getattr(text, "no_rope_layers", None):
        text.no_rope_layers = [1] * len(kinds)
    text.num_hidden_layers, text.vocab_size, text.intermediate_size, text.pad_token_id = len(kinds), 128, 64, None
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(text, trust_remote_code=False).eval()


def _layer_kinds(config: Any) -> list[str]:
    kinds = getattr(config, "layer_types", None)
    return list(kinds) if kinds else ["full_attention"] * config.num_hidden_layers


def _has_rope(config: Any, kinds: list[str], layer: int) -> bool:
    marks = getattr(config, "no_rope_layers", None)  # 1 where the layer has RoPE, in spite of the name
    if marks:
        return bool(marks[layer])
    if config.model_type in _ROPE_ON_SLIDING_LAYERS_ONLY and "sliding_attention" in kinds:
        return kinds[layer] == "sliding_attention"
    return "attention" in kinds[layer] and "linear" not in kinds[layer]  # not: mamba, conv, linear_attention


def _sliding_window(config: Any, kinds: list[str]) -> int | None:
    window = getattr(config, "sliding_window", None)
    everywhere = getattr(config, "layer_types", None) is None
    return int(window) if window is not None and (everywhere or "sliding_attention" in kinds) else None


def _reach(config: Any, kinds: set[str]) -> int | None:
    """Return the most tokens that layers of these kinds attend to; None if one of them attends to all."""
    if getattr(config, "layer_types", None) is None:
        return _sliding_window(config, [])
    windows = {
        "sliding_attention": getattr(config, "sliding_window", None),
        "chunked_attention": getattr(config, "attention_chunk_size", None),
    }
    reaches = [windows.get(kind) for kind in kinds]
    return None if None in reaches else max((int(reach) for reach in reaches if reach), default=None)


def _local_rope(rope: PretrainedRope, config: Any, kinds: list[str]) -> LocalRope | None:
    if rope.layer_type is None:
        return None
    layers = tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
    if not layers:
        return None
    return LocalRope(float(config.rope_parameters["sliding_attention"]["rope_theta"]), layers)
