"""What a search costs and brings: the paper's in full against the default at several budgets, on the same model.

Cost is counted in scored tokens (a token through a forward pass is 1, through a backward pass 2 more; a forward that is
run again to save memory is not counted) and in seconds of the objective, which hold everything. All results are judged
on the same held-out documents, which no search saw. Every search runs through `longrope search` in a folder of its own;
folders that are complete are read, so that a stopped benchmark goes on.

Example: python benchmarks/search_efficiency.py --target-length 2048 --output-dir runs/efficiency/8x
--report benchmarks/reports/search_efficiency_8x
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import yaml

from longrope.evaluation.comparison.results import git_commit, model_fingerprint, versions
from longrope.evaluation.data.tokenized import TokenizedDocuments, load_tokenized
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring.model import load_model
from longrope.evolution import Genome, HistoryRow, Settings, Space, load_settings, read_history
from longrope.hyperparams import preset
from longrope.rope import Installation, RescaleFactors, build_method, install, load_factors

BASELINES = ("linear", "ntk", "yarn", "llama3")
TRAJECTORY = (0, 1, 2, 5, 10, 20, 30, 40)
"""Generations after which the paper's best candidate is judged."""
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "attention factor fixed (su)": {"search_attention": False},
    "no gradients": {"use_gradients": False},
    "one window per document, five documents": {"windows_per_document": 1},
    "steps half as long": {"trust_radius": 0.04},
    "a selection half as large": {"selection_share": 0.12},
}
"""The default with one ingredient changed, by the name it is reported under."""
FEW_DOCUMENTS = "one window per document, five documents"


@dataclass(frozen=True)
class Run:
    """One search: where it is, what it cost, what it found."""

    kind: str
    seed: int
    folder: Path

    @property
    def rows(self) -> list[HistoryRow]:
        """Its scores."""
        return read_history(self.folder / "history.jsonl").rows

    @property
    def factors(self) -> RescaleFactors:
        """What it found."""
        return load_factors(self.folder / "factors.json")


class HeldOut:
    """Losses on documents that no search saw, in float32, remembered on disk."""

    def __init__(self, args: argparse.Namespace, searched: Collection[str]) -> None:
        self.model, _ = load_model(args.model, "float32")
        self.model_id = args.model
        self.installation: Installation = install(self.model).__enter__()
        self.data: TokenizedDocuments = load_tokenized(
            args.eval_tokens, args.target_length, args.eval_samples, exclude=searched
        )
        self.objective = PerplexityObjective(
            self.model, self.installation, self.data.documents, args.target_length, batch_size=2
        )
        self.path = args.output_dir / f"heldout-{self.data.fingerprint(args.target_length)[:16]}.json"
        self.known: dict[str, list[float]] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def losses(self, factors: RescaleFactors) -> list[float]:
        """Return the mean nats per token of each document."""
        parts = [factors.lambdas.tolist(), factors.attention_factor, factors.start_tokens]
        key = json.dumps(parts)
        if key not in self.known:
            scores = [self.objective.score([factors], index)[0] for index in range(len(self.data.documents))]
            if failed := [score.error for score in scores if score.nats is None]:
                raise RuntimeError(f"held-out documents must have a loss, got: {failed[0]}")
            self.known[key] = [(score.nats or 0.0) / score.tokens for score in scores]
            self.path.write_text(json.dumps(self.known))
        return self.known[key]

    def perplexity(self, factors: RescaleFactors) -> float:
        """Return `exp` of the mean loss; all windows have the same number of tokens."""
        return math.exp(statistics.fmean(self.losses(factors)))


