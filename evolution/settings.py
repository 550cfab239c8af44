"""Hyper-parameters of the search: one frozen dataclass per strategy, and the reader of their files."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import yaml

from .space import START_TOKEN_CHOICES, Space


@dataclass(frozen=True)
class Settings:
    """What all strategies share: the shape of the search space.

    Raises:
        ValueError: a value is out of range; the message names the argument and the rule.
    """

    strategy: ClassVar[str]
    """Name of the strategy that these settings are for."""

    step: float = 0.01
    """Grid step of the rescale factors, 1 / whole number (LongRoPE table 4: 0.01)."""
    upper_ratio: float = 1.25
    """Largest rescale factor as a multiple of the extension ratio s, at least 1 (LongRoPE table 4: 1.25)."""
    start_token_choices: tuple[int, ...] = START_TOKEN_CHOICES
    """Values the start tokens n_hat may take, in tokens, rising; [0] turns them off (LongRoPE table 4)."""
    search_attention: bool = False
    """Search the attention factor, too; else one policy fixes it for all candidates, as in LongRoPE."""

    windows_per_document: int = 1
    """Windows of the target length cut from each document, spread evenly over it, at least 1 (LongRoPE: the first)."""

    def __post_init__(self) -> None:
        _check_whole(self, windows_per_document=1)
        self.space(num_pairs=2, scale=1.0)  # the space checks its own numbers

    def space(self, num_pairs: int, scale: float) -> Space:
        """Return the search space for a model with P pairs and an extension ratio s."""
        return Space(num_pairs, scale, self.step, self.upper_ratio, self.start_token_choices, self.search_attention)


@dataclass(frozen=True)
class PaperSettings(Settings):
    """Algorithm 1 of LongRoPE (arXiv 2402.13753, appendix A.3)."""

    strategy: ClassVar[str] = "paper"

    population_size: int = 64
    """Candidates of the first generation, at least 2: the seeds and mutations of them (paper: P = 64)."""
    num_iterations: int = 40
    """Generations bred after the first, 0 or more (paper: T = 40)."""
    num_mutations: int = 16
    """Mutations bred per generation, 0 or more (paper: N1 = 16)."""
    num_crossovers: int = 16
    """Crossovers bred per generation, 0 or more (paper: N2 = 16)."""
    num_parents: int = 32
    """Best candidates that survive and breed, 1 to population_size (paper: k = 32)."""
    mutation_probability: float = 0.3
    """Probability that a mutation redraws a gene, above 0 to 1 (paper: p = 0.3)."""
    max_attempts: int = 20
    """Draws of a new candidate before giving up on it, at least 1 (official code: 20 tries of a crossover)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole(self, population_size=2, num_iterations=0, num_mutations=0, num_crossovers=0, num_parents=1)
        _check_whole(self, max_attempts=1)
        _check_share(self, "mutation_probability")
        _check_parents(self.num_parents, self.population_size)


