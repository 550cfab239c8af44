"""Give a model that is extended already the RoPE it was pre-trained with."""

from typing import Any

import numpy as np
from torch import nn

from .families import find_rope
from .frequencies import RopeGeometry


def is_scaled(geometry: RopeGeometry) -> bool:
    """Whether a model's frequencies or attention factor are not those of its theta."""
    plain = RopeGeometry(geometry.rotary_dim, geometry.theta, geometry.original_length)
    same = np.allclose(geometry.inv_freq, plain.inv_freq, rtol=1e-6, atol=0)
    return not same or geometry.attention_factor != 1


def make_plain(model: nn.Module, original_length: int) -> None:
    """Replace the rotary module of a model by one with the frequencies `theta^(-2i/d)`.

    Args:
        model: a model built by Transformers, with no factors installed.
        original_length: context length of its pre-training, in tokens.

    Raises:
        ValueError: the model has a RoPE for each kind of layers.
    """
    rope = find_rope(model)
    if rope.layer_type is not None:
        raise ValueError(
            f"model must have one RoPE for all layers to be readjusted, got {type(model).__name__} with one for "
            f"{rope.layer_type} layers; use the weights with their pre-trained config, and --readjust"
        )
    config: Any = model.config.get_text_config()  # type: ignore[union-attr,operator]
    kept = {name: rope.parameters[name] for name in ("partial_rotary_factor",) if name in rope.parameters}
    config.rope_parameters = {"rope_type": "default", "rope_theta": rope.geometry.theta, **kept}
    config.max_position_embeddings = original_length
    device = next(rope.module.buffers()).device
    rope.parent.rotary_emb = type(rope.module)(config=config).to(device)  # type: ignore[call-arg]
