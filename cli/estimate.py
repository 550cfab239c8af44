"""What a search costs before it starts: candidates, tokens, floating-point operations, hours."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..evaluation.scoring.cost import ModelSize, forward_flops, model_size
from ..evaluation.scoring.model import read_config
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
    build_seeds,
    build_strategy,
    cost_of,
)
from ..rope import RopeGeometry, rope_geometry
from ..rope.describe import skeleton
from .budget import with_budget
from .configs import SearchConfig
from .objectives import forward_lengths
from .readjust import prepare_readjustment
from .seeds import seed_options


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


def print_estimate(
    config: SearchConfig, settings: Settings, space_of: Callable[[Settings, SearchConfig, RopeGeometry], Space]
) -> None:
    """Print a table of the paper's search on five documents, and of the chosen one on `samples` and its objective.

    Raises:
        ValueError: the model has no readable configuration, or speed or price are not above 0.
    """
    for name in ("sustained_tflops", "price_per_hour"):
        if (value := getattr(config, name)) is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} must be finite and above 0, got {value}; e.g. 400 TFLOP/s for an H200")
    model = skeleton(read_config(config.model))
    config = prepare_readjustment(config, model)
    geometry, size = rope_geometry(model, config.original_length), model_size(model)

    paper = SearchConfig(
        config.model,
        config.tokenized,
        config.target_length,
        config.output_dir,
        original_length=config.original_length,
        readjust=config.readjust,
    )
    searches = [(PaperSettings(), paper, 5), (settings, config, config.samples or settings.num_documents)]
    money = f" {'price':>10}" if config.price_per_hour is not None else ""
    print(f"{'search':<12} {'candidates':>10} {'scored tokens':>15} {'FLOPs':>9} {'hours':>8}{money}")
    for chosen, options, num_documents in searches:
        space = space_of(chosen, options, geometry)
        lengths = WindowLengths(chosen, options, num_documents, geometry.original_length)
        chosen, budget = with_budget(chosen, options, lengths.price(0, False))
        seeds = build_seeds(seed_options(options, geometry), geometry, space)
        strategy = build_strategy(chosen, space, seeds, num_documents, options.seed)
        one = plan(strategy, lengths.price, budget.max_scored_tokens)
        if isinstance(chosen, HybridSettings):  # it may spend what the plan has left
            one = replace(one, scores={0: chosen.num_scores})
        _print_row(chosen.strategy, one, lengths, size, config)
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


def _print_row(name: str, one: Plan, lengths: WindowLengths, size: ModelSize, config: SearchConfig) -> None:
    forwards: Counter[int] = Counter()
    for document, count in one.scores.items():
        for length in lengths.of(document):
            forwards[length] += count
    tokens = sum(length * count for length, count in forwards.items())
    flops = sum(forward_flops(size, length) * count for length, count in forwards.items())
    hours = flops / (config.sustained_tflops * 1e12) / 3600
    price = f" {hours * config.price_per_hour:>10,.2f}" if config.price_per_hour is not None else ""
    print(f"{name:<12} {one.candidates:>10,} {tokens:>15,} {flops:>9.2e} {hours:>8,.2f}{price}")
