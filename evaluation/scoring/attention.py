"""Causal attention without a mask of all queries times all keys.

Transformers hands SDPA such a mask for each chunk of a prompt after the first, and for whole windows under a sliding
window; no flash kernel takes it, and keys and values are repeated for all heads. Where a flash kernel serves a chunk,
it aligns its causal mask with the lower right corner by itself; elsewhere a few queries at a time meet the keys that
they may see.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

SDPA = "sdpa"
MASK_NUMBERS = 2**24
"""Numbers of the largest mask."""
OPTIONS = "mask_options"
"""Attribute of a mark in place of a mask: the arguments of `sdpa_mask`."""

_replaced: list[tuple[Any, Any]] = []
"""Functions that each context found, so that the first one's return when the last ends, in whatever thread."""
_lock = Lock()


@contextmanager
def without_masks() -> Iterator[None]:
    """Let models whose attention is SDPA work without large masks; other kernels are not changed. Not for gradients."""
    with _lock:
        _replaced.append((ALL_ATTENTION_FUNCTIONS[SDPA], ALL_MASK_ATTENTION_FUNCTIONS[SDPA]))
        ALL_ATTENTION_FUNCTIONS[SDPA], ALL_MASK_ATTENTION_FUNCTIONS[SDPA] = lower_right_sdpa, lower_right_mask
    try:
        yield
    finally:
        with _lock:
            original, _ = _replaced[0], _replaced.pop()
            if not _replaced:
                ALL_ATTENTION_FUNCTIONS[SDPA], ALL_MASK_ATTENTION_FUNCTIONS[SDPA] = original


def lower_right_mask(*sizes: Any, **options: Any) -> torch.Tensor | None:
    """Return what Transformers' `sdpa_mask` returns, but no mask for a chunk that ends where its keys end.

    Of a large mask (a sliding window, a padded batch) a mark is returned, which holds what the mask is made of, so that
    `lower_right_sdpa` makes it for a few queries at a time.

    Args: of `sdpa_mask`, whose signature depends on the version of Transformers.
    """
    if _is_plain(options) and options.get("allow_is_causal_skip", True):
        return None
    if options.get("q_length", 0) * options["kv_length"] <= MASK_NUMBERS:  # also with Transformers 5.0
        return sdpa_mask(*sizes, **options)
    mark = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=options.get("device", "cpu"))
    setattr(mark, OPTIONS, options)
    return mark


def _is_plain(options: dict[str, Any]) -> bool:
    """Tell whether each query sees all keys up to its own: no padding, no sliding window, no room for later keys."""
    queries, keys, first = options.get("q_length"), options["kv_length"], options.get("q_offset", 0)
    if queries is None:  # Transformers 5.0
        queries, first = len(options["cache_position"]), options["cache_position"][0]
    window, padding = options.get("local_size"), options.get("attention_mask")
    return (
        options.get("kv_offset", 0) == 0
        and (window is None or keys < window)
        and (padding is None or bool(padding.all()))
        and bool(first + queries == keys)
    )


def lower_right_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Return what Transformers' `sdpa_attention_forward` returns, the last query aligned with the last key.

    Args: of `sdpa_attention_forward`; query (B, heads, T, d), key and value (B, key-value heads, K, d).

    Returns:
        Attention output, shape (B, T, heads, d), and no weights.
    """
    if (marked := getattr(attention_mask, OPTIONS, None)) is not None:
        return _by_queries(query, key, value, scaling, marked), None
    queries, keys = query.shape[2], key.shape[2]
    extra = options.get("position_bias") is not None or options.get("is_causal") is False or dropout > 0
    if attention_mask is not None or not 1 < queries < keys or extra:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)
    grouped = query.shape[1] != key.shape[1]
    if can_use_flash_attention(SDPAParams(query, key, value, None, 0.0, False, grouped)):
        bias = causal_lower_right(queries, keys)
        output = scaled_dot_product_attention(query, key, value, bias, scale=scaling, enable_gqa=grouped)
        return output.transpose(1, 2).contiguous(), None
    return _by_queries(query, key, value, scaling, {"q_offset": keys - queries, "device": query.device}), None


def _by_queries(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, options: dict[str, Any]
) -> torch.Tensor:
    """Return attention, shape (B, T, heads, d), a few queries at a time, under the mask that `sdpa_mask` would make.

    The heads that share keys stand one after the other in the dimension of queries, so that no key is repeated.
    """
    (batch, heads, queries, width), (_, groups, keys, _) = query.shape, key.shape
    shared, reach = heads // groups, options.get("local_size") or keys
    first, past = options["q_offset"], options.get("kv_offset", 0)  # positions of the first query and the first key
    output = query.new_empty(batch, queries, heads, value.shape[-1])
    size = max(1, min(reach, MASK_NUMBERS // (batch * shared * min(keys, 2 * reach))))
    for start in range(0, queries, size):
        few = query[:, :, start : start + size]
        count, position = few.shape[2], first + start
        low, high = max(0, position - reach - past), min(keys, position + count - past)
        sizes = {"q_length": count, "q_offset": position, "kv_length": high - low, "kv_offset": past + low}
        mask = _mask({"batch_size": batch, **options, **sizes})
        part = scaled_dot_product_attention(
            few.reshape(batch, groups, shared * count, width),
            key[:, :, low:high],
            value[:, :, low:high],
            mask.repeat(1, 1, shared, 1),
            scale=scaling,
        )
        output[:, start : start + count] = part.reshape(batch, heads, count, -1).transpose(1, 2)
    return output


def _mask(options: dict[str, Any]) -> torch.Tensor:
    """Return the mask of some queries and keys, shape (B, 1, queries, keys)."""
    if "mask_function" in options:
        mask = sdpa_mask(**{**options, "allow_is_causal_skip": False})
        assert mask is not None, "it may not be skipped"
        return mask
    queries, keys = (
        torch.arange(options[f"{name}_length"], device=options["device"]) + options[f"{name}_offset"]
        for name in ("q", "kv")
    )
    return (keys <= queries[:, None])[None, None]