def main() -> None:
    """Run what is not there yet, judge everything, write the report."""
    args = parse()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    papers = [search(args, "paper", seed, "longrope", samples=args.paper_samples) for seed in args.seeds]
    paper_tokens = {run.seed: cost(run.rows)[0] for run in papers}
    defaults = [
        search(args, f"default-{share}", seed, "hybrid", samples=args.samples, tokens=round(paper_tokens[seed] * share))
        for seed in args.seeds
        for share in [*args.shares, *([1.0] if seed in args.equal_cost_seeds else [])]
    ]
    ablated = [ablation(args, name, seed, paper_tokens[seed]) for seed in args.ablation_seeds for name in args.ablate]
    runs = [*papers, *defaults, *ablated]
    heldout = HeldOut(args, searched=set().union(*(run.factors.searched_documents for run in runs)))
    report = {
        "what": __doc__,
        "target_length": args.target_length,
        "baselines": {name: heldout.perplexity(baseline(name, heldout, args)) for name in BASELINES},
        "seeds": [seed_report(run, defaults, heldout, args) for run in papers],
        "ablation": ablation_report(ablated, defaults, heldout, args),
        "provenance": provenance(heldout, args, runs),
    }
    report |= summary(report["seeds"])
    write(report, args.report)


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="examples/tiny/model")
    parser.add_argument("--search-tokens", default="runs/python-packages-search", help="of longrope tokenize")
    parser.add_argument("--eval-tokens", default="runs/python-packages-eval", help="of longrope tokenize")
    parser.add_argument("--target-length", type=int, default=2048)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.02, 0.05], help="of the paper's cost")
    parser.add_argument("--equal-cost-seeds", type=int, nargs="*", help="seeds of the whole cost, too (default: all)")
    parser.add_argument("--ablate", nargs="*", default=list(ABLATIONS), help="ingredients to leave out")
    parser.add_argument("--ablation-seeds", type=int, nargs="*", help="some of the seeds (default: all)")
    parser.add_argument("--ablation-share", type=float, default=0.05)
    parser.add_argument("--paper-samples", type=int, default=5, help="search documents of the paper's algorithm")
    parser.add_argument("--samples", type=int, default=64, help="search documents of the default")
    parser.add_argument("--eval-samples", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16", help="of the searches; held-out losses are in float32")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/efficiency/8x"))
    parser.add_argument("--report", type=Path, default=Path("benchmarks/reports/search_efficiency_8x"))
    args = parser.parse_args()
    for name in ("ablation_seeds", "equal_cost_seeds"):
        chosen = getattr(args, name)
        setattr(args, name, args.seeds if chosen is None else chosen)
        if unknown := set(getattr(args, name)) - set(args.seeds):
            parser.error(f"--{name.replace('_', '-')} must be among --seeds {args.seeds}, got {sorted(unknown)}")
    return args


def search(
    args: argparse.Namespace, kind: str, seed: int, hyper_params: str, samples: int, tokens: int | None = None
) -> Run:
    """Return a complete search, run now if it is not there."""
    run = Run(kind, seed, args.output_dir / f"{kind}-{seed}")
    if not (run.folder / "factors.json").exists():
        command = [sys.executable, "-m", "longrope.cli", "search", "--model", args.model]
        command += ["--tokenized", args.search_tokens, "--target-length", str(args.target_length)]
        command += ["--hyper-params", hyper_params, "--seed", str(seed), "--samples", str(samples)]
        command += ["--dtype", args.dtype, "--batch-size", "2", "--output-dir", str(run.folder), "--resume"]
        command += ["--max-scored-tokens", str(tokens)] if tokens else []
        print(f"{kind}, seed {seed}", flush=True)
        subprocess.run(command, check=True)
    check(run, args, load_settings(preset(hyper_params)), samples)
    return run


def check(run: Run, args: argparse.Namespace, settings: Settings, samples: int) -> None:
    """Raise ValueError if a folder holds a search with other options than those of now."""
    recorded = run.factors.provenance
    found = {**recorded["hyper_params"], **{name: recorded["search"][name] for name in ("model", "seed", "samples")}}
    wanted = {**asdict(settings), "model": args.model, "seed": run.seed, "samples": samples}
    for name in (found.keys() & wanted.keys()) - {"num_scores"}:  # which the budget decides
        if json.dumps(found[name]) != json.dumps(wanted[name]):
            raise ValueError(
                f"{run.folder} must hold a search with {name} = {wanted[name]}, got {found[name]}; choose another "
                "--output-dir or remove it"
            )


def ablation(args: argparse.Namespace, name: str, seed: int, paper_tokens: int) -> Run:
    """Return the search of the default with one ingredient changed."""
    settings = yaml.safe_load(preset("hybrid").read_text()) | ABLATIONS[name]
    path = args.output_dir / f"{slug(name)}.yaml"
    path.write_text(yaml.safe_dump(settings))
    samples = args.paper_samples if name == FEW_DOCUMENTS else args.samples
    return search(args, slug(name), seed, str(path), samples, round(args.ablation_share * paper_tokens))


