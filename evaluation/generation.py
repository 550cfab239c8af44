"""Greedy decoding with a KV cache, for prompts of equal length."""

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

NOT_FINITE = -1

Generate = Callable[[torch.Tensor, int], torch.Tensor]
"""Prompts (B, T) and a number of new tokens N -> new tokens (B, N)."""


@torch.inference_mode()
def greedy(model: PreTrainedModel, ids: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Return the most likely continuation, token by token.

    Args:
        model: causal language model of Transformers.
        ids: prompts of equal length, shape (B, T).
        num_tokens: N, new tokens per prompt; nothing stops earlier.

    Returns:
        New tokens, shape (B, N); `NOT_FINITE` wherever the logits were not finite.
    """
    step, cache, tokens = ids.to(model.device), None, []
    for _ in range(num_tokens):
        output = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        logits, cache = output.logits[:, -1], output.past_key_values
        finite = logits.isfinite().all(dim=-1)
        step = logits.argmax(dim=-1, keepdim=True)
        tokens.append(torch.where(finite[:, None], step, NOT_FINITE))
    return torch.cat(tokens, dim=1).cpu()
