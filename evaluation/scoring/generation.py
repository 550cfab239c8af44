"""Greedy decoding with a KV cache, for prompts of equal length."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .attention import without_masks
from .batching import fitting_rows, in_fitting_chunks
from .cache import needs_offload, offloaded_cache
from .chunks import OFFLOADED_CHUNK, PREFILL_CHUNK, ROWS, in_chunks
from .model import input_device

NOT_FINITE = -1

Generate = Callable[[torch.Tensor, int], torch.Tensor]
"""Prompts (B, T) and a number of new tokens N -> new tokens (B, at most N)."""


@torch.inference_mode()
def greedy(
    model: PreTrainedModel,
    ids: torch.Tensor,
    num_tokens: int,
    ends: Collection[int] = (),
    min_tokens: int = 0,
    prefill_chunk: int | None = None,
    offload: bool | None = None,
) -> torch.Tensor:
    """Return the most likely continuation, token by token.

    Prompts are read piece by piece, which changes nothing under installed rescale factors; a model's own RoPE that
    depends on the length (dynamic, or longrope with two lists) would differ.

    Args:
        model: causal language model of Transformers.
        ids: prompts of equal length, shape (B, T).
        num_tokens: N, new tokens per prompt.
        ends: tokens that end an answer; what follows one in its row is that token again.
        min_tokens: new tokens, the first of each row, that are none of `ends`.
        prefill_chunk: tokens of the prompts that go through the model at once, per row; None: a number that suits.
        offload: keep keys and values on the CPU; None: where the device has no room for those of one prompt.

    Returns:
        New tokens, shape (B, N) or less where all rows ended; `NOT_FINITE` wherever the logits were not finite.
    """

    def answer(rows: int) -> torch.Tensor:
        short_of_memory = rows < ROWS and model.device.type == "cuda"
        on_cpu = (short_of_memory or needs_offload(model, ids.shape[1] + num_tokens)) if offload is None else offload
        cache = offloaded_cache(model) if on_cpu else None
        chunk = prefill_chunk or (OFFLOADED_CHUNK if on_cpu else PREFILL_CHUNK)
        *before, step = ids.to(input_device(model)).split(max(1, chunk * rows // ROWS), dim=1)
        with without_masks(), in_chunks(model, rows):
            for part in before:
                cache = model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values
            return _continue(model, step, cache, num_tokens, ends, min_tokens)

    return in_fitting_chunks(model, answer) if len(ids) == 1 else answer(fitting_rows(model))


def _continue(
    model: PreTrainedModel, step: torch.Tensor, cache: Any, num_tokens: int, ends: Collection[int], min_tokens: int
) -> torch.Tensor:
    """Return the continuation of prompts whose last piece is `step`, and all before it in a cache."""
    tokens: list[torch.Tensor] = []
    last = torch.tensor(sorted(ends), device=step.device, dtype=step.dtype)
    ended = torch.zeros(len(step), 1, dtype=torch.bool, device=step.device)
    for place in range(num_tokens):
        output = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        logits, cache = output.logits[:, -1], output.past_key_values
        usable = logits.isfinite().all(dim=-1, keepdim=True) | ended  # what follows the end of an answer counts not
        if place < min_tokens:
            logits = logits.index_fill(1, last, -torch.inf)
        step = torch.where(ended, step[:, -1:], logits.argmax(dim=-1, keepdim=True))
        tokens.append(torch.where(usable, step, NOT_FINITE))
        ended |= torch.isin(step, last)
        if bool(ended.all()):
            break
    return torch.cat(tokens, dim=1).cpu()


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end an answer: the generation config's, else the tokenizer's."""
    ends = model.generation_config.eos_token_id if model.generation_config else None
    ends = tokenizer.eos_token_id if ends is None else ends
    return frozenset(map(int, [ends] if isinstance(ends, int) else ends or []))