def slug(name: str) -> str:
    """Return a name for folders."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def cost(rows: Sequence[HistoryRow]) -> tuple[int, float]:
    """Return scored tokens and seconds of the objective."""
    return sum(row.forwarded for row in rows), sum(row.seconds for row in rows)


def baseline(name: str, heldout: HeldOut, args: argparse.Namespace) -> RescaleFactors:
    """Return a baseline built for the target length."""
    geometry = heldout.installation.geometry
    return build_method(name, args.target_length / geometry.original_length).factors(geometry)


def seed_report(paper: Run, defaults: Sequence[Run], heldout: HeldOut, args: argparse.Namespace) -> dict[str, Any]:
    """Return everything of one seed: both curves, and what the bars are about.

    `token_ratio` is of the cheapest budget that is as good as the paper's result with all larger ones; it is known no
    finer than `--shares`.
    """
    paper_curve = trajectory(paper, heldout, args)
    default_curve = [point(run, heldout) for run in defaults if run.seed == paper.seed]
    last = paper_curve[-1]
    dearer = sorted(default_curve, key=lambda p: -p["scored_tokens"])
    reached = list(takewhile(lambda p: p["heldout_ppl"] <= last["heldout_ppl"], dearer))
    cheapest = reached[-1] if reached else None
    equal = max(default_curve, key=lambda p: p["budget_share"])
    return {
        "seed": paper.seed,
        "paper": paper_curve,
        "default": default_curve,
        "heldout_ppl_paper": last["heldout_ppl"],
        "heldout_ppl_default_at_equal_cost": equal["heldout_ppl"] if equal["budget_share"] == 1 else None,
        "tokens_default_at_equal_cost": equal["scored_tokens"] if equal["budget_share"] == 1 else None,
        "token_ratio": cheapest["scored_tokens"] / last["scored_tokens"] if cheapest else None,
    }


def trajectory(run: Run, heldout: HeldOut, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return cost and held-out perplexity of the paper's best candidate after some generations."""
    rows = run.rows
    tokens, seconds = (list(accumulate(getattr(row, name) for row in rows)) for name in ("forwarded", "seconds"))
    losses: dict[Genome, list[float]] = {}
    ends = {row.generation: place for place, row in enumerate(rows)}
    points: list[dict[str, Any]] = []
    start = 0
    for generation, end in ends.items():
        for row in rows[start : end + 1]:
            losses.setdefault(row.genome, []).append(math.inf if row.nats is None else row.nats / row.tokens)
        start = end + 1
        if generation in TRAJECTORY or generation == max(ends):
            best = min(losses, key=lambda genome: sum(losses[genome]))
            ppl = heldout.perplexity(as_factors(best, run.factors, heldout, args))
            points.append(
                {
                    "generation": generation,
                    "scored_tokens": tokens[end],
                    "seconds": round(seconds[end], 1),
                    "heldout_ppl": ppl,
                }
            )
    return points


def as_factors(genome: Genome, like: RescaleFactors, heldout: HeldOut, args: argparse.Namespace) -> RescaleFactors:
    """Return the factors of a candidate of the paper's search, whose attention factor is fixed."""
    space = Space(like.pairs, args.target_length / heldout.installation.geometry.original_length)
    return RescaleFactors(
        lambdas=space.decode(genome),
        original_length=like.original_length,
        target_length=like.target_length,
        theta=like.theta,
        rotary_dim=like.rotary_dim,
        attention_factor=like.attention_factor,
        start_tokens=genome.start_tokens,
    )


def point(run: Run, heldout: HeldOut) -> dict[str, Any]:
    """Return cost and result of one search of the default."""
    tokens, seconds = cost(run.rows)
    return {
        "budget_share": float(run.kind.removeprefix("default-")),
        "scored_tokens": tokens,
        "seconds": round(seconds, 1),
        "heldout_ppl": heldout.perplexity(run.factors),
    }


