"""The numbers of a report: losses with intervals over seeds and documents, gains, and when a level is reached."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longrope.evaluation.comparison.statistics import crossed_interval
from longrope.evaluation.scoring.estimates import CONFIDENCE, RESAMPLES

from .journal import Key, Record
from .rows import PAPER_ATTENTION, ZERO, default_row, is_budget, is_seedless

SEED = 0
"""Of the resampling."""

Cell = Mapping[str, Mapping[int, Record]]
"""Runs of one model at one ratio: by row, by seed."""


def cells(records: Mapping[Key, Record]) -> dict[tuple[str, int], dict[str, dict[int, Record]]]:
    """Return the runs by model and ratio, then by row, then by seed."""
    found: dict[tuple[str, int], dict[str, dict[int, Record]]] = {}
    for key in sorted(records, key=lambda key: (key.model, key.ratio, key.seed)):
        found.setdefault((key.model, key.ratio), {}).setdefault(key.row, {})[key.seed] = records[key]
    return found


def losses(runs: Mapping[int, Record]) -> NDArray[np.float64]:
    """Return the losses of a row, shape (seeds, documents)."""
    return np.array([run.losses for run in runs.values()])


def summary(runs: Mapping[int, Record]) -> dict[str, Any]:
    """Return a row's perplexity with its interval, and its cost."""
    values = losses(runs)
    low, high = crossed_interval(values, SEED)
    return {
        "seeds": sorted(runs),
        "perplexity": math.exp(values.mean()),
        "low": math.exp(low),
        "high": math.exp(high),
        "by_seed": {seed: math.exp(statistics.fmean(run.losses)) for seed, run in runs.items()},
        "scored_tokens": statistics.median(run.tokens for run in runs.values()),
        "scores": statistics.median(run.scores for run in runs.values()),
        "seconds": statistics.median(run.seconds for run in runs.values()),
        "start_tokens": {seed: run.start_tokens for seed, run in runs.items()},
        "attention_factor": {seed: run.attention_factor for seed, run in runs.items()},
        "origins": {seed: run.origin for seed, run in runs.items()},
    }


def gain(
    better: Mapping[int, Sequence[float]], other: Mapping[int, Sequence[float]], seedless: bool = False
) -> dict[str, Any] | None:
    """Return by how much of its perplexity one row is below another, with an interval over seeds and documents.

    Seeds are compared with the same seed; a row that is `seedless` with all. None if they share none.
    """
    if seedless:
        other = dict.fromkeys(better, next(iter(other.values())))
    differences = np.array([np.subtract(other[seed], better[seed]) for seed in better if seed in other])
    if not differences.size:
        return None
    low, high = crossed_interval(differences, SEED)
    return {
        "share": -math.expm1(-differences.mean()),
        "low": -math.expm1(-low),
        "high": -math.expm1(-high),
        "nats": float(differences.mean()),
        "seeds": len(differences),
        "seeds_below": int((differences.mean(axis=1) > 0).sum()),
    }


def _results(runs: Mapping[int, Record]) -> dict[int, list[float]]:
    return {seed: run.losses for seed, run in runs.items()}


def best_row(cell: Cell, kind: str) -> str | None:
    """Return the row of a kind (plain, swept) with the lowest held-out loss, a choice that favours the baselines."""
    alike = {row: losses(runs).mean() for row, runs in cell.items() if row.startswith(f"{kind} ")}
    return min(alike, key=lambda row: alike[row], default=None)


def bars(cell: Cell, compared: int) -> dict[str, Any]:
    """Return what the default at a budget brings beside the others, and what it needs to match the paper's search."""
    default = cell.get(default_row(compared))
    if default is None:
        return {}
    plain, swept = best_row(cell, "plain"), best_row(cell, "swept")
    own = _results(default)
    found: dict[str, Any] = {"default": default_row(compared)}
    for name, row in {
        "gain_over_best_baseline": plain,
        "gain_over_best_swept_baseline": swept,
        "gain_over_zero_search_seed": ZERO,
        "gain_over_paper_same_seeds_in_full": PAPER_ATTENTION,
    }.items():
        if row is not None and row in cell:
            found[name] = {"over": row, **(gain(own, _results(cell[row]), is_seedless(row)) or {})}
    if PAPER_ATTENTION in cell:
        found["gain_at_equal_tokens"] = gain(own, at_equal_tokens(default, cell[PAPER_ATTENTION]))
        found |= matching(cell)
    return found


