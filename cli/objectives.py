"""Which objective a search minimises, from its options, and what one score of it costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation.data.tokenized import TokenizedDocuments, leading_special_tokens
from ..evaluation.objectives.base import WindowObjective, WindowScore
from ..evaluation.objectives.gradients import GradientObjective
from ..evaluation.objectives.key_tokens import KeyTokenObjective
from ..evaluation.objectives.mixed import MixedObjective
from ..evaluation.objectives.needle import NeedleObjective, NeedleOptions
from ..evaluation.objectives.perplexity import PerplexityObjective
from ..evaluation.objectives.short_long import ShortLongObjective
from ..evaluation.scoring.key_tokens import own_window_rule
from ..evolution import ParetoSettings, Settings
from ..rope import Installation, RescaleFactors
from .configs import SearchConfig

OwnLoss = Callable[[PreTrainedModel, Any], float]
"""Loss of a model with a candidate's factors in it on one of the documents: lower is better."""
READERS = {
    "objective_lengths": ("perplexity", "mixed"),
    "needle_weight": ("mixed",),
    "needle_style": ("needle", "mixed"),
    "needle_kinds": ("needle", "mixed"),
    "needle_questions": ("needle", "mixed"),
    "needle_distractors": ("needle", "mixed"),
    "longppl_alpha": ("longppl",),
    "longppl_beta": ("longppl",),
    "longppl_trunc_len": ("longppl",),
    "longppl_sliding_window": ("longppl",),
}
"""Objectives that read an option."""


def build_objective(
    config: SearchConfig,
    settings: Settings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    installation: Installation,
    data: TokenizedDocuments,
) -> GradientObjective | ShortLongObjective:
    """Return the objective on the model's device; for a Pareto search, with windows of the original length, too.

    Raises:
        ValueError: options don't fit together, or the documents don't fit them.
    """
    parts = Parts(config, settings.windows_per_document, model, tokenizer, installation, data)
    objective = _chosen(config, parts)
    if isinstance(settings, ParetoSettings):
        return ShortLongObjective(objective, parts.perplexity(installation.geometry.original_length))
    return GradientObjective(objective)


def _chosen(config: SearchConfig, parts: "Parts") -> WindowObjective | MixedObjective:
    lengths = perplexity_lengths(config)
    if config.objective == "longppl":
        return parts.key_tokens()
    if config.objective == "needle":
        return parts.needle()
    weighted: list[tuple[WindowObjective, float]] = [(parts.perplexity(length), lengths[length]) for length in lengths]
    if config.objective == "mixed":
        weighted = [(part, (1 - config.needle_weight) * weight) for part, weight in weighted]
        weighted.append((parts.needle(), config.needle_weight))
    return MixedObjective(weighted) if len(weighted) > 1 else weighted[0][0]


def forward_lengths(config: SearchConfig) -> list[int]:
    """Return the tokens of each forward that scores one candidate on one window; a model's objective charges their sum.

    Raises:
        ValueError: options don't fit together.
    """
    others = [] if config.objective == "perplexity" else [config.target_length]
    return [*perplexity_lengths(config), *others]


def perplexity_lengths(config: SearchConfig) -> dict[int, float]:
    """Return the lengths that perplexity is measured at, in tokens, with weights of sum 1; empty where it is not.

    Raises:
        ValueError: options don't fit together.
    """
    check_options(config)
    if config.objective not in READERS["objective_lengths"]:
        return {}
    weights = dict(_length_and_weight(part, config) for part in config.objective_lengths)
    if len(weights) < len(config.objective_lengths):
        raise ValueError(f"objective_lengths must name each length once, got {' '.join(config.objective_lengths)}")
    weights = weights or {config.target_length: 1.0}
    return {length: weight / sum(weights.values()) for length, weight in weights.items()}


class OwnObjective:
    """An objective of the user's own: a function of the model and a document, for one candidate after the other."""

    def __init__(
        self,
        loss: OwnLoss,
        model: PreTrainedModel,
        installation: Installation,
        documents: Sequence[Any],
        target_length: int,
    ) -> None:
        self.loss, self.model, self.installation = loss, model, installation
        self.documents, self.target_length = documents, target_length

    def price(self, document: int, gradient: bool) -> int:
        """Return what a score counts as: tokens that nobody counts are taken to be those of the target length."""
        return self.target_length

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> list[WindowScore]:
        """Return one score per candidate, in order."""
        return [self._one(candidate, document) for candidate in candidates]

    def _one(self, candidate: RescaleFactors, document: int) -> WindowScore:
        self.installation.set([candidate])
        loss = float(self.loss(self.model, self.documents[document]))
        return WindowScore(nats=loss, tokens=1, forwarded=self.target_length)


@dataclass(frozen=True)
class Parts:
    """Builds the objectives that a search may be made of."""

    config: SearchConfig
    windows_per_document: int
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    installation: Installation
    data: TokenizedDocuments

    def perplexity(self, length: int) -> PerplexityObjective:
        """Return the loss of all tokens of windows of `length` tokens."""
        return PerplexityObjective(
            self.model,
            self.installation,
            self.data.documents,
            length,
            self.config.batch_size,
            self.windows_per_document,
            len(leading_special_tokens(self.tokenizer)),
        )

    def needle(self) -> NeedleObjective:
        """Return the loss of answers about needles in windows of the target length."""
        config = self.config
        return NeedleObjective(
            self.model,
            self.installation,
            self.tokenizer,
            self.data,
            config.target_length,
            config.batch_size,
            self.windows_per_document,
            NeedleOptions(
                config.needle_style,
                tuple(config.needle_kinds),
                config.needle_questions,
                config.needle_distractors,
                config.seed,
            ),
        )

    def key_tokens(self) -> KeyTokenObjective:
        """Return the loss of the tokens that are key to the unmodified model, in windows of the target length."""
        config = self.config
        rule = own_window_rule(
            self.installation.geometry.original_length,
            config.longppl_alpha,
            config.longppl_beta,
            config.longppl_trunc_len,
            config.longppl_sliding_window,
        )
        return KeyTokenObjective(self.perplexity(config.target_length), rule)


def check_options(config: SearchConfig) -> None:
    """Refuse options that the objective does not read.

    Raises:
        ValueError: the message names the option and who reads it.
    """
    for field in fields(config):
        readers = READERS.get(field.name, (config.objective,))
        value = getattr(config, field.name)
        if config.objective not in readers and value != field.default:
            raise ValueError(
                f"{field.name} must be left out with the objective {config.objective}, which does not read it, got "
                f"{value}; choose --objective {' or '.join(readers)}"
            )
    if not 0 < config.needle_weight < 1:
        raise ValueError(
            f"needle_weight must be between 0 and 1, got {config.needle_weight}; for one of the two alone choose "
            "--objective perplexity or needle"
        )


def _length_and_weight(part: str, config: SearchConfig) -> tuple[int, float]:
    length, _, weight = part.partition(":")
    try:
        pair = int(length), float(weight)
    except ValueError:
        pair = 0, 0.0
    if not (2 <= pair[0] <= config.target_length and 0 < pair[1] < float("inf")):
        raise ValueError(
            f"objective_lengths must be LENGTH:WEIGHT with lengths from 2 to the target length {config.target_length} "
            f"and weights above 0, got {part!r}; write e.g. 256:0.3 2048:0.7"
        )
    return pair
