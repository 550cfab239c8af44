"""Which tasks an evaluation runs, from its options."""

from transformers import PreTrainedTokenizerBase

from ..evaluation.passkey import Passkey
from ..evaluation.perplexity import Perplexity
from ..evaluation.task import Task
from ..evaluation.tokenized import TokenizedDocuments
from .configs import EvaluateConfig

TASKS = ("perplexity", "passkey")


def build_task(name: str, config: EvaluateConfig, tokenizer: PreTrainedTokenizerBase, data: TokenizedDocuments) -> Task:
    """Return a task by its name."""
    if name == "perplexity":
        return Perplexity(data, config.batch_size, config.seed)
    return Passkey(
        tokenizer,
        data if config.passkey_haystack == "documents" else None,
        config.passkey_style,
        config.passkey_depths,
        config.passkey_trials,
        config.batch_size,
        config.seed,
    )
