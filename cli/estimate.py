"""What a search costs before it starts: candidates, tokens, floating-point operations, hours."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ..evolution import (
    GRADIENT_SCORES,
    Evaluation,
    Genome,
    Gradient,
    HybridSettings,
    PaperSettings,
    ParetoSettings,
    Price,
    Request,
    Settings,
    Space,
    Strategy,
    build_strategy,
    cost_of,
)
from ..rope import RopeGeometry, rope_geometry
from .budget import with_budget
from .configs import SearchConfig
from .objectives import forward_lengths
from .seeds import build_seeds


@dataclass(frozen=True)
class Plan:
    """Size of a search."""

    candidates: int
    scores: Mapping[int, int]
    """Scores (one candidate on one window, a gradient counts as three) by the index of the window."""


class EndlessProgress:
    """Stands in for a model: each new candidate is better than all before it, so that no search stagnates."""

    def __init__(self) -> None:
        self._ranks: dict[Genome, int] = {}
        self.known: set[tuple[Genome, int, bool]] = set()
        """Scores made."""

    def plan(self) -> Plan:
        """Return what was asked for."""
        scores: Counter[int] = Counter()
        for _, document, gradient in self.known:
            scores[document] += GRADIENT_SCORES if gradient else 1
        return Plan(len(self._ranks), scores)

    def answer(self, request: Request) -> Evaluation:
        """Return an evaluation."""
        rank = self._ranks.setdefault(request.genome, len(self._ranks))
        self.known |= {(request.genome, document, request.gradient) for document in request.documents}
        num_documents = len(request.documents)
        gradients = (Gradient((-1.0,) * len(request.genome.steps), 0.0),) * num_documents if request.gradient else ()
        return Evaluation(request, (10.0 / (1 + rank),) * num_documents, (1,) * num_documents, gradients=gradients)


def plan(strategy: Strategy, price: Price, max_scored_tokens: int | None = None) -> Plan:
    """Run a strategy without a model and count what it asks for.

    What ends a search earlier (no gain any more, wall time) is not foreseen.

    Args:
        strategy: fresh; it is spent afterwards.
        price: tokens of a score.
        max_scored_tokens: budget.
    """
    model, spent = EndlessProgress(), 0
    while not strategy.done:
        requests = strategy.ask()
        cost = cost_of(requests, price, model.known)
        reserved = sum(price(document, False) for document in strategy.reserved)
        if not strategy.final and max_scored_tokens is not None and spent + cost + reserved > max_scored_tokens:
            strategy.finish()
            continue
        spent += cost
        strategy.tell([model.answer(request) for request in requests])
    return model.plan()


def forward_flops(model: Any, length: int) -> int:
    """Return the floating-point operations of one forward over a window of `length` tokens.

    Two per parameter and token, input embeddings left out, and causal attention: scores and weighted sum, two
    operations each over `length^2 / 2` pairs, per head dimension and layer (as in PaLM, arXiv 2204.02311, appendix B).
    """
    config = model.config.get_text_config()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if not tied:
        parameters -= model.get_input_embeddings().weight.numel()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 2 * config.num_hidden_layers * config.num_attention_heads * head_dim * length**2
    return 2 * parameters * length + attention


def print_estimate(
    config: SearchConfig, settings: Settings, space_of: Callable[[Settings, SearchConfig, RopeGeometry], Space]
) -> None:
    """Print a table of the paper's search on five documents, and of the chosen one on `samples` and its objective.

    Raises:
        ValueError: the model has no readable configuration, or the speed is not above 0.
    """
    if not 0 < config.sustained_tflops < float("inf"):
        raise ValueError(f"sustained_tflops must be finite and above 0, got {config.sustained_tflops}; an H200: 400")
    try:
        model_config = AutoConfig.from_pretrained(config.model)
    except (OSError, ValueError) as error:
        raise ValueError(f"model must be a folder or hub id with a config.json, got {config.model}: {error}") from error
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    geometry = rope_geometry(model, config.original_length)

    paper = SearchConfig(
        config.model, config.tokenized, config.target_length, config.output_dir, original_length=config.original_length
    )
    searches = [(PaperSettings(), paper, 5), (settings, config, config.samples or settings.num_documents)]
    print(f"{'search':<12} {'candidates':>10} {'scored tokens':>15} {'FLOPs':>9} {'hours':>8}")
    for chosen, options, num_documents in searches:
        space = space_of(chosen, options, geometry)
        lengths = WindowLengths(chosen, options, num_documents, geometry.original_length)
        chosen, budget = with_budget(chosen, options, lengths.price(0, False))
        seeds = build_seeds(options, geometry, space)
        strategy = build_strategy(chosen, space, seeds, num_documents, options.seed)
        one = plan(strategy, lengths.price, budget.max_scored_tokens)
        if isinstance(chosen, HybridSettings):  # it may spend what the plan has left
            one = replace(one, scores={0: chosen.num_scores})
        _print_row(chosen.strategy, one, lengths, model, config.sustained_tflops)
    print(f"hours at {config.sustained_tflops:g} sustained TFLOP/s; both searches at most, if they gain to their end")


@dataclass(frozen=True)
class WindowLengths:
    """Lengths of what goes through the model for a score, known before there is a model or a document."""

    settings: Settings
    config: SearchConfig
    num_documents: int
    original_length: int

    def of(self, document: int) -> list[int]:
        """Return the tokens of each forward of one candidate on a window."""
        num_long = self.num_documents * self.settings.windows_per_document
        is_short = isinstance(self.settings, ParetoSettings) and document >= num_long
        return [self.original_length] if is_short else forward_lengths(self.config)

    def price(self, document: int, gradient: bool) -> int:
        """Return the tokens of a score, as the objective will charge them."""
        return (GRADIENT_SCORES if gradient else 1) * sum(self.of(document))


def _print_row(name: str, one: Plan, lengths: WindowLengths, model: Any, sustained_tflops: float) -> None:
    forwards: Counter[int] = Counter()
    for document, count in one.scores.items():
        for length in lengths.of(document):
            forwards[length] += count
    tokens = sum(length * count for length, count in forwards.items())
    flops = sum(forward_flops(model, length) * count for length, count in forwards.items())
    hours = flops / (sustained_tflops * 1e12) / 3600
    print(f"{name:<12} {one.candidates:>10,} {tokens:>15,} {flops:>9.2e} {hours:>8,.2f}")
