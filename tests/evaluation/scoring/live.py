"""What is alive in memory while a model works, and models too large for it, on the meta device."""

from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ATEN = torch.ops.aten


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that are alive after each operation, and remembers the most."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        weights = {p.untyped_storage()._cdata: p.untyped_storage() for p in model.parameters()}
        self.peak = self.weights = sum(storage.nbytes() for storage in weights.values())
        self.largest_mask = 0
        """Most numbers of a boolean tensor."""
        self._ignored, self._alive = set(weights), {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = run(func, args, kwargs or {})
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage())._cdata not in self._ignored:
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                self.largest_mask = max(self.largest_mask, tensor.numel() * (tensor.dtype == torch.bool))
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, self.weights + sum(size for _, size in self._alive.values()))
        return result


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation; tensors of the meta device give true and zeros where their numbers are asked for."""
    meta = bool(args) and isinstance(args[0], torch.Tensor) and args[0].is_meta
    if meta and func is ATEN._local_scalar_dense.default:
        return 1
    if meta and func is ATEN._to_copy.default and str(kwargs.get("device")) == "cpu":
        return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
    return func(*args, **kwargs)


class FlashLike(torch.autograd.Function):
    """Makes and keeps the tensors that a flash kernel does: for the meta device, which has no such kernel."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        batch, heads, queries, width = query.shape
        output = query.new_empty(batch, queries, heads, width)
        sums = query.new_empty(batch, heads, queries, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, sums)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        query, key, *_ = ctx.saved_tensors
        shared = (key.shape[0], key.shape[1], -1, *key.shape[2:])
        whole = [torch.empty_like(query) for _ in range(3)]  # of keys and values for all heads, then added up
        return whole[0], *(one.view(shared).sum(2) for one in whole[1:])


def flash_like_attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any, *_: Any, **__: Any
) -> tuple[Any, None]:
    """Return the output of attention without numbers."""
    assert mask is None
    return FlashLike.apply(query, key, value), None
