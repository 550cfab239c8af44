"""What training costs: floating-point operations and memory, from the sizes of a model alone.

Letters: N parameters, D devices, L layers, T tokens of a forward on one device.
"""

from ..evaluation.scoring.cost import ModelSize, forward_bytes, forward_flops, weight_bytes

HALF = 2
"""Bytes of a bfloat16."""
STATES = 16
"""Bytes per parameter of weights, gradients and AdamW's two moments in float32."""


def training_flops(size: ModelSize, length: int, checkpointing: bool = True) -> float:
    """Return the operations of forward and backward, with the second forward of activation checkpointing."""
    return (4 if checkpointing else 3) * forward_flops(size, length)


def training_bytes(size: ModelSize, tokens: int, devices: int) -> float:
    """Return the memory of one device in training, all states sharded over the devices (FSDP, ZeRO 3).

    The states, 16 N / D; the gathered weights and gradients of two layers; the inputs of all layers, and the
    activations and their gradients of one; logits are in chunks.

    Args:
        size: of the model.
        tokens: T, tokens of a micro-batch on one device: the sequence over the devices that share it.
        devices: D.
    """
    layers = 2 * 4 * HALF * size.matrix_parameters / size.layers
    kept = HALF * size.layers * tokens * size.hidden
    activations = forward_bytes(size, tokens, HALF, chunk=tokens) - weight_bytes(size, HALF)
    return STATES * size.parameters / devices + layers + kept + 3 * activations


def scoring_bytes(size: ModelSize, tokens: int, devices: int = 1) -> float:
    """Return the memory of one device in a forward without gradients, its layers spread over the devices."""
    weights = weight_bytes(size, HALF)
    return forward_bytes(size, tokens, HALF) - weights + weights / devices
