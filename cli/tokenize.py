"""`longrope tokenize`: documents in, token ids with a fingerprint out."""

from itertools import islice

from ..evaluation.corpus import read_documents
from ..evaluation.model import read_tokenizer
from ..evaluation.tokenized import save_tokenized
from .configs import TokenizeConfig


def run(config: TokenizeConfig) -> None:
    """Tokenize a dataset with a model's tokenizer and store it."""
    tokenizer = read_tokenizer(config.model)
    documents = read_documents(config.dataset, config.split, config.feature, config.subset)
    documents = (document for document in documents if len(document.text) >= config.min_chars)
    source = {"dataset": config.dataset, "split": config.split, "subset": config.subset, "min_chars": config.min_chars}
    info = save_tokenized(
        config.save_tokenized, islice(documents, config.num_documents), tokenizer, source, config.num_documents
    )
    print(f"{config.save_tokenized}: {info.documents} documents, {info.tokens} tokens, sha256 {info.fingerprint[:16]}")
