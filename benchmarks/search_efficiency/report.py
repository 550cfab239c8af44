"""The report: JSON with every number, a table per model, a picture, and what is missing."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from longrope.evaluation.report.table import markdown

from .journal import Journal, Key, Record
from .measures import Cell, bars, best_row, bounds, cells, start_tokens, summary
from .rows import PAPER, PAPER_ATTENTION, PAPER_FRESH, ZERO, is_budget

BARS = {
    "gain_over_best_baseline": "the best plain baseline",
    "gain_over_best_swept_baseline": "the best swept baseline",
    "gain_over_zero_search_seed": "the zero-search seed",
    "gain_over_paper_same_seeds_in_full": "the paper's search in full, same seeds, attention",
    "gain_at_equal_tokens": "the same at equal tokens",
}
MATCHING = {
    "tokens_to_match_paper_same_seeds": "by its incumbents",
    "budget_to_match_paper_same_seeds": "by its budgets",
}
DRAWN = {PAPER: "#999999", PAPER_ATTENTION: "#0072B2", PAPER_FRESH: "#56B4E9"}
LEVELS = {"plain": ":", "swept": "--"}


def write_report(journal: Journal, path: Path, compared: int) -> None:
    """Write `path` with the suffixes .json, .md and .png, and print the tables.

    Raises:
        ValueError: no run is finished.
    """
    if not journal.records:
        raise ValueError("journals must hold a finished run, got none; run more minutes")
    report = build_report(journal, compared)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    text = render(report, path.name)
    path.with_suffix(".md").write_text(text)
    draw(journal.records, path.with_suffix(".png"))
    print(text)


def build_report(journal: Journal, compared: int) -> dict[str, Any]:
    """Return every number."""
    found = cells(journal.records)
    planned = dict.fromkeys(key[2] for one in journal.headers for key in one["planned"])
    return {
        "results": [
            {
                "model": model,
                "ratio": ratio,
                "documents": len(next(iter(next(iter(cell.values())).values())).losses),
                "rows": {row: summary(cell[row]) for row in planned if row in cell},
                "bars": bars(cell, compared),
                "bounds": bounds(cell, compared),
                "start_tokens": start_tokens(cell, compared),
            }
            for (model, ratio), cell in found.items()
        ],
        "missing": journal.missing,
        "failed": [[*key, error] for key, error in journal.failures.items()],
        "provenance": [{name: part for name, part in one.items() if name != "planned"} for one in journal.headers],
    }


def render(report: Mapping[str, Any], name: str) -> str:
    """Return the report in text."""
    results: list[dict[str, Any]] = report["results"]
    parts = ["# Search efficiency", "", _explained(results), ""]
    for model in dict.fromkeys(one["model"] for one in results):
        own = [one for one in results if one["model"] == model]
        parts += [f"## {model}", "", _perplexities(own), _gains(own), _matches(own), _start_tokens(own)]
        parts += [part for one in own for part in (_bounds(one), _origins(one)) if part is not None]
    parts += [f"![held-out perplexity against scored tokens]({name}.png)", "", *_left_out(report), _origin(report)]
    return "\n".join(part for part in parts if part is not None).rstrip() + "\n"


def _explained(results: Sequence[Mapping[str, Any]]) -> str:
    documents = sorted({one["documents"] for one in results})
    return (
        f"Perplexity on {' or '.join(map(str, documents))} documents that no search saw, in float32, the mean over "
        "seeds, with 95 % bootstrap intervals over seeds and documents. Tokens are scored tokens, backward passes "
        "counted twice, the median over seeds. Best baselines are those that are best on these same documents."
    )


def _perplexities(results: Sequence[Mapping[str, Any]]) -> str:
    rows = list(dict.fromkeys(row for one in results for row in one["rows"]))
    header = ["perplexity (tokens; seeds)", *(f"{one['ratio']}x" for one in results)]
    return markdown(header, [[row, *(_perplexity(one["rows"].get(row)) for one in results)] for row in rows])


def _perplexity(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    cost = f"{row['scored_tokens'] / 1e6:.2f} M; {len(row['seeds'])}" if row["scored_tokens"] else "none"
    return f"{row['perplexity']:.3f} [{row['low']:.3f}, {row['high']:.3f}] ({cost})"


def _gains(results: Sequence[Mapping[str, Any]]) -> str | None:
    name = next((one["bars"]["default"] for one in results if one["bars"]), "default")
    lines = [[text, *(_gain(one["bars"].get(key)) for one in results)] for key, text in BARS.items()]
    if all(set(line[1:]) == {"-"} for line in lines):
        return None
    return markdown([f"perplexity of {name} below that of", *(f"{one['ratio']}x" for one in results)], lines)


def _gain(found: Mapping[str, Any] | None) -> str:
    if not found or "share" not in found:
        return "-"
    over = f" {found['over'].partition(' ')[2]}" if found.get("over", "").startswith(("plain ", "swept ")) else ""
    interval = f"[{100 * found['low']:.2f}, {100 * found['high']:.2f}]"
    return f"{100 * found['share']:.2f} % {interval}, {found['seeds_below']} of {found['seeds']} seeds{over}"


def _matches(results: Sequence[Mapping[str, Any]]) -> str | None:
    lines = [[text, *(_match(one["bars"].get(key)) for one in results)] for key, text in MATCHING.items()]
    if all(set(line[1:]) == {"-"} for line in lines):
        return None
    header = "default reaches the paper's search in full (same seeds, attention) at a share of its tokens of"
    return markdown([header, *(f"{one['ratio']}x" for one in results)], lines)


def _match(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "-"
    matched = f"{found['seeds_that_match']} of {len(found['by_seed'])} seeds"
    if found["median"] is None:
        return f"not in the median; {matched}"
    per_token = found["share_of_paper"] / found["median"]
    low, high = ("never" if end is None else f"{end * per_token:.4f}" for end in (found["low"], found["high"]))
    return f"{found['share_of_paper']:.4f} [{low}, {high}]; {matched}"


def _bounds(one: Mapping[str, Any]) -> str | None:
    """Return what each search promised and what it kept."""
    told: list[dict[str, Any]] = one["bounds"]
    if not told:
        return None
    lines = [[str(run["seed"]), _told(run["gain"]), *_kept(run)] for run in told]
    beside = [run for run in told if "heldout_gain_over_plain" in run]
    worse = sum(run["heldout_gain_over_plain"]["mean"] < 0 for run in beside)
    surely = sum(run["heldout_gain_over_plain"]["high"] < 0 for run in beside)
    missed, certain = (sum(run.get(key, False) for run in told) for key in ("missed", "surely_missed"))
    header = ["seed", "gain as the search told it", "held out", "bound kept", "held out, over the best plain baseline"]
    return (
        f"{one['ratio']}x: {one['bars']['default']}, gain over the best baseline of its own selection, in % of "
        f"perplexity. Of {len(told)} searches {sum(run['bound'] > 0 for run in told)} were sure of a gain, the others "
        f"returned that baseline. On held-out documents {missed} are below their bound, {certain} of them surely (95 % "
        f"intervals over documents), and {worse} are worse than the best plain baseline, {surely} of them surely.\n\n"
        + markdown(header, lines)
    )


def _told(gain: Mapping[str, float | None]) -> str:
    return _percent(gain) + f", {100 * (gain['confidence'] or 0.0):.0f} %" if gain else "nothing found"


def _kept(run: Mapping[str, Any]) -> list[str]:
    if "heldout_gain" not in run:
        kept = ["-", "-"]
    else:
        kept = [
            _percent(run["heldout_gain"]),
            "surely not" if run["surely_missed"] else "no" if run["missed"] else "yes",
        ]
    return [*kept, _percent(run["heldout_gain_over_plain"]) if "heldout_gain_over_plain" in run else "-"]


def _percent(gain: Mapping[str, float | None]) -> str:
    if None in gain.values():
        return "no bound"
    mean, low, high = (-100 * math.expm1(-(gain[name] or 0.0)) for name in ("mean", "low", "high"))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _origins(one: Mapping[str, Any]) -> str | None:
    """Say which runs were made where and by which code, if not all are of the same."""
    by_origin: dict[str, list[str]] = {}
    for name, row in one["rows"].items():
        for origin in dict.fromkeys(row["origins"].values()):
            seeds = [str(seed) for seed, own in row["origins"].items() if own == origin]
            by_origin.setdefault(origin, []).append(f"{name} ({', '.join(seeds)})")
    if len(by_origin) < 2:
        return None
    told = "; ".join(f"{origin}: {', '.join(rows)}" for origin, rows in by_origin.items())
    return f"{one['ratio']}x, rows with their seeds by device, which differ in the last bits, and commit: {told}.\n"


def _start_tokens(results: Sequence[Mapping[str, Any]]) -> str | None:
    there = [one for one in results if one["start_tokens"]]
    if not there:
        return None
    rows = list(dict.fromkeys(row for one in there for row in one["start_tokens"]["found"]))
    lines = [[row, *(_chosen(one["start_tokens"]["found"].get(row, {})) for one in there)] for row in rows]
    lines.append(["gain over no start tokens", *(_gain(one["start_tokens"]["gain"]) for one in there)])
    return markdown(["n_hat found (searches)", *(f"{one['ratio']}x" for one in there)], lines)


def _chosen(found: Mapping[int, int]) -> str:
    return ", ".join(f"{n_hat} ({count})" for n_hat, count in sorted(Counter(found.values()).items())) or "-"


def _left_out(report: Mapping[str, Any]) -> list[str]:
    """Say what was planned and is not there."""
    lines: list[str] = []
    if report["missing"]:
        counted = Counter(row for _, _, row, _ in report["missing"])
        named = "; ".join(f"{row} ({count})" for row, count in counted.items())
        lines += [f"Planned and missing: {len(report['missing'])} runs over all models and ratios: {named}.", ""]
    if report["failed"]:
        named = "; ".join(
            f"{row}, {model} {ratio}x, seed {seed}: {why}" for model, ratio, row, seed, why in report["failed"]
        )
        lines += [f"Failed: {named}.", ""]
    return lines


def _origin(report: Mapping[str, Any]) -> str:
    lines = []
    for one in report["provenance"]:
        versions = ", ".join(f"{name} {value}" for name, value in one["versions"].items())
        models = "; ".join(f"{name} sha256 {str(model.get('sha256'))[:16]}" for name, model in one["models"].items())
        lines.append(f"Run on {one['device']}, commit {one['commit']}, {versions}; models: {models}.")
    return "\n\n".join(dict.fromkeys(lines))


def draw(records: Mapping[Key, Record], path: Path) -> None:
    """Draw held-out perplexity against scored tokens, the median over seeds, one panel per model and ratio."""
    found = cells(records)
    models, ratios = sorted({model for model, _ in found}), sorted({ratio for _, ratio in found})
    size = (3.6 * len(ratios), 3.2 * len(models) + 2)  # the legend is below
    figure, panels = plt.subplots(len(models), len(ratios), figsize=size, squeeze=False, layout="constrained")
    for row, model in enumerate(models):
        for column, ratio in enumerate(ratios):
            axes = panels[row][column]
            axes.set_title(f"{model}, {ratio}x")
            axes.set_xscale("log")
            axes.set_xlabel("scored tokens")
            axes.set_ylabel("held-out perplexity")
            _draw_cell(axes, found.get((model, ratio), {}))
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    ncols = min(3, len(ratios))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=ncols, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_cell(axes: Any, cell: Cell) -> None:
    for row, color in DRAWN.items():
        if row in cell:
            _curve(axes, [[*run.trajectory, (run.tokens, run.losses)] for run in cell[row].values()], row, color)
    budgets = {row: runs for row, runs in cell.items() if is_budget(row)}
    for run in (run for runs in budgets.values() for run in runs.values()):
        axes.plot(run.tokens, _median([run.losses]), ".", color="#D55E00", label="default, each seed")
    if budgets:
        points = [
            (statistics.median(run.tokens for run in runs.values()), _median([run.losses for run in runs.values()]))
            for runs in budgets.values()
        ]
        axes.plot(*zip(*sorted(points), strict=True), color="#D55E00", label="default, median of each budget")
    for kind, style in LEVELS.items():
        if (row := best_row(cell, kind)) is not None:
            level = _median([run.losses for run in cell[row].values()])
            axes.axhline(level, color="black", linestyle=style, linewidth=0.8, label=f"best {kind} baseline")
    if ZERO in cell:
        level = _median([run.losses for run in cell[ZERO].values()])
        axes.axhline(level, color="#009E73", linewidth=0.8, label=ZERO)


def _curve(axes: Any, runs: Sequence[Sequence[tuple[int, Sequence[float]]]], label: str, color: str) -> None:
    """Draw the median of runs whose points are at the same places; a shorter run ends where it ends."""
    length = min(map(len, runs))
    tokens = [statistics.median(run[place][0] for run in runs) for place in range(length)]
    levels = [_median([run[place][1] for run in runs]) for place in range(length)]
    axes.plot(tokens, levels, marker="o", markersize=2.5, color=color, label=label)


def _median(losses: Sequence[Sequence[float]]) -> float:
    return statistics.median(math.exp(statistics.fmean(one)) for one in losses)
