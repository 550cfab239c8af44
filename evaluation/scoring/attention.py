"""Causal attention of a chunk of a prompt to all keys so far, without a mask of chunk times keys.

Transformers hands SDPA such a mask for each chunk after the first, for which no flash kernel exists, and repeats keys
and values for all heads. Where a flash kernel serves the inputs, it aligns a causal mask with the lower right corner by
itself; elsewhere a few queries at a time meet the keys that they may see.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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
"""Numbers of the largest mask where there is no flash kernel."""


@contextmanager
def without_masks() -> Iterator[None]:
    """Let models whose attention is SDPA read prompts in chunks without masks; other kernels are not changed."""
    before = ALL_ATTENTION_FUNCTIONS[SDPA], ALL_MASK_ATTENTION_FUNCTIONS[SDPA]
    ALL_ATTENTION_FUNCTIONS[SDPA], ALL_MASK_ATTENTION_FUNCTIONS[SDPA] = lower_right_sdpa, lower_right_mask
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS[SDPA], ALL_MASK_ATTENTION_FUNCTIONS[SDPA] = before


def lower_right_mask(*sizes: Any, **options: Any) -> torch.Tensor | None:
    """Return what Transformers' `sdpa_mask` returns, but None also for a chunk that ends where its keys end.

    Args: of `sdpa_mask`, whose signature depends on the version of Transformers.
    """
    if _is_plain(options) and options.get("allow_is_causal_skip", True):
        return None
    return sdpa_mask(*sizes, **options)


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
    queries, keys = query.shape[2], key.shape[2]
    extra = options.get("position_bias") is not None or options.get("is_causal") is False or dropout > 0
    if attention_mask is not None or not 1 < queries < keys or extra:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)
    grouped = query.shape[1] != key.shape[1]
    if can_use_flash_attention(SDPAParams(query, key, value, None, 0.0, False, grouped)):
        bias = causal_lower_right(queries, keys)
        output = scaled_dot_product_attention(query, key, value, bias, scale=scaling, enable_gqa=grouped)
        return output.transpose(1, 2).contiguous(), None
    return _by_queries(query, key, value, scaling), None


def _by_queries(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None) -> torch.Tensor:
    """Return causal attention, shape (B, T, heads, d), a few queries at a time.

    The heads that share keys stand one after the other in the dimension of queries, so that no key is repeated.
    """
    (batch, heads, queries, width), (_, groups, keys, _) = query.shape, key.shape
    shared = heads // groups
    output = query.new_empty(batch, queries, heads, value.shape[-1])
    size = max(1, MASK_NUMBERS // (shared * keys))
    for start in range(0, queries, size):
        few = query[:, :, start : start + size]
        count, end = few.shape[2], keys - queries + start + few.shape[2]
        mask = torch.ones(count, end, dtype=torch.bool, device=query.device).tril(end - count).repeat(shared, 1)
        part = scaled_dot_product_attention(
            few.reshape(batch, groups, shared * count, width), key[:, :, :end], value[:, :, :end], mask, scale=scaling
        )
        output[:, start : start + count] = part.reshape(batch, heads, count, -1).transpose(1, 2)
    return output
