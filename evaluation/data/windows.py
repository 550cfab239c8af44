"""Windows of documents: pieces of one length, spread evenly.

The window w of document d has the index `w * len(documents) + d`, so the first windows come first. Letter: N windows.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .tokenized import TokenDocument


def window_tensor(documents: Sequence[TokenDocument], length: int) -> torch.Tensor:
    """Return the first `length` tokens of each document, shape (documents, length).

    Raises:
        ValueError: there are no documents, or one is shorter than `length`.
    """
    return window_pool(documents, length, 1, 0)


def window_pool(documents: Sequence[TokenDocument], length: int, count: int, opening: int) -> torch.Tensor:
    """Return `count` windows of each document with its first `opening` tokens in front, shape (N, length).

    Raises:
        ValueError: there are no documents, or one is shorter than `length`.
    """
    if not documents:
        raise ValueError("documents must hold at least one document, got none")
    for document in documents:
        if len(document.ids) < length:
            raise ValueError(
                f"documents must have at least {length} tokens, got {document.name} with {len(document.ids)}; "
                "raise the minimum length of the documents or evaluate a shorter length"
            )
    starts = [window_starts(document, length, count) for document in documents]
    rows = [
        np.concatenate([document.ids[:opening], document.ids[own[number] + opening : own[number] + length]])
        for number in range(count)
        for document, own in zip(documents, starts, strict=True)
    ]
    return torch.from_numpy(np.stack(rows))


def window_starts(document: TokenDocument, length: int, count: int) -> list[int]:
    """Return where `count` windows of `length` tokens begin, spread evenly over a document, the first at its start."""
    return [number * (len(document.ids) - length) // max(count - 1, 1) for number in range(count)]
