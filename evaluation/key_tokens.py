"""Key tokens: those that only the long context predicts (LongPPL, arXiv 2410.23771).

With the log-probabilities of an evaluator, the long-short difference of token x is `LSD = log p(x | long) - log p(x |
short)` and the long-context likelihood `LCL = log p(x | long)`; x is a key token if LSD > alpha and LCL > beta. The
short context begins `trunc_len` tokens before the block of `sliding_window` tokens that x is in, and one forward scores
the block:

    document  |------------- T tokens -------------|
    block 0   [ trunc_len | window ]                 the first trunc_len tokens are never key
    block 1            [ trunc_len | window ]

Both losses of a token depend on what precedes it alone, so the key tokens of a cut document are its first ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from .loss import token_nats

TokenLosses = Callable[[torch.Tensor], torch.Tensor]
"""Token ids, shape (B, T), to the losses of tokens 1 .. T-1 in nats, shape (B, T - 1): what an evaluator is asked."""
Span = tuple[int, int]
"""First character and the one after the last."""


@dataclass(frozen=True)
class KeyTokenRule:
    """What a key token is; the defaults are the paper's.

    Raises:
        ValueError: a length is below 1.
    """

    alpha: float = 2.0
    """LSD above which a token needs the long context, in nats."""
    beta: float = -2.0
    """LCL above which the evaluator knows the token, in nats (a log-probability, so below 0)."""
    trunc_len: int = 4096
    """Shortest short context, in tokens."""
    sliding_window: int = 1024
    """Tokens that share the start of their short context."""

    def __post_init__(self) -> None:
        for name in ("trunc_len", "sliding_window"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1 token, got {value}; the paper has 4096 and 1024")


def key_token_rule(
    original_length: int,
    alpha: float = KeyTokenRule.alpha,
    beta: float = KeyTokenRule.beta,
    trunc_len: int | None = None,
    sliding_window: int | None = None,
) -> KeyTokenRule:
    """Return the paper's rule, scaled down for a model that was trained on less than the paper's short context.

    Args:
        original_length: context length of the pre-training, in tokens.
        alpha: as of the rule.
        beta: as of the rule.
        trunc_len: default the paper's, or the original length if that is shorter.
        sliding_window: default a quarter of `trunc_len`, as in the paper.
    """
    if trunc_len is None:
        trunc_len = min(KeyTokenRule.trunc_len, original_length)
    if sliding_window is None:
        sliding_window = max(1, trunc_len * KeyTokenRule.sliding_window // KeyTokenRule.trunc_len)
    return KeyTokenRule(alpha, beta, trunc_len, sliding_window)


def find_key_tokens(losses: TokenLosses, ids: torch.Tensor, rule: KeyTokenRule) -> torch.Tensor:
    """Return the places of the key tokens of a document.

    Short contexts are scored together, as many at a time as have the tokens of the document.

    Args:
        losses: the evaluator's.
        ids: token ids, shape (T,).
        rule: what a key token is.

    Returns:
        Rising places from `trunc_len` to T-1, shape (K,), on the CPU.

    Raises:
        RuntimeError: a loss is not finite.
    """
    first = rule.trunc_len
    if len(ids) <= first:
        return torch.empty(0, dtype=torch.long)
    long = losses(ids[None])[0, first - 1 :].cpu()
    short = torch.cat([row for block in _blocks(ids, rule) for row in losses(block)[:, first - 1 :].cpu()])
    if not (long.isfinite().all() and short.isfinite().all()):
        raise RuntimeError("the evaluator of key tokens must give finite losses, got some that are not; try float32")
    is_key = (short - long > rule.alpha) & (-long > rule.beta)  # LSD and LCL; a loss is -log p
    return is_key.nonzero()[:, 0] + first


def _blocks(ids: torch.Tensor, rule: KeyTokenRule) -> list[torch.Tensor]:
    """Return the short contexts, each with its block behind it, stacked where they are of one length."""
    span = rule.trunc_len + rule.sliding_window
    rows = [ids[start : start + span] for start in range(0, len(ids) - rule.trunc_len, rule.sliding_window)]
    whole = [row for row in rows if len(row) == span]
    together = max(1, len(ids) // span)
    stacks = [torch.stack(whole[start : start + together]) for start in range(0, len(whole), together)]
    return stacks + [row[None] for row in rows if len(row) < span]


def model_losses(model: PreTrainedModel) -> TokenLosses:
    """Return the losses of a model as it is when it is asked."""
    return lambda ids: token_nats(model, ids.to(model.device))


def key_spans(offsets: Sequence[Span], places: Sequence[int]) -> list[Span]:
    """Return the characters of key tokens, adjacent spans merged.

    Args:
        offsets: span of each token of the evaluator's tokenizer.
        places: rising places of key tokens among them.
    """
    spans: list[Span] = []
    for start, end in (offsets[place] for place in places):
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def places_in_spans(offsets: Sequence[Span], spans: Sequence[Span]) -> list[int]:
    """Return the places of the tokens that lie entirely inside a span; special tokens without characters do not.

    Args:
        offsets: span of each token of the evaluated tokenizer, rising.
        spans: of `key_spans`, of the same text.
    """
    places: list[int] = []
    left = list(reversed(spans))
    for place, (start, end) in enumerate(offsets):
        while left and left[-1][1] <= start:
            left.pop()
        if left and left[-1][0] <= start < end <= left[-1][1]:
            places.append(place)
    return places