def bounds(cell: Cell, compared: int) -> list[dict[str, Any]]:
    """Return what each search of the default said of its gain, and what the held-out documents say; all in nats.

    A search whose lower bound is above 0 claims that bound over the best baseline of its own selection; another returns
    that baseline, as does one that found nothing to compare: its bound is 0.
    """
    plain = best_row(cell, "plain")
    told: list[dict[str, Any]] = []
    for seed, run in cell.get(default_row(compared), {}).items():
        if run.gain is None:
            continue
        bound = max(run.gain.get("low") or 0.0, 0.0)
        one: dict[str, Any] = {"seed": seed, "device": run.device, "gain": run.gain, "bound": bound}
        if run.over is not None:
            one["heldout_gain"] = found = _heldout(run.losses, run.over)
            one["missed"] = found["mean"] < bound
            one["surely_missed"] = found["high"] < bound
        if plain is not None:
            one["heldout_gain_over_plain"] = _heldout(run.losses, next(iter(cell[plain].values())).losses)
        told.append(one)
    return told


def _heldout(own: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Return the mean gain with an interval over documents, in nats."""
    differences = np.subtract(other, own)[None]
    low, high = crossed_interval(differences, SEED)
    return {"mean": float(differences.mean()), "low": low, "high": high}


def at_equal_tokens(default: Mapping[int, Record], paper: Mapping[int, Record]) -> dict[int, list[float]]:
    """Return the losses of the paper's best candidate once it had spent what the default did, or its first one."""
    known = {}
    for seed in default.keys() & paper.keys():
        points = [*paper[seed].trajectory, (paper[seed].tokens, paper[seed].losses)]
        within = [one for tokens, one in points if tokens <= default[seed].tokens]
        known[seed] = within[-1] if within else points[0][1]
    return known


def matching(cell: Cell) -> dict[str, Any]:
    """Return when the default reaches what the paper's search, from the same seeds and with attention, ends at.

    `tokens_to_match_paper_same_seeds`: by the incumbents of its longest run, the first that is as good. It is known by
    held-out documents, which a user has not. `budget_to_match_paper_same_seeds`: the smallest budget whose result is as
    good, with those of all larger ones.
    """
    paper = cell[PAPER_ATTENTION]
    defaults = [runs for row, runs in cell.items() if is_budget(row)]
    first: dict[int, float] = {}
    budget: dict[int, float] = {}
    for seed, reference in paper.items():
        runs = sorted((runs[seed] for runs in defaults if seed in runs), key=lambda run: run.tokens)
        if not runs:
            continue
        level = statistics.fmean(reference.losses)
        points = [*runs[-1].trajectory, (runs[-1].tokens, runs[-1].losses)]
        first[seed] = next((tokens for tokens, one in points if statistics.fmean(one) <= level), math.inf)
        reached = [statistics.fmean(run.losses) <= level for run in runs]
        fit = [run.tokens for place, run in enumerate(runs) if all(reached[place:])]
        budget[seed] = fit[0] if fit else math.inf
    tokens = {seed: paper[seed].tokens for seed in first}
    return {
        "tokens_to_match_paper_same_seeds": over_seeds(first, tokens),
        "budget_to_match_paper_same_seeds": over_seeds(budget, tokens),
    }


def over_seeds(found: Mapping[int, float], paper: Mapping[int, int]) -> dict[str, Any] | None:
    """Return the median of token counts, and as shares of the paper's, with an interval over seeds; None: never."""
    if not found:
        return None
    values = np.array(list(found.values()))
    drawn = np.random.default_rng(SEED).integers(len(values), size=(RESAMPLES, len(values)))
    medians = np.sort(np.median(values[drawn], axis=1))
    ends = [medians[int(level * (RESAMPLES - 1))] for level in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)]
    median, low, high = (None if math.isinf(value) else float(value) for value in (np.median(values), *ends))
    total = statistics.median(paper.values())
    return {
        "median": median,
        "low": low,
        "high": high,
        "share_of_paper": None if median is None else median / total,
        "by_seed": {seed: None if math.isinf(value) else value for seed, value in found.items()},
        "seeds_that_match": int(np.isfinite(values).sum()),
    }


def start_tokens(cell: Cell, compared: int) -> dict[str, Any] | None:
    """Return the n_hat that the default finds at its budgets, and what searching it brings; None without the default.

    The gain is that over the default without start tokens at the compared budget, None where that was not run.
    """
    found = {
        row: {seed: run.start_tokens for seed, run in runs.items()} for row, runs in cell.items() if is_budget(row)
    }
    searched = cell.get(default_row(compared))
    without = cell.get(f"{default_row(compared)}, no start tokens")
    if not found:
        return None
    brought = None if searched is None or without is None else gain(_results(searched), _results(without))
    return {"found": found, "gain": brought}
