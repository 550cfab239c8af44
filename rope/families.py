"""What RoPE a Transformers model has: module, layout of cos and sin, frequencies; or why it can't be rescaled.

Every RoPE family of Transformers >= 5 computes cos and sin once per forward in one module named `rotary_emb` of the
decoder. Where that module is looked at, a copy is: the frequencies of some change with each call. Where only a part of
a head is rotated (partial rotary, MLA), the attention factor scales that part of the scores alone, as in Transformers.
"""

import copy
import warnings
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from .embedding import Layout, ScaledRotaryEmbedding, Tables, rotary_tables
from .frequencies import RopeGeometry

GLOBAL_LAYERS = "full_attention"
"""Where a model has one RoPE for global and one for sliding-window layers, factors go to the global ones."""

_FIXED = "its sinusoids are fixed tables inside each attention layer, not one rotary module"
_LEARNED = "it has learned position embeddings, not RoPE"
_BIAS = "it tells positions by a bias on the attention scores, not by RoPE"
_RECURRENT = "it is recurrent and has no rotary module"
_NO_POSITIONS = "its attention layers have no position encoding"

REFUSED: dict[str, str] = {
    **dict.fromkeys(("codegen", "gptj", "roformer"), _FIXED),
    **dict.fromkeys(("bert", "biogpt", "electra", "gpt2", "gpt_bigcode", "gpt_neo", "opt", "roberta"), _LEARNED),
    **dict.fromkeys(("bloom", "mpt", "mt5", "t5", "umt5"), _BIAS),
    **dict.fromkeys(("falcon_mamba", "mamba", "mamba2", "rwkv", "xlstm"), _RECURRENT),
    **dict.fromkeys(("jamba", "nemotron_h", "zamba"), _NO_POSITIONS),
    **dict.fromkeys(("mistral_large4", "mistral_large4_text"), "its frequencies are learned"),
}
"""Model types that can't work, each with its reason; what is neither here nor supported is found out by probing."""


@dataclass(frozen=True)
class PretrainedRope:
    """The rotary module of a model and what a replacement has to know about it."""

    parent: nn.Module
    """The module whose attribute `rotary_emb` it is."""
    module: nn.Module
    layer_type: str | None
    """The kind of layers that is rescaled, where the model has a RoPE for each kind."""
    parameters: dict[str, Any]
    """`rope_parameters` of the config, for that kind of layers."""
    geometry: RopeGeometry
    layout: Layout
    casts: bool
    """Whether cos and sin take the dtype of the activations."""
    layers: list[nn.Module]
    """The decoder layers."""


def find_rope(model: nn.Module, original_length: int | None = None) -> PretrainedRope:
    """Return the RoPE of a model, which may be on the meta device, without changing anything.

    Raises:
        ValueError: the model has no RoPE, or one that can't be rescaled; the message says why.
    """
    config: Any = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    refuse(config)
    if getattr(config, "is_encoder_decoder", False):
        raise _refusal(kind, "it is an encoder-decoder")
    parent, module = _find_rotary(model, kind)
    layer_type = GLOBAL_LAYERS if hasattr(module, f"{GLOBAL_LAYERS}_inv_freq") else None
    if layer_type is None and not hasattr(module, "inv_freq"):
        raise _refusal(kind, f"its rotary_emb has no inverse frequencies of {GLOBAL_LAYERS} layers")
    probe = _copy(module)
    parameters = probe.config.rope_parameters
    parameters = parameters[layer_type] if layer_type else parameters
    geometry = _geometry(probe, parameters, layer_type, original_length)
    layout, casts = _layout(probe, geometry, parameters, layer_type, kind)
    return PretrainedRope(
        parent, module, layer_type, parameters, geometry, layout, casts, _layers(parent, probe.config)
    )


def refuse(config: Any) -> None:
    """Raise with the reason if models of this config's type can't work."""
    for part in (config, config.get_text_config()) if config is not None else ():
        if part.model_type in REFUSED:
            raise _refusal(part.model_type, REFUSED[part.model_type])


def _refusal(kind: str, reason: str) -> ValueError:
    return ValueError(
        f"model must have RoPE that can be rescaled, got a {kind!r} model: {reason}; use a model such as Llama, "
        "Mistral, Qwen, Gemma or Phi-3"
    )


def _find_rotary(model: nn.Module, kind: str) -> tuple[nn.Module, nn.Module]:
    """Return the module that holds the rotary module, and that; of a vision-language model, those of the text."""
    decoder: nn.Module = model.get_decoder() if hasattr(model, "get_decoder") else model  # type: ignore[operator]
    for root in (decoder, model):
        found = [holder for holder in root.modules() if isinstance(getattr(holder, "rotary_emb", None), nn.Module)]
        if found:
            break
    else:
        raise _refusal(kind, "it has no rotary_emb module")
    if len(found) > 1:
        raise _refusal(
            kind, f"it has {len(found)} rotary_emb modules, not one (Transformers before 5 has one per layer)"
        )
    module = found[0].rotary_emb
    assert isinstance(module, nn.Module)
    if isinstance(module, ScaledRotaryEmbedding):
        raise ValueError("model must not carry factors already, but an installation is in place; restore() it first")
    return found[0], module