@dataclass(frozen=True)
class CmaSettings(Settings):
    """CMA-ES on a few knots of log lambda, the attention factor and start tokens, as a change of the best seed."""

    strategy: ClassVar[str] = "cma"

    search_attention: bool = True
    """Search the attention factor, too; else one policy fixes it for all candidates."""
    population_size: int = 8
    """Candidates per generation, at least 4."""
    num_iterations: int = 24
    """Generations of the evolution strategy, at least 1; scoring the seeds and the result come on top."""
    num_knots: int = 8
    """Knots over the dimension pairs, 2 to the number of pairs; between them the change is linear."""
    sigma: float = 0.1
    """First standard deviation of the change at a knot, in units of log lambda, above 0."""
    documents_per_generation: int = 1
    """Windows drawn at random per generation and shared by its candidates, 1 to the number of windows."""
    averaged_share: float = 0.5
    """Share of the generations, counted from the last, whose means are averaged into the result, above 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole(self, population_size=4, num_iterations=1, num_knots=2, documents_per_generation=1)
        _check_share(self, "averaged_share")
        _check_sigma(self.sigma)


@dataclass(frozen=True)
class HybridSettings(Settings):
    """The default: seeds, exploration in smooth coordinates, refinement in full ones, selection on other documents."""

    strategy: ClassVar[str] = "hybrid"

    search_attention: bool = True
    """Search the attention factor, too; else one policy fixes it for all candidates."""
    upper_ratio: float = 2.0
    """Largest rescale factor as a multiple of the extension ratio s, at least 1 (LongRoPE2: 2)."""
    windows_per_document: int = 12
    """Windows of the target length cut from each document, spread evenly over it, at least 1."""
    num_scores: int = 320
    """Budget: scores of one candidate on one window, in all phases together; `--max-scored-tokens` replaces it."""
    seed_windows: int = 3
    """Windows on which the seeds are compared, at least 1."""
    explore_share: float = 0.8
    """Share of the scores left after seeds and selection that goes to the exploration, above 0 to 1."""
    population_size: int = 8
    """Candidates per generation of the exploration, at least 4."""
    num_knots: int = 6
    """Knots over the dimension pairs, at least 2 (at most one per pair is used)."""
    sigma: float = 0.15
    """First standard deviation of the change at a knot, in units of log lambda, above 0."""
    generations_per_window: int = 40
    """Generations after which candidates of the exploration share one more window, at least 1."""
    averaged_share: float = 0.5
    """Share of the generations, counted from the last, whose means are averaged, above 0 to 1."""
    num_mutations: int = 4
    """Mutations of the incumbent per race, 0 or more."""
    num_crossovers: int = 2
    """Crossovers of the incumbent with earlier ones per race, 0 or more."""
    mutation_probability: float = 0.1
    """Probability that a mutation redraws a gene, above 0 to 1."""
    max_attempts: int = 20
    """Draws of a new candidate before giving up on it, at least 1."""
    race_rounds: int = 5
    """Windows on which a candidate that is not dropped meets the incumbent, at least 2."""
    significance: float = 0.2
    """Level of the paired test that drops a candidate and of the one that makes it the incumbent, above 0 to 1."""
    patience: int = 20
    """Races without a new incumbent after which the refinement ends, at least 1."""
    selection_share: float = 0.3
    """Share of the documents kept for the selection among the finalists, above 0 to 1; at least one document."""
    selection_windows: int = 6
    """Windows of those documents on which each finalist is scored, at least 1."""
    num_finalist_seeds: int = 2
    """Best seeds among the finalists, at least 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole(self, num_scores=1, seed_windows=1, population_size=4, num_knots=2, generations_per_window=1)
        _check_whole(self, num_mutations=0, num_crossovers=0, max_attempts=1, race_rounds=2, patience=1)
        _check_whole(self, selection_windows=1, num_finalist_seeds=1)
        for name in ("explore_share", "averaged_share", "mutation_probability", "significance", "selection_share"):
            _check_share(self, name)
        _check_sigma(self.sigma)


