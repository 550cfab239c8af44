"""What a model costs before it is loaded: operations and memory of a forward, a gradient and a generation, from sizes.

The memory formulas follow the code as it is: `loss.token_nats` (no cache, logits of a few positions at a time),
`gradients` (the input of each layer is kept, one layer at a time is run again, weights have no gradients) and
`generation`, feed-forward layers in chunks. They count what is alive at the peak of a decoder layer of the Llama kind;
other kinds differ by a few widths. What kernels use inside and what an allocator loses is not counted:
`MEMORY_TOLERANCE` allows for it.

Letters: T tokens of a window, R rows of a batch, b bytes per number.
"""

from dataclasses import dataclass
from typing import Any

from .chunks import OFFLOADED_CHUNK, PREFILL_CHUNK, ROWS
from .loss import positions_at_once

MEMORY_TOLERANCE = 0.15
"""How far a measured peak may be from these formulas, as a share of them."""
FLOAT = 4
"""Bytes of a float32: normalisation and losses are computed in it whatever the dtype."""


@dataclass(frozen=True)
class ModelSize:
    """The numbers that decide what a decoder costs."""

    parameters: int
    """All of them; tied ones once."""
    matrix_parameters: int
    """Those that each token is multiplied with: all but input embeddings that are not tied to the output."""
    layers: int
    hidden: int
    """Width of the hidden states."""
    intermediate: int
    """Width inside the feed-forward layer; with experts, of all that a token goes through."""
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int

    @property
    def queries(self) -> int:
        """Width of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all keys of a token, and of all values."""
        return self.key_value_heads * self.head_dim


def model_size(model: Any) -> ModelSize:
    """Return the sizes of a model, which may be on the meta device."""
    config = model.config.get_text_config()
    parameters = matrices = sum(parameter.numel() for parameter in model.parameters())
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if outputs is not None and outputs.weight is not inputs.weight:
        matrices -= inputs.weight.numel()
    heads = config.num_attention_heads
    expert_width = getattr(config, "moe_intermediate_size", None) or 0
    experts = getattr(config, "num_experts_per_tok", None) or 1
    return ModelSize(
        parameters=parameters,
        matrix_parameters=matrices,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=max(getattr(config, "intermediate_size", None) or 4 * config.hidden_size, expert_width * experts),
        heads=heads,
        key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocabulary=config.vocab_size,
    )


def forward_flops(size: ModelSize, length: int) -> int:
    """Return the floating-point operations of one forward over a window of `length` tokens.

    Two per parameter and token, input embeddings left out, and causal attention: scores and weighted sum, two
    operations each over `length^2 / 2` pairs, per head dimension and layer (as in PaLM, arXiv 2204.02311, appendix B).
    """
    return 2 * size.matrix_parameters * length + 2 * size.layers * size.queries * length**2


def weight_bytes(size: ModelSize, width: int) -> int:
    """Return the memory of the weights at `width` bytes per number."""
    return size.parameters * width


def forward_bytes(
    size: ModelSize, length: int, width: int, rows: int = 1, eager: bool = False, chunk: int = ROWS
) -> int:
    """Return the peak memory of one forward that scores `rows` windows, weights included, in bytes.

    Args:
        size: sizes of the model.
        length: T, tokens per window.
        width: b, bytes per number: 2 in bfloat16, 4 in float32.
        rows: R, windows or candidates at once.
        eager: whether attention keeps its T x T scores; sdpa and flash_attention_2 do not.
        chunk: tokens that go through a feed-forward layer at once, as of `chunks.in_chunks`.
    """
    tokens = rows * length
    scores = eager * size.heads * length * (width + FLOAT + width * (width < FLOAT))  # and their softmax, and its cast
    tables = 2 * size.head_dim * width + 8  # cos and sin; token ids
    head = tokens * size.hidden * width + min(positions_at_once(size.vocabulary), tokens) * size.vocabulary * 2 * FLOAT
    layer = max(_feed_forward(size, tokens, width, chunk), tokens * (_attention(size, width) + scores))
    return weight_bytes(size, width) + tokens * tables + max(layer, head)


def gradient_bytes(
    size: ModelSize, length: int, width: int, eager: bool = False, offload: bool = False, chunk: int = ROWS
) -> int:
    """Return the peak memory of the loss of one window and its derivatives, weights included, in bytes.

    Args: see `forward_bytes`.
        offload: whether the inputs of the layers rest on the CPU.
    """
    inputs = min(3, size.layers + 1) if offload else size.layers + 1  # and the output of the last
    kept = (4 * size.queries + 4 * size.keys + 5 * size.head_dim) * width
    feed_forward = 6 * size.intermediate * width + 2 * size.hidden * FLOAT
    normalisation = 7 * size.hidden * FLOAT
    scores = eager * 3 * FLOAT * size.heads * length  # the softmax, its derivative, and that of what went into it
    if length > chunk:  # whole are the normalised input and the derivative of the output
        tokenwise = length * 2 * size.hidden * width + chunk * max(feed_forward, normalisation)
    else:
        tokenwise = length * max(feed_forward, normalisation)
    layer = length * kept + max(tokenwise, length * scores)
    head = (
        length * 2 * size.hidden * width + min(positions_at_once(size.vocabulary), length) * size.vocabulary * 3 * FLOAT
    )
    return weight_bytes(size, width) + length * inputs * size.hidden * width + max(layer, head)


def input_bytes(size: ModelSize, length: int, width: int) -> int:
    """Return the memory of the inputs of all layers, which a gradient keeps on the device or the CPU, in bytes."""
    return size.layers * size.hidden * width * length


def generation_bytes(
    size: ModelSize, length: int, width: int, rows: int = 1, offload: bool = False, chunk: int = ROWS
) -> int:
    """Return the peak memory of reading `rows` prompts of `length` tokens into a cache piece by piece, in bytes.

    Args: see `forward_bytes`.
        offload: whether keys and values rest on the CPU, which then has to hold `cache_bytes`.
    """
    piece = rows * min(OFFLOADED_CHUNK if offload else PREFILL_CHUNK, length)
    layer = cache_bytes(size, length, width, rows) // size.layers
    kept = layer if offload else size.layers * layer + layer // 2  # keys or values of a layer, joined with new ones
    activations = max(_feed_forward(size, piece, width, chunk), piece * _attention(size, width))
    return weight_bytes(size, width) + kept + activations


def cache_bytes(size: ModelSize, length: int, width: int, rows: int = 1) -> int:
    """Return the memory of the keys and values of `rows` sequences, all layers together, in bytes."""
    return 2 * size.layers * size.keys * width * rows * length


def _feed_forward(size: ModelSize, tokens: int, width: int, chunk: int) -> int:
    """Bytes: of a chunk gate, value and their product; of all residual, normalised input, and those of the caller."""
    return (3 * size.intermediate * min(tokens, chunk) + 4 * size.hidden * tokens) * width


def _attention(size: ModelSize, width: int) -> int:
    """Bytes per token: queries before, during and after rotation, keys and values, repeated or not."""
    return (4 * size.queries + 2 * size.keys + 3 * size.hidden) * width
