"""Keys and values of a prompt, on the CPU where the device has no room for them."""

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from .cost import cache_bytes, generation_bytes, model_size
from .resources import should_offload


class OffloadedLayer(DynamicLayer):
    """Keys and values of a layer in pieces on the CPU, joined on the device for the time of one attention call.

    Transformers' own offloading moves them back with each chunk as well, through memory that is not pinned, and on
    CUDA alone.
    """

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Begin without tokens."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.pieces: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.length = 0
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and the values of all tokens so far, each (B, heads, T, d), on the device."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new = (key_states, value_states)
        self.length += key_states.shape[2]
        joined = [states.new_empty(*states.shape[:2], self.length, states.shape[3]) for states in new]
        start = 0
        for piece in (*self.pieces, new):
            stop = start + piece[0].shape[2]
            for whole, part in zip(joined, piece, strict=True):
                whole[:, :, start:stop].copy_(part, non_blocking=True)
            start = stop
        keys, values = map(_on_cpu, new)
        self.pieces.append((keys, values))
        return joined[0], joined[1]

    def get_seq_length(self) -> int:
        """Return the tokens so far."""
        return self.length if self.is_initialized else 0


def offloaded_cache(model: PreTrainedModel) -> DynamicCache:
    """Return an empty cache whose layers keep keys and values on the CPU, but for those of a sliding window."""
    cache = DynamicCache(config=model.config)
    cache.layers = [OffloadedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def needs_offload(model: PreTrainedModel, length: int) -> bool:
    """Tell whether a CUDA device may have no room for a prompt of `length` tokens with its keys and values."""
    size, width = model_size(model), model.dtype.itemsize
    return should_offload(model, generation_bytes(size, length, width), cache_bytes(size, length, width))


def _on_cpu(states: torch.Tensor) -> torch.Tensor:
    copy = torch.empty(states.shape, dtype=states.dtype, pin_memory=states.is_cuda)
    return copy.copy_(states, non_blocking=True)
