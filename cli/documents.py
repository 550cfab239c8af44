"""Which documents a command reads: as many as were asked for, or as many as there are."""

from collections.abc import Collection

from ..evaluation.data.tokenized import TokenizedDocuments, load_tokenized

EVALUATION_DOCUMENTS = 10
"""Documents that an evaluation reads where the user does not say how many, as in papers and examples."""
LEAST_DOCUMENTS = 2
"""Documents a command is content with where the user does not say how many: intervals and choices need two."""


def load_documents(
    path: str,
    min_tokens: int,
    samples: int | None,
    default: int,
    seed: int | None = None,
    exclude: Collection[str] = (),
) -> TokenizedDocuments:
    """Read `samples` documents; where that is None, `default`, or all there are if they are fewer, and say so.

    The other arguments are those of `load_tokenized`.

    Raises:
        ValueError: no such folder, or there are fewer than `samples` (where that is None: than `LEAST_DOCUMENTS`).
    """
    wanted = default if samples is None else samples
    at_least = min(LEAST_DOCUMENTS, default) if samples is None else samples
    data = load_tokenized(path, min_tokens, wanted, seed, exclude, at_least)
    if (found := len(data.documents)) < wanted:
        print(
            f"note: {path} has {found} documents of {min_tokens:,} or more tokens for this, not {wanted}: all are taken"
        )
    return data
