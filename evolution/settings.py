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
        """Return the settings for an objective of one's own: a document is one window, gradients only if it has any.

        Raises:
            ValueError: the strategy needs gradients.
        """
        if not gradients and self.strategy == "gradient":
            raise ValueError(
                "strategy must be one without gradients where the objective has none, got gradient; choose cma, or "
                "with Search hand in gradients=True and tell a Score with derivatives"
            )
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
    num_documents: int = 64
    """Search documents at most, at least 2; `--samples` replaces it."""
    windows_per_document: int = 4
    """Windows of the target length cut from each document, spread evenly over it, at least 1."""
    num_scores: int = 336
    """Budget: scores of one candidate on one window, in all phases together; `--max-scored-tokens` replaces it."""
    stage_share: float = 0.7
    """Share of the scores left that a stage may spend, above 0 to 1."""
    stage_scores: int = 400
    """Scores that a stage may spend at most, at least 1."""
    population_size: int = 8
    """Candidates per generation of the evolution strategies, at least 4."""
    num_knots: int = 10
    """Knots over the dimension pairs, at least 2 (at most one per pair is used)."""
    num_fine_knots: int = 20
    """Knots of the finer evolution strategy, at least 2 (at most one per pair is used)."""
    sigma: float = 0.1
    """First standard deviation of the change at a knot, in units of log lambda, above 0."""
    use_gradients: bool = True
    """Let stages descend on gradients, which need more memory."""
    num_descent_knots: int = 16
    """Knots of the descent, at least 2 (at most one per pair is used)."""
    descent_travel: float = 1.1
    """Sum of the steps of a descent, as a multiple of the range of log lambda, above 0."""
    largest_step: float = 0.07
    """Largest step of a descent, as a share of that range, above 0 to 1."""
    beta2: float = 0.95
    """Decay of the squared gradient of the descent, at least 0 and below 1."""
    sigma_decay: float = 0.5
    """Factor of sigma from one stage of a kind to its next, above 0 to 1."""
    min_generations: int = 8
    """Generations of an evolution strategy at least, before candidates share more windows, at least 1."""
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
    """Windows on which a candidate that is not dropped is compared with the incumbent, at least 2."""
    comparison_windows: int = 8
    """Windows on which a proposal is compared with the incumbent at most, at least 2."""
    min_comparison_windows: int = 4
    """Windows on which it is compared with the incumbent at least, at least 2."""
    significance: float = 0.1
    """Level of the paired tests that drop a candidate and that end a comparison, above 0 to 1."""
    patience: int = 1
    """Stages without a sure gain, of every kind in a row, after which the search ends, at least 1."""
    selection_share: float = 0.3
    """Share of the documents kept for the selection among the finalists, above 0 to 1; at least one document."""
    selection_budget: float = 0.12
    """Share of the scores for the selection, above 0 to 1."""
    selection_windows: int = 48
    """Windows of those documents on which each finalist is scored at most, at least 1."""
    num_finalists: int = 2
    """Finalists: the best seed and the last incumbents, at least 2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole(self, num_scores=1, stage_scores=1, population_size=4, num_knots=2, num_fine_knots=2)
        _check_whole(self, min_generations=1, num_mutations=0, num_crossovers=0, max_attempts=1, race_rounds=2)
        _check_whole(
            self,
            num_descent_knots=2,
            comparison_windows=2,
            min_comparison_windows=2,
            patience=1,
            selection_windows=1,
            num_finalists=2,
        )
        for name in (
            "stage_share",
            "largest_step",
            "sigma_decay",
            "averaged_share",
            "mutation_probability",
            "significance",
        ):
            _check_share(self, name)
        for name in ("selection_share", "selection_budget"):
            _check_share(self, name)
        _check_decay(self, "beta2")
        _check_sigma(self.sigma)
        if not 0 < self.descent_travel < float("inf"):
            raise ValueError(f"descent_travel must be finite and above 0, got {self.descent_travel}; try 1.1")
        if self.min_comparison_windows > self.comparison_windows:
            raise ValueError(
                f"min_comparison_windows must be at most comparison_windows ({self.comparison_windows}), "
                f"got {self.min_comparison_windows}; lower it or raise comparison_windows"
            )


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


@dataclass(frozen=True)
class PiecewiseSettings(PaperSettings):
    """Algorithm 1 on factors of three pieces: 1, then free, then s (official code, `dim_piece_mono`)."""

    strategy: ClassVar[str] = "piecewise"

    population_size: int = 128
    """Candidates of the first generation, at least 2: the seeds and mutations of them (official code: 128)."""
    num_iterations: int = 80
    """Generations bred after the first, 0 or more (official code: 80)."""
    num_mutations: int = 32
    """Mutations bred per generation, 0 or more (official code: 32)."""
    num_crossovers: int = 32
    """Crossovers bred per generation, 0 or more (official code: 32)."""
    max_attempts: int = 40
    """Draws of a new candidate before giving up on it, at least 1 (official code: 40 tries of a crossover)."""


@dataclass(frozen=True)
class GradientSettings(Settings):
    """Adam on the gradient of the loss with respect to log lambda and the log attention factor, from the best seed."""

    strategy: ClassVar[str] = "gradient"

    search_attention: bool = True
    """Search the attention factor, too; else one policy fixes it for all candidates."""
    upper_ratio: float = 2.0
    """Largest rescale factor as a multiple of the extension ratio s, at least 1 (LongRoPE2: 2)."""
    num_documents: int = 16
    """Search documents, at least 1; `--samples` replaces it."""
    windows_per_document: int = 4
    """Windows of the target length cut from each document, spread evenly over it, at least 1."""
    seed_windows: int = 3
    """Windows on which the seeds, and the best of them with all start tokens, are compared, at least 1."""
    num_iterations: int = 60
    """Steps of Adam, at least 1; a gradient counts as three scores, one forward and twice that backward."""
    windows_per_step: int = 1
    """Windows whose gradients are averaged in a step, at least 1."""
    num_knots: int = 16
    """Knots over the dimension pairs, at least 2 (at most one per pair is used); between them the change is linear."""
    learning_rate: float = 0.05
    """Change of log lambda at a knot in the first step, above 0; 0.05 changes lambda by about 5 %."""
    beta1: float = 0.9
    """Share of the earlier mean in Adam's mean of the gradient, from 0 to below 1."""
    beta2: float = 0.99
    """Share of the earlier mean in Adam's mean of the squared gradient, from 0 to below 1."""
    averaged_share: float = 0.5
    """Share of the steps, counted from the last, whose points are averaged into the result, above 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole(self, seed_windows=1, num_iterations=1, windows_per_step=1, num_knots=2)
        _check_share(self, "averaged_share")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be finite and above 0, got {self.learning_rate}; try 0.05")
        for name in ("beta1", "beta2"):
            _check_decay(self, name)


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
    CmaSettings,
    HybridSettings,
    LongRope2Settings,
    PiecewiseSettings,
    GradientSettings,
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


def _check_sigma(sigma: float) -> None:
    if not 0 < sigma < float("inf"):
        raise ValueError(f"sigma must be finite and above 0, got {sigma}; 0.1 changes lambda by about 10 %")


def _check_decay(settings: Settings, name: str) -> None:
    if not 0 <= (value := getattr(settings, name)) < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}; Adam's own are 0.9 and 0.999")


def _check_share(settings: Settings, name: str) -> None:
    if not 0 < (value := getattr(settings, name)) <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, got {value}; see the defaults for sound values")