def ablation_report(
    ablated: Sequence[Run], defaults: Sequence[Run], heldout: HeldOut, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the held-out perplexity with each ingredient left out, by seed."""
    full = [run for run in defaults if run.kind == f"default-{args.ablation_share}" and run.seed in args.ablation_seeds]
    names = {"the default": full} | {name: [run for run in ablated if run.kind == slug(name)] for name in args.ablate}
    return [
        {
            "changed": name,
            "budget_share": args.ablation_share,
            "heldout_ppl": {run.seed: heldout.perplexity(run.factors) for run in runs},
            "median": statistics.median(heldout.perplexity(run.factors) for run in runs),
        }
        for name, runs in names.items()
        if runs
    ]


def summary(seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians; a seed that never reached the paper's result makes its ratio infinite."""
    ratios = [math.inf if seed["token_ratio"] is None else seed["token_ratio"] for seed in seeds]
    median = statistics.median(ratios)
    equal = [ppl for seed in seeds if (ppl := seed["heldout_ppl_default_at_equal_cost"]) is not None]
    return {
        "token_ratio": {seed["seed"]: seed["token_ratio"] for seed in seeds},
        "token_ratio_median": median if math.isfinite(median) else None,
        "heldout_ppl_paper": statistics.median(seed["heldout_ppl_paper"] for seed in seeds),
        "heldout_ppl_default_at_equal_cost": statistics.median(equal) if equal else None,
        "seeds_at_equal_cost": len(equal),
    }


def provenance(heldout: HeldOut, args: argparse.Namespace, runs: Sequence[Run]) -> dict[str, Any]:
    """Return what decides the numbers."""
    return {
        "model": {"id": heldout.model_id, **model_fingerprint(heldout.model, heldout.model_id)},
        "heldout": {
            "documents": [document.name for document in heldout.data.documents],
            "fingerprint": heldout.data.fingerprint(args.target_length),
            "dtype": "float32",
        },
        "options": {name: str(value) for name, value in vars(args).items()},
        "versions": versions(),
        "commit": git_commit(),
        "commits_of_searches": {run.folder.name: run.factors.provenance.get("commit") for run in runs},
    }


def write(report: dict[str, Any], path: Path) -> None:
    """Write JSON, table and plot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(report, path.name))
    draw(report, path.with_suffix(".png"))
    print(table(report, path.name))


def table(report: dict[str, Any], name: str) -> str:
    """Return the report in text."""
    lines = [f"# Search efficiency at {report['target_length']} tokens", ""]
    lines += ["| seed | search | scored tokens | share of the paper's | seconds | held-out perplexity |"]
    lines += ["|---|---|--:|--:|--:|--:|"]
    for seed in report["seeds"]:
        last = seed["paper"][-1]
        rows = [("paper, in full", last), *((f"default, {p['budget_share']:g}", p) for p in seed["default"])]
        lines += [
            f"| {seed['seed']} | {label} | {p['scored_tokens']:,} | {p['scored_tokens'] / last['scored_tokens']:.4f} "
            f"| {p['seconds']:.0f} | {p['heldout_ppl']:.3f} |"
            for label, p in rows
        ]
    ratio = report["token_ratio_median"]
    lines += ["", f"Median share of the paper's tokens after which the default is as good: {ratio or 'not reached'}."]
    baselines = ", ".join(f"{name} {value:.2f}" for name, value in report["baselines"].items())
    lines += ["", f"Baselines on the same documents: {baselines}.", "", f"![held-out perplexity]({name}.png)", ""]
    if report["ablation"]:
        lines += ["| default at the ablation's budget | held-out perplexity, median | by seed |", "|---|--:|---|"]
        for row in report["ablation"]:
            by_seed = ", ".join(f"{value:.3f}" for value in row["heldout_ppl"].values())
            lines.append(f"| {row['changed']} | {row['median']:.3f} | {by_seed} |")
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw held-out perplexity against scored tokens."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for seed, style in zip(report["seeds"], ("-", "--", ":", "-."), strict=False):
        for kind, color in (("paper", "#0072B2"), ("default", "#D55E00")):
            points = sorted(seed[kind], key=lambda p: p["scored_tokens"])
            x, y = ([p[name] for p in points] for name in ("scored_tokens", "heldout_ppl"))
            axes.plot(x, y, style, marker="o", markersize=3, color=color, label=f"{kind}, seed {seed['seed']}")
    axes.set_xscale("log")
    axes.set_xlabel("scored tokens")
    axes.set_ylabel("held-out perplexity")
    axes.set_title(f"Search efficiency at {report['target_length']} tokens")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
