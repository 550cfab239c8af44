"""What is compared: each row by its name, as a function of a bench and a seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from longrope.evaluation.comparison.cells import method_key
from longrope.evaluation.comparison.sweep import read_sweep
from longrope.evolution import Settings, Space, load_settings
from longrope.hyperparams import preset, sweep_file
from longrope.rope import RescaleFactors, attention_factor, build_method

from .bench import Bench
from .choosing import halve
from .searching import Outcome, Search

Runner = Callable[[Bench, int], Outcome]

PLAIN = ("none", "linear", "ntk", "ntk-by-parts", "yarn", "llama3", "dynamic")
"""Baselines as published, built for the target length."""
SWEPT = ("linear", "ntk", "ntk-by-parts", "yarn", "llama3")
"""Baselines whose own parameters are swept, by the grids of `hyperparams/sweeps`."""
ATTENTION_STEPS = (0.0, 0.5, 1.0, 1.5)
"""Attention factors of a sweep beside a method's own: 1 plus these multiples of su's distance from 1."""
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "no start tokens": {"start_token_choices": (0,)},
    "attention factor fixed (su)": {"search_attention": False},
    "no gradients": {"use_gradients": False},
}
"""The default with settings changed, by the name it is reported under; changes of settings it lacks are left out."""
ZERO = "zero-search seed"
PAPER = "paper"
PAPER_SEEDS = "paper, same seeds"
PAPER_ATTENTION = "paper, same seeds, attention"
PAPER_FRESH = "paper, same seeds, attention, fresh windows"
PERTURBED = "random perturbation"
PERTURBATION_KNOTS = 8
PERTURBATION_SIGMA = 0.1
"""Standard deviation of log lambda at a knot, and ten times that of the log attention factor."""
SEEDS_SHARE = 1 / 6
"""Share of the scores that the choice among the seeds takes before the winner is perturbed."""


@dataclass(frozen=True)
class Terms:
    """The settings that are compared, and their budgets."""

    shares: tuple[int, ...] = (100, 50, 10)
    """Budgets of the default, the n of one n-th of the paper's scores."""
    compared: int = 20
    """The n of the budget that sweeps, perturbation and ablations have, too."""
    default: str = "hybrid"
    """Settings of the default: a preset or a file, with `num_scores` and `search_attention`."""
    paper: str = "longrope"
    """Settings of the paper's search."""

    @property
    def paper_scores(self) -> int:
        """Scores of the paper's search in full: 1,344 candidates on five documents with its own settings."""
        settings: Any = load_settings(preset(self.paper))
        bred = settings.num_iterations * (settings.num_mutations + settings.num_crossovers)
        return (settings.population_size + bred) * settings.num_documents


def default_row(share: int) -> str:
    """Return the name of the default at one n-th of the paper's scores."""
    return f"default 1/{share}"


def is_budget(row: str) -> bool:
    """Whether a row is the default, unchanged, at some budget."""
    return row.removeprefix("default 1/").isdigit()


def is_seedless(row: str) -> bool:
    """Whether a row is the same from every seed."""
    return row == ZERO or row.startswith("plain ")


def is_central(row: str) -> bool:
    """Whether a row is one that the claims are about: the default at its budgets, and what it is measured against."""
    return is_budget(row) or is_seedless(row) or row == PAPER_ATTENTION


def has_curve(row: str) -> bool:
    """Whether what a row had found on its way is judged, too."""
    return is_budget(row) or row.startswith("paper")


