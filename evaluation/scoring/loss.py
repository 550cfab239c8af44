"""Loss per token without full logits: the language-model head runs on a few positions at a time.

Letters: B rows, T tokens, V vocabulary. At 128k tokens and a vocabulary of 128k, full float32 logits take 64 GiB.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from .attention import without_masks
from .batching import fitting_rows, in_fitting_chunks
from .chunks import in_chunks, recomputing

CHUNK = 512
"""Positions, over all rows, whose logits are alive at once; more of them where the vocabulary is small."""
LOGITS = 2**23
"""Logits that may be alive at once whatever the positions: so many cost little memory, and fewer pieces less time."""
IN_CACHE = 2**19
"""Logits whose softmax is taken at once on a processor: so many stay in its cache, and memory that was used before."""
IGNORED = -100
"""Target of a position whose prediction is not scored, as in Transformers."""


@dataclass(frozen=True)
class DocumentScore:
    """The loss of one document under one candidate; either `nats` or `error` is there."""

    nats: float | None
    """Sum over the scored tokens; None if the forward failed."""
    tokens: int
    """Number of scored tokens: one less than the length, since nothing precedes the first."""
    error: str | None = None
    """Why there is no score; a failure is never a number."""


def positions_at_once(vocabulary: int) -> int:
    """Return the positions, over all rows, whose logits are alive at once."""
    return max(CHUNK, LOGITS // vocabulary)


@torch.inference_mode()
def token_nats(
    model: PreTrainedModel, ids: torch.Tensor, chunk: int = CHUNK, scored: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the loss of some tokens in one forward over the whole window.

    Args:
        model: causal language model of Transformers.
        ids: token ids, shape (B, T).
        chunk: positions (over all rows) whose logits are alive at once.
        scored: places of the K tokens to score, each from 1 to T-1, on the CPU; None: all T-1 of them.

    Returns:
        Negative log-probabilities in nats, float32, shape (B, K).

    Raises:
        Exception: what the device raises when memory runs out; of one window only where small chunks do not help.
    """

    def nats(rows: int) -> torch.Tensor:
        with in_chunks(model, rows), without_masks():
            return differentiable_token_nats(model, ids, chunk, scored)

    return in_fitting_chunks(model, nats) if len(ids) == 1 else nats(fitting_rows(model))


def differentiable_token_nats(
    model: PreTrainedModel, ids: torch.Tensor, chunk: int = CHUNK, scored: torch.Tensor | None = None
) -> torch.Tensor:
    """Return what `token_nats` returns; with gradients on, logits are computed once more in the backward pass."""
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    if scored is None or len(scored) == ids.shape[1] - 1:
        return target_nats(model, hidden[:, :-1], ids[:, 1:], chunk)
    score = _chunk_scorer()
    parts = [score(model, hidden[:, part - 1], ids[:, part]) for part in scored.split(max(1, chunk // len(ids)))]
    return torch.cat(parts, dim=1)


def target_nats(
    model: PreTrainedModel, hidden: torch.Tensor, targets: torch.Tensor, chunk: int = CHUNK
) -> torch.Tensor:
    """Return the loss of given targets from the states that predict them, with gradients where they are on.

    Args:
        model: causal language model of Transformers.
        hidden: last hidden states, shape (B, T, hidden).
        targets: token ids that each state has to predict, shape (B, T); `IGNORED` where it predicts none.
        chunk: positions (over all rows) whose logits are alive at once.

    Returns:
        Negative log-probabilities in nats, float32, shape (B, T), 0 where the target is `IGNORED`.
    """
    score, size = _chunk_scorer(), max(1, chunk // len(targets))
    pieces = zip(hidden.split(size, dim=1), targets.split(size, dim=1), strict=True)
    return torch.cat([score(model, states, wanted) for states, wanted in pieces], dim=1)


def document_score(nats: torch.Tensor) -> DocumentScore:
    """Sum the token losses of one document, shape (T - 1,), in float64."""
    return document_scores(nats[None])[0]


def document_scores(nats: torch.Tensor) -> list[DocumentScore]:
    """Sum the token losses of documents of one length, shape (B, T - 1), in float64; they come off the device once."""
    totals, tokens = nats.double().sum(dim=1).tolist(), nats.shape[1]
    return [
        DocumentScore(total, tokens) if math.isfinite(total) else DocumentScore(None, tokens, f"loss is {total}")
        for total in totals
    ]


def _chunk_scorer() -> Callable[[PreTrainedModel, torch.Tensor, torch.Tensor], torch.Tensor]:
    return recomputing(_nats) if torch.is_grad_enabled() else _nats


def _nats(model: PreTrainedModel, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = _logits(model, hidden).flatten(0, 1)  # classes last: no copy of all logits
    wanted = targets.flatten().to(logits.device)
    rows = max(1, IN_CACHE // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    pieces = zip(logits.split(rows), wanted.split(rows), strict=True)
    parts = [functional.cross_entropy(*piece, ignore_index=IGNORED, reduction="none") for piece in pieces]
    return torch.cat(parts).view_as(targets)


def _logits(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has output embeddings"
    logits = head(hidden).float()
    if (factor := getattr(config, "logit_scale", 1.0)) != 1:  # Cohere
        logits = logits * factor
    if (divisor := getattr(config, "logits_scaling", 1.0)) != 1:  # Granite
        logits = logits / divisor
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2 and 3
        logits = cap * torch.tanh(logits / cap)
    return logits
