"""Which objective a search minimises, from its options."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation.objective import PerplexityObjective
from ..evaluation.tokenized import TokenizedDocuments, leading_special_tokens
from ..evolution import Objective, Settings
from ..rope import Installation
from .configs import SearchConfig


def build_objective(
    config: SearchConfig,
    settings: Settings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    installation: Installation,
    data: TokenizedDocuments,
) -> Objective:
    """Return the objective on the model's device."""
    return PerplexityObjective(
        model,
        installation,
        data.documents,
        config.target_length,
        config.batch_size,
        settings.windows_per_document,
        len(leading_special_tokens(tokenizer)),
    )