@dataclass(frozen=True)
class LongRope2Settings(Settings):
    """Algorithms 1 and 2 of LongRoPE2 (arXiv 2502.20082, appendix B)."""

    strategy: ClassVar[str] = "longrope2"

    upper_ratio: float = 2.0
    """Largest rescale factor as a multiple of the extension ratio s, at least 1 (paper: 2)."""
    population_size: int = 64
    """Candidates of the first generation, at least 2 (paper: 64)."""
    num_iterations: int = 40
    """Generations bred after the first, 0 or more (paper: 40)."""
    num_parents: int = 32
    """Best candidates, each of which is mutated once per generation, 1 to population_size (not in the paper)."""
    mutation_probability: float = 0.3
    """Probability that a mutation redraws a factor right of the critical dimension, above 0 to 1 (paper: 0.3)."""
    max_attempts: int = 20
    """Draws of a new candidate before giving up on it, at least 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole(self, population_size=2, num_iterations=0, num_parents=1, max_attempts=1)
        _check_share(self, "mutation_probability")
        _check_parents(self.num_parents, self.population_size)


KINDS = (PaperSettings, CmaSettings, HybridSettings, LongRope2Settings)
SETTINGS: dict[str, type[Settings]] = {cls.strategy: cls for cls in KINDS}

# Keys of the JSON files in the official repository (microsoft/LongRoPE, evolution/default_hyper_params), which its code
# multiplies by `evo_scale` and cuts to whole numbers, the number of iterations included.
OFFICIAL_COUNTS = {
    "population_size": "population_size",
    "max_time_budget": "num_iterations",
    "mutation_numbers": "num_mutations",
    "crossover_size": "num_crossovers",
    "max_crossover_try": "max_attempts",
    "parents_size": "num_parents",
}
OFFICIAL_KEYS = {"evo_scale", "list_step", *OFFICIAL_COUNTS}


def load_settings(path: str | Path) -> Settings:
    """Read a hyper-parameter file: ours (YAML with a `strategy` key) or the official JSON.

    Raises:
        ValueError: the file is missing or unreadable, has unknown keys, or holds values of a wrong type or range.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"hyper-params must be a file that exists, got {path}; try hyperparams/longrope.yaml")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"hyper-params must be readable YAML or JSON, got {path}: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"hyper-params must be a mapping of names to values, got {raw!r} in {path}")
    try:
        return _from_official(raw) if raw.keys() & (OFFICIAL_KEYS - {"population_size"}) else _from_ours(raw)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _from_ours(raw: Mapping[str, Any]) -> Settings:
    strategy = raw.get("strategy")
    if strategy not in SETTINGS:
        raise ValueError(f"strategy must be one of {sorted(SETTINGS)}, got {strategy!r}{_hint(strategy, SETTINGS)}")
    cls = SETTINGS[strategy]
    kinds = {field.name: field.type for field in fields(cls)}
    values = {key: value for key, value in raw.items() if key != "strategy"}
    _check_known(values, kinds)
    return cls(**{key: _convert(key, value, kinds[key]) for key, value in values.items()})


def _from_official(raw: Mapping[str, Any]) -> PaperSettings:
    _check_known(raw, OFFICIAL_KEYS)
    evo_scale = _convert("evo_scale", raw.get("evo_scale", 1.0), float)
    counts = {
        name: int(evo_scale * _convert(key, raw[key], int)) for key, name in OFFICIAL_COUNTS.items() if key in raw
    }
    step = {"step": _convert("list_step", raw["list_step"], float)} if "list_step" in raw else {}
    return PaperSettings(**counts, **step)


def _convert(key: str, value: Any, kind: Any) -> Any:
    """Return the value as its field wants it; YAML knows lists, not tuples, and writes 1 for 1.0."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind is int and whole:
        return value
    if kind is float and (whole or isinstance(value, float)):
        return float(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind == tuple[int, ...] and isinstance(value, list) and all(type(item) is int for item in value):
        return tuple(value)
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a list of whole numbers")
    raise ValueError(f"{key} must be {wanted}, got {value!r}")


def _check_known(keys: Mapping[str, Any], known: Mapping[str, Any] | set[str]) -> None:
    for key in keys:
        if key not in known:
            raise ValueError(f"unknown key {key!r}{_hint(key, known)}; known: {', '.join(sorted(known))}")


def _hint(word: Any, known: Mapping[str, Any] | set[str]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _check_whole(settings: Settings, **least: int) -> None:
    for name, minimum in least.items():
        if (value := getattr(settings, name)) < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}; see the defaults for sound values")


def _check_parents(num_parents: int, population_size: int) -> None:
    if num_parents > population_size:
        raise ValueError(
            f"num_parents must be at most population_size ({population_size}), got {num_parents}; "
            "lower it or raise population_size"
        )


def _check_sigma(sigma: float) -> None:
    if not 0 < sigma < float("inf"):
        raise ValueError(f"sigma must be finite and above 0, got {sigma}; 0.1 changes lambda by about 10 %")


def _check_share(settings: Settings, name: str) -> None:
    if not 0 < (value := getattr(settings, name)) <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, got {value}; see the defaults for sound values")
