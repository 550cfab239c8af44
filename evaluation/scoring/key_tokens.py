"""Key tokens: those that only the long context predicts (LongPPL, arXiv 2410.23771).

With the log-probabilities of an evaluator, the long-short difference of token x is `LSD = log p(x | long) - log p(x |
short)` and the long-context likelihood `LCL = log p(x | long)`; x is a key token if LSD > alpha and LCL > beta. The
short context begins `trunc_len` tokens before the block of `sliding_window` tokens that x is in, and one forward scores
the block:

    document  |------------- T tokens -------------|
    block 0   [ trunc_len | window ]                 the first trunc_len tokens are never key
    block 1            [ trunc_len | window ]

The long context is the whole document before x, as in the paper, whose evaluator reads that far; or, for an evaluator
that must not see more than `long_len` tokens, it is cut into blocks in the same way, so that any evaluator can read
documents of any length:

    block 0   [     long_len - window | window ]
    block 1            [     long_len - window | window ]

Both losses of a token depend on what precedes it alone, so the key tokens of a cut document are its first ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from .loss import token_nats
from .model import input_device

TokenLosses = Callable[[torch.Tensor], torch.Tensor]
"""Token ids, shape (B, T), to the losses of tokens 1 .. T-1 in nats, shape (B, T - 1): what an evaluator is asked."""
Span = tuple[int, int]
"""First character and the one after the last."""


@dataclass(frozen=True)
class KeyTokenRule:
    """What a key token is; the defaults are the paper's.

    Raises:
        ValueError: a length is below 1, or the long context is not longer than the short one.
    """

    alpha: float = 2.0
    """LSD above which a token needs the long context, in nats."""
    beta: float = -2.0
    """LCL above which the evaluator knows the token, in nats (a log-probability, so below 0)."""
    trunc_len: int = 4096
    """Shortest short context, in tokens."""
    sliding_window: int = 1024
    """Tokens that share the start of their contexts."""
    long_len: int | None = None
    """Tokens that the evaluator sees at most, block included; None: the whole document."""

    def __post_init__(self) -> None:
        for name in ("trunc_len", "sliding_window"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1 token, got {value}; the paper has 4096 and 1024")
        if self.long_len is not None and self.trunc_len + self.sliding_window >= self.long_len:
            raise ValueError(
                f"trunc_len and sliding_window must be fewer tokens together than the {self.long_len} that the "
                f"evaluator sees, got {self.trunc_len} and {self.sliding_window}; lower them, or the long context is "
                "not longer than the short one"
            )


def paper_rule(original_length: int) -> KeyTokenRule:
    """Return the paper's rule, for an evaluator that reads whole documents.

    It is scaled down for a model that was trained on less than the paper's short context.

    Args:
        original_length: context length of the evaluated model's pre-training, in tokens.
    """
    trunc_len = min(KeyTokenRule.trunc_len, original_length)
    sliding_window = max(1, trunc_len * KeyTokenRule.sliding_window // KeyTokenRule.trunc_len)
    return KeyTokenRule(trunc_len=trunc_len, sliding_window=sliding_window)


def own_window_rule(
    original_length: int,
    alpha: float = KeyTokenRule.alpha,
    beta: float = KeyTokenRule.beta,
    trunc_len: int | None = None,
    sliding_window: int | None = None,
) -> KeyTokenRule:
    """Return the rule for an unmodified model that stays inside the window it was trained on.

    It favours no way of extending the window: a token is key if most of the window predicts it and a small part of the
    window does not. With the defaults a document goes through the model ten times, in pieces no longer than the window.

    Args:
        original_length: context length of the pre-training, in tokens.
        alpha: as of the rule.
        beta: as of the rule.
        trunc_len: default an eighth of the original length, the paper's share of the context its evaluator reads.
        sliding_window: default as many as `trunc_len`.
    """
    trunc_len = max(1, original_length // 8) if trunc_len is None else trunc_len
    sliding_window = trunc_len if sliding_window is None else sliding_window
    return KeyTokenRule(alpha, beta, trunc_len, sliding_window, original_length)


def find_key_tokens(losses: TokenLosses, ids: torch.Tensor, rule: KeyTokenRule) -> torch.Tensor:
    """Return the places of the key tokens of a document.

    Args:
        losses: the evaluator's.
        ids: token ids, shape (T,).
        rule: what a key token is.

    Returns:
        Rising places from `trunc_len` to T-1, shape (K,), on the CPU.

    Raises:
        RuntimeError: a loss is not finite.
    """
    first, window = rule.trunc_len, rule.sliding_window
    if len(ids) <= first:
        return torch.empty(0, dtype=torch.long)
    longest = len(ids) if rule.long_len is None else rule.long_len - window
    long, short = (_losses_in_blocks(losses, ids, context, window)[first - 1 :] for context in (longest, first))
    if not (long.isfinite().all() and short.isfinite().all()):
        raise RuntimeError("the evaluator of key tokens must give finite losses, got some that are not; try float32")
    is_key = (short - long > rule.alpha) & (-long > rule.beta)  # LSD and LCL; a loss is -log p
    return is_key.nonzero()[:, 0] + first


def _losses_in_blocks(losses: TokenLosses, ids: torch.Tensor, context: int, window: int) -> torch.Tensor:
    """Return the loss of each token but the first, shape (T - 1,), given `context` tokens before its block.

    The tokens of the first `context` have all that precedes them. Blocks are scored together, as many at a time as have
    the tokens of the document.
    """
    span = context + window
    rows = [ids[start : start + span] for start in range(0, max(1, len(ids) - context), window)]
    whole = [row for row in rows if len(row) == span]
    together = max(1, len(ids) // span)
    stacks = [torch.stack(whole[start : start + together]) for start in range(0, len(whole), together)]
    scored = [losses(stack).cpu() for stack in [*stacks, *(row[None] for row in rows if len(row) < span)]]
    return torch.cat([scored[0][0, : context - 1], *(block[:, context - 1 :].flatten() for block in scored)])


def model_losses(model: PreTrainedModel) -> TokenLosses:
    """Return the losses of a model as it is when it is asked."""
    return lambda ids: token_nats(model, ids.to(input_device(model)))


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
