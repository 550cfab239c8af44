"""What a search costs before it starts: candidates, tokens, floating-point operations, hours."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ..evolution import CmaSettings, HybridSettings, LongRope2Settings, PaperSettings, Settings
from .configs import SearchConfig

NUM_SEEDS = 8
"""Seeds of a search that searches the attention factor: four methods, each with two attention factors."""


@dataclass(frozen=True)
class Plan:
    """Size of a search; what ends it early is not foreseen."""

    name: str
    candidates: int
    scores: int
    """Forwards of one candidate over one window."""


def plan(settings: Settings, num_documents: int) -> Plan:
    """Return how many candidates and scores a search will make at most (of the hybrid: about how many candidates)."""
    match settings:
        case PaperSettings():
            bred = settings.num_iterations * (settings.num_mutations + settings.num_crossovers)
            candidates = settings.population_size + bred
            return Plan(settings.strategy, candidates, candidates * num_documents)
        case LongRope2Settings():
            candidates = settings.population_size + settings.num_iterations * settings.num_parents
            return Plan(settings.strategy, candidates, candidates * num_documents)
        case CmaSettings():
            explored = settings.population_size * settings.num_iterations
            scores = (NUM_SEEDS + explored) * settings.documents_per_generation + 3 * num_documents
            return Plan(settings.strategy, NUM_SEEDS + explored, scores)
        case HybridSettings():
            finalists = settings.num_finalist_seeds + 3
            repeated = NUM_SEEDS * (settings.seed_windows - 1) + finalists * settings.selection_windows
            return Plan(settings.strategy, max(settings.num_scores - repeated, 1), settings.num_scores)
    raise TypeError(f"no plan for {settings}")


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


def print_estimate(config: SearchConfig, settings: Settings) -> None:
    """Print a table of the paper's search and the chosen one, on five documents and on `samples`.

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
    flops = forward_flops(model, config.target_length)
    print(f"{'search':<12} {'candidates':>10} {'scored tokens':>15} {'FLOPs':>9} {'hours':>8}")
    for one in (plan(PaperSettings(), 5), plan(settings, config.samples)):
        tokens, total = one.scores * config.target_length, one.scores * flops
        hours = total / (config.sustained_tflops * 1e12) / 3600
        print(f"{one.name:<12} {one.candidates:>10,} {tokens:>15,} {total:>9.2e} {hours:>8,.2f}")
    print(f"hours at {config.sustained_tflops:g} sustained TFLOP/s; forward passes only")
