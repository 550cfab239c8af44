"""`longrope tokenize`: documents in, token ids with a fingerprint out."""

from ..evaluation.data.corpus import read_documents
from ..evaluation.data.tokenized import save_tokenized
from ..evaluation.scoring.model import read_tokenizer
from .configs import TokenizeConfig


def run(config: TokenizeConfig) -> None:
    """Tokenize a dataset with a model's tokenizer and store it."""
    if config.num_documents is not None and config.num_documents < 1:
        raise ValueError(f"num_documents must be at least 1, got {config.num_documents}; leave it out for all")
    tokenizer = read_tokenizer(config.model)
    documents = read_documents(config.dataset, config.split, config.feature, config.subset)
    documents = (document for document in documents if len(document.text) >= config.min_chars)
    source = {name: getattr(config, name) for name in ("dataset", "split", "subset", "min_chars", "min_tokens")}
    info = save_tokenized(config.save_tokenized, documents, tokenizer, source, config.num_documents, config.min_tokens)
    print(f"{config.save_tokenized}: {info.documents} documents, {info.tokens} tokens, sha256 {info.fingerprint[:16]}")
    if config.num_documents is not None and info.documents < config.num_documents:
        print(f"note: {config.dataset} has only {info.documents} of the {config.num_documents} documents asked for")
