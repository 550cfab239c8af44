"""What a search costs before it starts: candidates, tokens, floating-point operations, hours."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ..evaluation.model import read_config
from ..evolution import (
    Evaluation,
    Gradient,
    HybridSettings,
    PaperSettings,
    Request,
    Settings,
    Space,
    Strategy,
    build_strategy,
)
from ..rope import RopeGeometry, rope_geometry
from .configs import SearchConfig
from .objectives import perplexity_lengths, tokens_per_score
from .seeds import build_seeds


@dataclass(frozen=True)
class Plan:
    """Size of a search."""

    name: str
    candidates: int
    scores: int
    """Forwards of one candidate over one window; a gradient counts as three."""


class EndlessProgress:
    """Stands in for a model: each new candidate is better than all before it, so that no search stagnates."""

    def __init__(self) -> None:
        self._ranks: dict[Any, int] = {}
        self._known: set[tuple[Any, int, bool]] = set()
        self.scores = 0

    @property
    def candidates(self) -> int:
        """Different candidates so far."""
        return len(self._ranks)

    def answer(self, request: Request) -> Evaluation:
        """Return an evaluation, and count what of it had not been asked before."""
        rank = self._ranks.setdefault(request.genome, len(self._ranks))
        asked = {(request.genome, document, request.gradient) for document in request.documents}
        self.scores += len(asked - self._known) * request.scores_per_document
        self._known |= asked
        num_documents = len(request.documents)
        gradients = (Gradient((-1.0,) * len(request.genome.steps), 0.0),) * num_documents if request.gradient else ()
        return Evaluation(request, (10.0 / (1 + rank),) * num_documents, (1,) * num_documents, gradients=gradients)


def plan(strategy: Strategy, name: str, max_scores: int | None = None) -> Plan:
    """Run a strategy without a model and count what it asks for.

    Args:
        strategy: fresh; it is spent afterwards.
        name: what to call it.
        max_scores: limit of the scores; what ends a search earlier (no gain any more, wall time) is not foreseen.
    """
    model = EndlessProgress()
    while not strategy.done and (max_scores is None or model.scores < max_scores):
        strategy.tell([model.answer(request) for request in strategy.ask()])
    return Plan(name, model.candidates, model.scores if max_scores is None else min(model.scores, max_scores))


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
    model_config = read_config(config.model)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    geometry = rope_geometry(model, config.original_length)

    def planned(settings: Settings, config: SearchConfig, num_documents: int) -> Plan:
        space = space_of(settings, config, geometry)
        seeds = build_seeds(config, geometry, space)
        strategy = build_strategy(settings, space, seeds, num_documents, config.seed)
        limit = config.max_scored_tokens
        one = plan(strategy, settings.strategy, None if limit is None else limit // tokens_per_score(config))
        return replace(one, scores=settings.num_scores) if isinstance(settings, HybridSettings) else one

    paper = SearchConfig(
        config.model, config.tokenized, config.target_length, config.output_dir, original_length=config.original_length
    )
    print(f"{'search':<12} {'candidates':>10} {'scored tokens':>15} {'FLOPs':>9} {'hours':>8}")
    _print_row(planned(PaperSettings(), paper, 5), paper, model, config.sustained_tflops)
    _print_row(
        planned(settings, config, config.samples or settings.num_documents), config, model, config.sustained_tflops
    )
    print(f"hours at {config.sustained_tflops:g} sustained TFLOP/s; both searches at most, if they gain to their end")


def _print_row(one: Plan, config: SearchConfig, model: Any, sustained_tflops: float) -> None:
    per_score = tokens_per_score(config)
    lengths = list(perplexity_lengths(config))
    others = per_score - sum(lengths)
    flops = one.scores * sum(forward_flops(model, length) for length in [*lengths, *([others] if others else [])])
    hours = flops / (sustained_tflops * 1e12) / 3600
    print(f"{one.name:<12} {one.candidates:>10,} {one.scores * per_score:>15,} {flops:>9.2e} {hours:>8,.2f}")