def build_rows(terms: Terms) -> dict[str, Runner]:
    """Return all rows in the order of their importance."""
    own, total = load_settings(preset(terms.default)), terms.paper_scores
    published = load_settings(preset(terms.paper))
    attentive = replace(published, search_attention=True)
    scores = total // terms.compared
    rows: dict[str, Runner] = {f"plain {name}": partial(plain, name=name) for name in PLAIN}
    rows[ZERO] = zero_search
    rows[default_row(terms.compared)] = partial(default, settings=own, scores=scores)
    rows[PAPER_ATTENTION] = partial(paper, settings=attentive, same_seeds=True)
    rows |= {default_row(share): partial(default, settings=own, scores=total // share) for share in terms.shares}
    rows |= {f"swept {name}": partial(swept, settings=own, name=name, scores=scores) for name in SWEPT}
    rows[PERTURBED] = partial(perturbed, settings=own, scores=scores)
    rows[PAPER] = partial(paper, settings=published, same_seeds=False)
    rows[PAPER_SEEDS] = partial(paper, settings=published, same_seeds=True)
    for name, changed in ABLATIONS.items():
        if all(hasattr(own, key) for key in changed):
            ablated = replace(own, **changed)
            rows[f"{default_row(terms.compared)}, {name}"] = partial(default, settings=ablated, scores=scores)
    rows[PAPER_FRESH] = partial(paper_fresh, settings=attentive, own=own)
    return rows


def plain(bench: Bench, seed: int, name: str) -> Outcome:
    """A baseline as published."""
    return Outcome(_baseline(name, bench))


def zero_search(bench: Bench, seed: int) -> Outcome:
    """The best of the default's seeds on average, known without a single score."""
    return Outcome(zero_search_factors(bench))


def zero_search_factors(bench: Bench) -> RescaleFactors:
    """Return NTK-by-parts with its ramp from 1 / sqrt(s) to 4 rotations, and su's attention factor."""
    return _baseline(f"ntk-by-parts:alpha={bench.ratio**-0.5:.6g},beta=4,attention_factor=su", bench)


def _baseline(spec: str, bench: Bench) -> RescaleFactors:
    method = build_method(spec, float(bench.ratio))
    return method.at_length(bench.geometry, bench.target_length).factors(bench.geometry)


def default(bench: Bench, seed: int, settings: Any, scores: int) -> Outcome:
    """The default with a budget of scores, from the same rescale factors with and without an attention gene."""
    search = Search(bench, replace(settings, num_scores=scores), seed)
    return search.run(search.seeds() if settings.search_attention else search.same_seeds(), scores)


def paper(bench: Bench, seed: int, settings: Settings, same_seeds: bool) -> Outcome:
    """The paper's search in full, from its own seeds or the default's, without or with an attention gene."""
    search = Search(bench, settings, seed)
    plain_seeds = same_seeds and not settings.search_attention  # with the gene they are the same by themselves
    return search.run(search.same_seeds() if plain_seeds else search.seeds())


def paper_fresh(bench: Bench, seed: int, settings: Settings, own: Settings) -> Outcome:
    """The paper's search on the windows that the default has, five of them of each generation's own."""
    many = replace(settings, num_documents=own.num_documents, windows_per_document=own.windows_per_document)
    search = Search(bench, many, seed)
    objective = search.fresh(zero_search_factors(bench))
    return search.run(search.seeds(), objective=objective, documents=settings.num_documents)


def swept(bench: Bench, seed: int, settings: Settings, name: str, scores: int) -> Outcome:
    """A baseline at its best over its own parameters and the attention factor."""
    search = Search(bench, settings, seed)
    points = [_baseline(spec, bench) for spec in sweep_points(name, bench)]
    return halve(search.objective, points, search.window_order(), scores, seed)


def sweep_points(name: str, bench: Bench) -> list[str]:
    """Return the grid of a method times the attention factors, the method as published first."""
    ratio, length = float(bench.ratio), bench.geometry.original_length
    distance = attention_factor.su(ratio, length) - 1
    specs: dict[str, str] = {}
    for spec in read_sweep(sweep_file(name)).grid(ratio):
        joint = "," if ":" in spec else ":"
        scaled = [f"{spec}{joint}attention_factor={1 + step * distance:.4f}" for step in ATTENTION_STEPS]
        for one in (spec, *scaled):
            specs.setdefault(method_key(build_method(one, ratio)), one)
    return list(specs.values())


def perturbed(bench: Bench, seed: int, settings: Settings, scores: int) -> Outcome:
    """The best of the default's seeds, or of random smooth changes of it: a search that learns nothing."""
    search = Search(bench, settings, seed)
    windows, rng = search.window_order(), np.random.default_rng(seed)
    seeds = [search.build(genome) for genome in search.seeds().values()]
    first = halve(search.objective, seeds, windows, int(SEEDS_SHARE * scores), seed)
    left = scores - first.scores
    changed = [_perturb(first.factors, search, rng) for _ in range(int(left**0.5))]
    second = halve(search.objective, [first.factors, *changed], windows[::-1], left, seed)
    return Outcome(second.factors, first.tokens + second.tokens, first.scores + second.scores)


def _perturb(factors: RescaleFactors, search: Search, rng: np.random.Generator) -> RescaleFactors:
    space: Space = search.space
    knots = np.linspace(0, space.num_pairs - 1, PERTURBATION_KNOTS)
    change = np.interp(np.arange(space.num_pairs), knots, rng.normal(0, PERTURBATION_SIGMA, PERTURBATION_KNOTS))
    relative = factors.attention_factor / factors.start_attention_factor
    attention = relative * np.exp(rng.normal(0, PERTURBATION_SIGMA / 10))
    genome = space.encode(factors.lambdas * np.exp(change), factors.start_tokens, float(attention))
    return search.build(genome)