def _copy(module: Any) -> Any:
    """Return a float32 copy on the CPU: the model's own may be rounded to bfloat16 or be on the meta device."""
    buffers = dict(module.named_buffers(recurse=False))
    if all(b.dtype == torch.float32 and not b.is_meta for b in buffers.values()):
        probe = copy.copy(module)  # not deep: accelerate hangs all offloaded weights of a model on each module
        vars(probe)["_buffers"] = {name: buffer.detach().clone().cpu() for name, buffer in buffers.items()}
        vars(probe).pop("forward", None)  # accelerate's, which moves inputs to another device
        return probe
    if not any(b.is_meta for b in buffers.values()):
        rounded = {str(b.dtype) for b in buffers.values()}
        warnings.warn(
            f"the model's inverse frequencies were rounded to {', '.join(rounded)} by model.to() or half(), which "
            "harms long positions; factors use the float32 ones of its config. Load the model with dtype= instead",
            stacklevel=2,
        )
    return type(module)(module.config)


def _geometry(
    probe: Any, parameters: dict[str, Any], layer_type: str | None, original_length: int | None
) -> RopeGeometry:
    """Read the pre-trained RoPE of a checkpoint, which may be scaled already.

    Of a longrope checkpoint these are the long factors at every length, since they fill its whole window (on its own
    it takes the short ones up to its original length); of a dynamic one, what holds below its window.
    """
    prefix = f"{layer_type}_" if layer_type else ""
    rope_type = parameters["rope_type"]
    if rope_type == "longrope":
        beyond = parameters["original_max_position_embeddings"] + 1
        extra = {"layer_type": layer_type} if layer_type else {}
        inv_freq, scaling = ROPE_INIT_FUNCTIONS[rope_type](probe.config, torch.device("cpu"), seq_len=beyond, **extra)
    else:
        changing = rope_type == "dynamic"  # then inv_freq is that of the longest sequence so far
        inv_freq: Tensor = getattr(probe, f"{prefix}{'original_inv_freq' if changing else 'inv_freq'}")
        scaling: float = getattr(probe, f"{prefix}attention_scaling")
    return RopeGeometry(
        rotary_dim=2 * inv_freq.numel(),
        theta=float(parameters["rope_theta"]),
        original_length=original_length or probe.config.max_position_embeddings,
        inv_freq=inv_freq.detach().double().numpy(),
        attention_factor=float(scaling),
    )


def _layout(
    probe: Any, geometry: RopeGeometry, parameters: dict[str, Any], layer_type: str | None, kind: str
) -> tuple[Layout, bool]:
    """Return the layout in which the pre-trained angles give the model's own tables, and whether they are cast.

    That no layout does is how a RoPE that computes something else is found out.
    """
    window = parameters.get("original_max_position_embeddings") or probe.config.max_position_embeddings
    # The long factors of longrope hold beyond the original window; a dynamic RoPE is the pre-trained one below it.
    last = window if parameters["rope_type"] == "longrope" else window - 2
    positions = torch.tensor([[0, 1, 2, 3, last]])
    extra = (layer_type,) if layer_type else ()
    own = probe(torch.zeros(1, 5, 2), positions, *extra)
    angles = positions[..., None].float() * torch.tensor(geometry.inv_freq, dtype=torch.float32)
    for layout in get_args(Layout):
        if _same(own, rotary_tables(angles, geometry.attention_factor, layout, torch.float32)):
            half = probe(torch.zeros(1, 5, 2, dtype=torch.bfloat16), positions, *extra)
            return layout, half[0].dtype == torch.bfloat16
    raise _refusal(kind, f"its {type(probe).__name__} does not compute cos and sin of position times frequency")


def _same(own: Tables, ours: Tables) -> bool:
    if isinstance(own, Tensor) or isinstance(ours, Tensor):
        return isinstance(own, Tensor) and isinstance(ours, Tensor) and _close(own, ours)
    return len(own) == len(ours) and all(_close(a, b) for a, b in zip(own, ours, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, atol=1e-5)


def _layers(parent: nn.Module, config: Any) -> list[nn.Module]:
    depth = config.num_hidden_layers
    stacks = [child for child in parent.children() if isinstance(child, nn.ModuleList) and len(child) == depth]
    return list(stacks[0]) if len(stacks) == 1 else []
