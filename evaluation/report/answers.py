"""What a reader asks after the verdict: what the best method costs at short context, and how it is loaded."""

from collections.abc import Mapping
from typing import Any

from .metrics import format_value, measure
from .ranking import Ranking
from .verdict import difference_text, p_text

UNMODIFIED = "none"
"""Method of a model as it is."""


def short_context(ranking: Ranking, method: str, original_length: int | None) -> str:
    """Return in a sentence what a method costs within the trained length, against the unmodified model.

    Args:
        ranking: of the main task.
        method: the best one at the longest length.
        original_length: context length of the pre-training, in tokens; None: unknown.
    """
    if method == UNMODIFIED:
        return "At short context nothing changes: this is the unmodified model."
    trained = original_length or 0
    lengths = [length for length in ranking.standings if length <= trained and ranking.standing(length, UNMODIFIED)]
    if not lengths:
        return (
            "What it costs at short context was not measured: evaluate a length within the trained "
            f"{f'{trained:,} ' if trained else ''}tokens, with the method {UNMODIFIED}."
        )
    length = max(lengths)
    own, unmodified = ranking.standing(length, method), ranking.standing(length, UNMODIFIED)
    where = f"At short context ({length:,} of the trained {trained:,} tokens)"
    if own is None or unmodified is None:
        return f"{where} {method} has no score."
    values = [format_value(one.row.metric, one.row.value) for one in (own, unmodified)]
    start = f"{where} its {measure(ranking.task, ranking.metric)} is {values[0]}, {values[1]} of the unmodified model"
    contrast = ranking.contrast(length, method, UNMODIFIED)
    if contrast is None:
        return f"{start}."
    value, interval = difference_text(ranking.metric, contrast)
    shown = f"{value} ({interval})" if interval else value
    if contrast.p is None:
        return f"{start}: {shown}."
    return f"{start}: {shown}, {'' if contrast.significant else 'not '}significant, corrected {p_text(contrast.p)}."


def loading(method: str, factors: Mapping[str, Any] | None, config: Mapping[str, Any]) -> str:
    """Return how a method is loaded in Python and exported for other programs.

    Args:
        method: as it is reported.
        factors: its rescale factors, as results hold them; None: unknown.
        config: options of the evaluation, which name the sources of factors.
    """
    if method == UNMODIFIED:
        return "To load it: the model as it is."
    sources = dict(_named(text) for text in config.get("factors") or ())
    if method in sources:
        source, model = sources[method], config.get("model", "M")
        return (
            f'To load it: apply_factors(model, "{source}") in Python; for other programs longrope export --model '
            f"{model} --factors {source} --output-dir exported."
        )
    if factors is None:
        return f"To load it: apply_factors(model, ...) with the factors of {method}."
    ratio = max(1.0, factors["target_length"] / factors["original_length"])
    built = f'build_method("{method}", {ratio:g}).factors(rope_geometry(model))'
    return f"To load it: apply_factors(model, {built}) in Python."


def _named(text: str) -> tuple[str, str]:
    name, equals, source = text.rpartition("=")
    return name if equals else "longrope", source
