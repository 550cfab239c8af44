"""`optimize`: the whole search of a model's factors from Python.

It stands in `cli`, the only package that knows both search and evaluation, and runs what `longrope search` runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation.data.document import Document
from ..evaluation.data.tokenized import TokenizedDocuments, load_tokenized, save_tokenized
from ..evolution import ParetoSettings, Settings, load_settings
from ..hyperparams import preset
from ..rope import Installation, RescaleFactors
from .configs import SearchConfig
from .model_search import search_here, search_on_documents
from .objectives import OwnLoss, OwnObjective, check_options

OPTIONS = (
    "max_scored_tokens",
    "max_hours",
    "original_length",
    "attention_factor",
    "init_factors",
    "auto_rescale_init_factors",
    "readjust",
    "objective_lengths",
    "needle_weight",
    "needle_style",
    "needle_kinds",
    "needle_questions",
    "needle_distractors",
    "longppl_alpha",
    "longppl_beta",
    "longppl_trunc_len",
    "longppl_sliding_window",
    "seed",
    "batch_size",
    "resume",
    "trackers",
)
"""Options of `longrope search` that are options here; the others choose what to load, or ask for estimates."""


def optimize(
    model: PreTrainedModel,
    documents: Sequence[Any],
    target_length: int,
    output_dir: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    objective: str | OwnLoss = "perplexity",
    settings: str | Settings = "hybrid",
    **options: Any,
) -> RescaleFactors:
    """Search the factors that extend a model, and return them; `apply_factors(model, factors)` puts them in.

    The model is as it was afterwards. The run folder is that of `longrope search`, so `evaluate`, `report` and `export`
    read it, and with `resume=True` a search that was stopped goes on.

    Args:
        model: a causal language model of Transformers.
        documents: what candidates are scored on. Texts of at least `target_length` tokens each; for an objective of
            your own anything that it takes.
        target_length: context length to extend to, in tokens.
        output_dir: run folder.
        tokenizer: of the model; needed but for an objective of your own.
        objective: `perplexity`, `needle`, `longppl` or `mixed`, or a function of the model, with a candidate's factors
            in it, and one of the documents, which returns a loss. One of its losses counts as `target_length` tokens
            of a budget; what is not finite is a failure, and an exception ends the search.
        settings: preset, file, or settings of a strategy.
        options: those of `longrope search` that `OPTIONS` names, e.g. `max_scored_tokens`, `max_hours`, `seed`,
            `original_length`, `init_factors`, `batch_size`, `resume`.

    Raises:
        ValueError: an option is unknown, a document too short, or they don't fit together.
        RuntimeError: nothing could be scored.

    Example:
        >>> optimize(model, texts, 8192, "runs/8k", tokenizer=tokenizer)
        >>> optimize(model, questions, 8192, "runs/own", objective=lambda model, question: my_loss(model, question))
    """
    if unknown := options.keys() - {*OPTIONS}:
        raise ValueError(
            f"options must be among {', '.join(OPTIONS)}, got {', '.join(sorted(unknown))}; check the name"
        )
    chosen = load_settings(preset(settings)) if isinstance(settings, str) else settings
    own = None if isinstance(objective, str) else objective
    config = SearchConfig(
        model=model.name_or_path or "",
        tokenized=str(Path(output_dir) / "tokens"),
        target_length=target_length,
        output_dir=str(output_dir),
        hyper_params=settings if isinstance(settings, str) else settings.strategy,
        objective=objective if own is None else f"{own.__module__}.{own.__qualname__}",  # type: ignore[arg-type]
        **options,
    )
    with _lent(model):
        if own is not None:
            return _with_own_loss(config, chosen, model, own, documents)
        if tokenizer is None:
            raise ValueError(f"tokenizer must be the model's for the objective {objective}, got None; hand it in")
        return search_on_documents(config, chosen, model, tokenizer, _tokenized(config, documents, tokenizer))


def _with_own_loss(
    config: SearchConfig, settings: Settings, model: PreTrainedModel, own: OwnLoss, documents: Sequence[Any]
) -> RescaleFactors:
    check_options(config)
    if isinstance(settings, ParetoSettings):
        raise ValueError("settings must be of a strategy with one objective, got pareto; choose hybrid")

    def objective(installation: Installation) -> OwnObjective:
        return OwnObjective(own, model, installation, documents, config.target_length)

    settings, source = settings.without_windows(gradients=False), {"dataset": "own", "documents": len(documents)}
    return search_here(config, settings, model, objective, len(documents), {"source": source})


def _tokenized(config: SearchConfig, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> TokenizedDocuments:
    """Return the documents as tokens, which the run folder keeps."""
    named = [Document(f"document-{number}", text) for number, text in enumerate(texts)]
    save_tokenized(config.tokenized, named, tokenizer, {"dataset": "texts", "documents": len(texts)})
    return load_tokenized(config.tokenized, config.target_length, len(texts))


@contextmanager
def _lent(model: PreTrainedModel) -> Iterator[None]:
    """Put a model in evaluation mode, and leave it as it was: a search freezes the weights."""
    training, wanted = model.training, [(weight, weight.requires_grad) for weight in model.parameters()]
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        for weight, requires_grad in wanted:
            weight.requires_grad_(requires_grad)
