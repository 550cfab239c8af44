"""From evaluations and searches to a report: which sections there are, and what stands first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...rope import RescaleFactors
from . import sections, tables
from .answers import loading, short_context
from .document import Part, Report, Section
from .metrics import headlines, suites
from .numbers import SearchCurve
from .ranking import Ranking, rank
from .relations import best_variants
from .runs import Evaluation, only
from .sweep_part import SweepRun, sweep_part
from .verdict import short_verdict, verdict

MAX_METHODS = 12
"""Of more methods, as in a sweep, the best variant of each family is compared."""


def build_report(
    evaluations: Sequence[Evaluation],
    searches: Mapping[str, SearchCurve],
    searched: Mapping[str, RescaleFactors],
    sweeps: Sequence[SweepRun] = (),
) -> Report:
    """Return the report of some evaluations, sweeps and searches.

    Args:
        evaluations: of `runs.combine`; each becomes a part of its own.
        searches: curves of searches, by the name they are reported under.
        searched: factors that searches found, by name; shown where no evaluation tells the factors of its methods.
        sweeps: each becomes a part of its own.

    Raises:
        ValueError: there is nothing to report.
    """
    if not (evaluations or searches or searched or sweeps):
        raise ValueError("runs must hold results or a search, got neither; run longrope evaluate or longrope search")
    parts, csv = [], {}
    for place, evaluation in enumerate(evaluations, start=1):
        suffix = "" if len(evaluations) + len(sweeps) == 1 else f"-{place}"
        part, rankings = evaluation_part(evaluation, suffix)
        parts.append(part)
        csv[f"results{suffix}"] = [vars(row) for row in evaluation.rows]
        csv[f"differences{suffix}"] = tables.contrast_rows(rankings)
        csv[f"costs{suffix}"] = tables.cost_rows(evaluation.costs)
    for place, sweep in enumerate(sweeps, start=len(evaluations) + 1):
        part, numbers = sweep_part(sweep, "" if len(evaluations) + len(sweeps) == 1 else f"-{place}")
        parts.append(part)
        csv |= numbers
    extra = [sections.search_section(searches)] if searches else []
    if searched and not any(evaluation.factors for evaluation in evaluations):
        extra.append(sections.lambda_section(searched))
    if extra:
        parts.append(Part("Search", ", ".join(searches or searched), _search_verdict(searches), [], extra))
    if len(evaluations) == 1 and not sweeps and extra:
        parts = [replace(parts[0], sections=_with(parts[0].sections, extra))]
    return Report([_numbered(part, place) for place, part in enumerate(parts, start=1)] if parts[1:] else parts, csv)


def evaluation_part(evaluation: Evaluation, suffix: str = "") -> tuple[Part, list[Ranking]]:
    """Return everything about one evaluation, and its rankings, that of the main task first.

    Args:
        evaluation: what was measured.
        suffix: of the names of its CSV files, e.g. `results-2`.

    Raises:
        ValueError: there are no numbers.
    """
    metrics = headlines(evaluation.rows) or dict([next(iter(m.items())) for m in suites(evaluation.rows).values()][:1])
    if not metrics:
        raise ValueError(f"results must hold at least one row, got none in {evaluation.sources[0]}; evaluate again")
    main_task, main_metric = next(
        ((t, m) for t, m in metrics.items() if t == "perplexity"), next(iter(metrics.items()))
    )
    longest = max(row.length for row in evaluation.rows if (row.task, row.metric) == (main_task, main_metric))
    every = list(dict.fromkeys(row.method for row in evaluation.rows))
    shown = every
    if len(every) > MAX_METHODS:
        shown = [row.method for row in best_variants(evaluation.rows, main_task, main_metric, longest).values()]
    chosen = only(evaluation, shown)
    metrics = {main_task: main_metric} | metrics
    rankings = [rank(chosen.rows, chosen.records, task, metric, sections.SEED) for task, metric in metrics.items()]
    rankings = [ranking for ranking in rankings if ranking.standings]
    findings = [*_answers(chosen, rankings[0], longest), *_findings(rankings)]
    if len(shown) < len(every):
        findings.append(sections.sweep_note(every, shown, main_task, longest))
    varied = sections.sensitivity_section(evaluation.rows, main_task, main_metric, longest)
    body = [*_sections(chosen, rankings, shown, metrics), varied, sections.failure_section(evaluation)]
    body += [
        sections.method_section(),
        sections.all_metrics_section(evaluation.rows, f"results{suffix}"),
        sections.provenance_section(evaluation, f"costs{suffix}"),
    ]
    title = Path(evaluation.provenances[0]["model"]["id"]).name
    part = Part(title, _facts(chosen), verdict(rankings[0], longest), findings, [one for one in body if one])
    return part, rankings


def _sections(
    chosen: Evaluation, rankings: Sequence[Ranking], methods: Sequence[str], metrics: Mapping[str, str]
) -> list[Section | None]:
    """Return the sections that compare methods."""
    rows, records, original_length = chosen.rows, chosen.records, _original_length(chosen)
    members = suites(rows)
    by_task = {ranking.task: ranking for ranking in rankings}
    found: list[Section | None] = [
        sections.task_section(
            ranking,
            rows,
            records,
            original_length,
            is_main=ranking is rankings[0],
            note=chosen.protocols.get(ranking.task, {}).get("note"),
        )
        for ranking in rankings
        if ranking.task not in members
    ]
    for suite, tasks in members.items():
        found.append(sections.suite_section(suite, tasks, by_task.get(suite), rows, records, original_length))
    if len(rankings) > 1:
        found.insert(1, sections.rank_section(rankings, methods))
    factors = {name: one for name, one in _factors(chosen).items() if name in methods}
    return [*found, sections.lambda_section(factors) if factors else None, sections.correlation_section(rows, metrics)]


def _answers(chosen: Evaluation, ranking: Ranking, longest: int) -> list[str]:
    """Return what the best method at the longest length costs at short context, and how it is loaded."""
    best, config = ranking.standings[longest][0].row.method, chosen.provenances[0].get("config", {})
    return [
        short_context(ranking, best, _original_length(chosen)),
        loading(best, chosen.factors.get(best), config),
    ]


def _findings(rankings: Sequence[Ranking]) -> list[str]:
    """Return the verdicts beside the first: the main task at the shorter lengths, the other tasks at their longest."""
    main, *others = rankings
    lengths = sorted(main.standings, reverse=True)[1:]
    return [
        *(short_verdict(main, length) for length in lengths),
        *(short_verdict(other, max(other.standings)) for other in others),
    ]


def _facts(evaluation: Evaluation) -> str:
    rows = evaluation.rows
    methods, lengths = len({row.method for row in rows}), sorted({row.length for row in rows})
    span = f"{lengths[0]:,} tokens" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,} tokens"
    original = _original_length(evaluation)
    trained = "" if original is None else f" trained on {original:,} tokens"
    counts = sorted({row.n for row in rows})
    items = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    model = evaluation.provenances[0]["model"]["id"]
    return f"{model}{trained}: {methods} methods at {span}, {items} documents or samples behind each number"


def _factors(evaluation: Evaluation) -> dict[str, RescaleFactors]:
    return {name: RescaleFactors(**one) for name, one in evaluation.factors.items()}


def _original_length(evaluation: Evaluation) -> int | None:
    return next((one.original_length for one in _factors(evaluation).values()), None)


def _search_verdict(searches: Mapping[str, SearchCurve]) -> str:
    """Return how far each search came."""
    sentences = []
    for name, curve in searches.items():
        if len(curve.scored_tokens):
            gain = f"{100 * float(np.expm1(curve.gain[-1])):+.1f}".replace("-", "−")
            sentences.append(
                f"After {curve.scored_tokens[-1]:,.0f} scored tokens the perplexity of the incumbent of {name} is "
                f"{gain} % against the best seed's, on the documents of the search."
            )
    return " ".join(sentences)


def _with(body: Sequence[Section], extra: Sequence[Section]) -> list[Section]:
    """Put further sections before the folded ones."""
    place = next((index for index, section in enumerate(body) if section.folded), len(body))
    return [*body[:place], *extra, *body[place:]]


def _numbered(part: Part, place: int) -> Part:
    """Give the figures of a part names that no other part has."""
    body = [
        replace(section, pictures=[replace(picture, name=f"{place}-{picture.name}") for picture in section.pictures])
        for section in part.sections
    ]
    return replace(part, sections=body)
