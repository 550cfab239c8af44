"""Hyper-parameters of the search: one frozen dataclass per strategy."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

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

    num_documents: int = 5
    """Search documents, at least 1; `--samples` replaces it (LongRoPE appendix A.3: 5)."""
    windows_per_document: int = 1
    """Windows of the target length cut from each document, spread evenly over it, at least 1 (LongRoPE: the first)."""

    def __post_init__(self) -> None:
        _check_whole(self, num_documents=1, windows_per_document=1)
        self.space(num_pairs=2, scale=1.0)  # the space checks its own numbers

    def space(self, num_pairs: int, scale: float) -> Space:
        """Return the search space for a model with P pairs and an extension ratio s."""
        return Space(num_pairs, scale, self.step, self.upper_ratio, self.start_token_choices, self.search_attention)

    def without_windows(self, gradients: bool) -> Self:
        """Return the settings for an objective of one's own: a document is one window, gradients only if it has any."""
        unused = {} if gradients or not hasattr(self, "use_gradients") else {"use_gradients": False}
        return replace(self, windows_per_document=1, **unused)


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
    pieces: bool = False
    """Breed factors of three pieces: 1, then free, then s (official code, `dim_piece_mono`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole(self, population_size=2, num_iterations=0, num_mutations=0, num_crossovers=0, num_parents=1)
        _check_whole(self, max_attempts=1)
        _check_share(self, "mutation_probability")
        _check_parents(self.num_parents, self.population_size)


@dataclass(frozen=True)
class HybridSettings(Settings):
    """The default: the baselines race, stages improve on the best of them, and other documents decide."""

    strategy: ClassVar[str] = "hybrid"

    search_attention: bool = True
    """Search the attention factor, too; else one policy fixes it for all candidates."""
    upper_ratio: float = 2.0
    """Largest rescale factor as a multiple of the extension ratio s, at least 1 (LongRoPE2: 2)."""
    num_documents: int = 64
    """Search documents at most, at least 2; `--samples` replaces it."""
    windows_per_document: int = 4
    """Windows of the target length cut from each document, spread evenly over it, at least 1."""
    num_scores: int = 336
    """Budget: scores of one candidate on one window, in all phases together; `--max-scored-tokens` replaces it."""
    selection_share: float = 0.25
    """Share of the scores for the choice among baselines and incumbents on other documents, above 0 and below 1."""
    width: int = 64
    """Scores that a generation offers at once, at least 1: as many as there are devices, or a multiple of it. Small
    budgets have narrower ones."""
    significance: float = 0.1
    """Chance that the test errs, above 0 and below 0.5: that one baseline drops another that is as good, or that a
    bound of the gain does not hold."""
    trust_radius: float = 0.08
    """First step of log lambda, as a share of log s, above 0 to 1; steps of an eighth to twice it compete."""
    use_gradients: bool = True
    """Improve profiles by gradients, which need more memory; where they fail, and without, by an evolution strategy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole(self, num_scores=1, width=1)
        _check_share(self, "trust_radius")
        _check_below(self, "selection_share", 1)
        _check_below(self, "significance", 0.5)


@dataclass(frozen=True)
class SteadySettings(Settings):
    """Steady state: each child is bred as soon as a worker is free; with several, their order decides the result."""

    strategy: ClassVar[str] = "steady"

    num_documents: int = 8
    """Documents, at least 2, of which the choice of the result keeps some; `--samples` replaces it."""
    population_size: int = 32
    """Best candidates that are kept and breed, at least 2; until there are so many, mutations of seeds are bred."""
    num_candidates: int = 512
    """Candidates in all, seeds included, at least 1; `--max-scored-tokens` may end the search before."""
    mutation_probability: float = 0.3
    """Probability that a mutation redraws a gene, above 0 to 1 (LongRoPE: p = 0.3)."""
    max_attempts: int = 20
    """Draws of a new candidate before giving up on it, at least 1."""
    significance: float = 0.1
    """Chance that a bound of the gain does not hold, above 0 and below 0.5."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole(self, population_size=2, num_candidates=1, max_attempts=1)
        _check_share(self, "mutation_probability")
        _check_below(self, "significance", 0.5)


@dataclass(frozen=True)
class LongRope2Settings(Settings):
    """Algorithms 1 and 2 of LongRoPE2 (arXiv 2502.20082, appendix B)."""

    strategy: ClassVar[str] = "longrope2"

    start_token_choices: tuple[int, ...] = (0,)
    """No start tokens, as in the paper."""
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
        if self.search_attention or self.start_token_choices != (0,):
            raise ValueError(
                "search_attention and start_token_choices must be false and [0] for longrope2, which searches neither, "
                f"got {self.search_attention} and {list(self.start_token_choices)}; leave them out or use paper"
            )
        _check_whole(self, population_size=2, num_iterations=0, num_parents=1, max_attempts=1)
        _check_share(self, "mutation_probability")
        _check_parents(self.num_parents, self.population_size)


@dataclass(frozen=True)
class ParetoSettings(Settings):
    """NSGA-II (Deb et al. 2002): the front of short- against long-context loss."""

    strategy: ClassVar[str] = "pareto"

    search_attention: bool = True
    """Search the attention factor, too; else one policy fixes it for all candidates."""
    population_size: int = 32
    """Candidates that survive and breed, at least 2; the first generation holds the seeds and mutations of them."""
    num_iterations: int = 20
    """Generations bred after the first, 0 or more, each as large as the population."""
    crossover_probability: float = 0.9
    """Probability that a child has two parents, above 0 to 1 (Deb et al.: 0.9)."""
    mutation_probability: float = 0.1
    """Probability that a child's gene is redrawn, above 0 to 1 (Deb et al.: 1 / number of genes)."""
    max_attempts: int = 20
    """Draws of a new candidate before giving up on it, at least 1."""
    short_documents: int = 5
    """Windows of the original length for the short-context loss, at least 1 (at most as many as long ones are used)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole(self, population_size=2, num_iterations=0, max_attempts=1, short_documents=1)
        _check_share(self, "crossover_probability")
        _check_share(self, "mutation_probability")


KINDS = (
    PaperSettings,
    HybridSettings,
    SteadySettings,
    LongRope2Settings,
    ParetoSettings,
)
SETTINGS: dict[str, type[Settings]] = {cls.strategy: cls for cls in KINDS}


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


def _check_share(settings: Settings, name: str) -> None:
    if not 0 < (value := getattr(settings, name)) <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, got {value}; see the defaults for sound values")


def _check_below(settings: Settings, name: str, limit: float) -> None:
    if not 0 < (value := getattr(settings, name)) < limit:
        raise ValueError(f"{name} must be above 0 and below {limit}, got {value}; see the defaults")
