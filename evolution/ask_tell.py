"""Search with an objective of one's own: `ask` for candidates, score them in any way, `tell` their losses."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import SupportsFloat

import numpy as np
from numpy.typing import NDArray

from ..rope.factors import RescaleFactors
from ..rope.frequencies import RopeGeometry
from .budget import Budget
from .history import HistoryRow
from .loop import Loop
from .objective import DocumentScore, rows_of_call
from .operators import ntk_left
from .racing import Gain
from .record import SearchRecord
from .settings import SETTINGS, Settings
from .space import ATTENTION_RESOLUTION, Genome, Space
from .strategies import GRADIENT_SCORES, build_strategy


@dataclass(frozen=True)
class Score:
    """What is told of a candidate where a number does not say it all."""

    nats: float | None
    """Summed loss, lower is better; None if there is none."""
    tokens: int = 1
    """Tokens, or whatever else, that the loss is summed over: documents weigh as much as they have."""
    forwarded: int = 1
    """Cost, for example in tokens sent through a model."""
    error: str | None = None
    """Why there is no loss, None if there is."""
    d_log_lambda: Sequence[float] = ()
    """Derivative of the summed loss with respect to the log of each rescale factor, length P."""
    d_log_attention: float = 0.0
    """Derivative of the summed loss with respect to the log of the attention factor."""


@dataclass(frozen=True)
class _Point:
    """Rescale factors, start tokens and attention factor of a genome."""

    space: Space
    genome: Genome

    @cached_property
    def lambdas(self) -> NDArray[np.float64]:
        """Rescale factors, shape (P,), non-decreasing."""
        return self.space.decode(self.genome)

    @property
    def start_tokens(self) -> int:
        """n_hat: positions that keep the original RoPE, in tokens."""
        return self.genome.start_tokens

    @property
    def attention_factor(self) -> float | None:
        """Relative to the pre-trained one; None where the space does not search it."""
        return self.space.decode_attention(self.genome)

    def factors(self, geometry: RopeGeometry, attention_factor: float = 1.0) -> RescaleFactors:
        """Return what `apply_factors` puts into a model, for the target length `s * L0`.

        Args:
            geometry: of the model, e.g. `rope_geometry(model)`.
            attention_factor: relative to the pre-trained one, where the space does not search it.
        """
        target_length = round(self.space.scale * geometry.original_length)
        return self.space.factors(self.genome, geometry, target_length, attention_factor)


@dataclass(frozen=True)
class Candidate(_Point):
    """What is to be scored: factors, and the document to score them on."""

    document: int
    """Index of the document, below `num_documents`; `pareto` asks for short windows of documents from there on."""
    origin: str
    """Where it comes from: `seed:pi`, `mutation`, ..."""
    gradient: bool
    """Whether the derivatives of the loss are wanted, too."""


@dataclass(frozen=True)
class Solution(_Point):
    """The best that a search has found."""

    loss: float
    """Mean loss over its documents, per token."""
    documents: tuple[int, ...]
    """Indices of the documents it was scored on."""
    origin: str
    """Where it comes from."""
    gain: Gain | None
    """Of the best that the default search found over the best seed, once it is done: where the lower bound is not above
    0 that is not sure, and the solution is that seed. None: nothing was found, or the strategy can't tell."""


class Search:
    """A search that is asked for candidates and told their losses; it scores nothing itself.

    A loss is any number that is better when it is lower. It may differ between documents, which are whatever it is
    measured on: texts, subsets of a benchmark, random seeds. Candidates are compared on the same ones only. Where there
    is no noise one document will do, and a strategy that is content with it, such as `paper`.

    Args:
        space: where to search; `settings.space(num_pairs, scale)` makes the one that settings are for.
        strategy: name of a strategy (`STRATEGIES`), with its defaults, or settings of one.
        seeds: genomes to start from, by name, of `space.encode`; default: PI and NTK.
        num_documents: documents to score on; default: as the settings say. Each counts as one window.
        gradients: whether derivatives can be told; else none are asked for.
        seed: of the random generator; same seed and losses, same candidates.
        record: where to keep what happens, for example a `RunFolder`, from which the search goes on; default: memory.

    Raises:
        ValueError: the strategy is unknown, or an argument is out of range.

    Example:
        >>> search = Search(Space(num_pairs=16, scale=8.0), num_documents=16, seed=0)
        >>> while not search.done:
        ...     candidates = search.ask()
        ...     search.tell([my_loss(one.lambdas, one.start_tokens, one.document) for one in candidates])
        >>> search.best.lambdas
    """

    def __init__(
        self,
        space: Space,
        strategy: str | Settings = "hybrid",
        *,
        seeds: Mapping[str, Genome] | None = None,
        num_documents: int | None = None,
        gradients: bool = False,
        seed: int = 0,
        record: SearchRecord | None = None,
    ) -> None:
        if isinstance(strategy, str) and strategy not in SETTINGS:
            raise ValueError(
                f"strategy must be one of {', '.join(SETTINGS)}, got {strategy!r}; or hand in its settings"
            )
        settings = (SETTINGS[strategy]() if isinstance(strategy, str) else strategy).without_windows(gradients)
        count = settings.num_documents if num_documents is None else num_documents
        self.space = space
        self._record = SearchRecord() if record is None else record
        self._strategy = build_strategy(settings, space, seeds or _plain_seeds(space), count, seed)
        self._generations = iter(Loop(self._strategy, self._record, Budget(), _price))
        self._advance()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to ask."""
        return not self._calls

    @property
    def generation(self) -> int:
        """Number of the generation asked for, from 0; once the search is done that of all its generations."""
        return self._strategy.generation

    @property
    def rows(self) -> Sequence[HistoryRow]:
        """Every loss told, in the order of telling."""
        return self._record.rows

    @property
    def best(self) -> Solution | None:
        """The result once the search is done, before that the best of what was told; None if there is none."""
        best = self._strategy.best
        if best is None:
            return None
        request = best.request
        return Solution(self.space, request.genome, best.loss, best.documents, request.origin, self._strategy.gain)

    def ask(self) -> list[Candidate]:
        """Return what is to be scored next; it may be asked for again.

        Raises:
            RuntimeError: the search is done.
        """
        if self.done:
            raise RuntimeError("ask must not follow the end of the search; read best, and check done before asking")
        return [
            Candidate(self.space, genome, document, origin, gradient)
            for (document, gradient), genomes in self._calls.items()
            for genome, origin in genomes.items()
        ]

    def tell(self, losses: Sequence[SupportsFloat | DocumentScore]) -> None:
        """Take the losses of the candidates asked for.

        Args:
            losses: one per candidate, in the order of `ask`: a number, or a `Score`, which a candidate with `gradient`
                needs. A loss that is not finite, or a score with an error, is a failure: it is recorded, and its
                candidate wins nothing.

        Raises:
            ValueError: a loss is neither a number nor a `Score`; nothing is taken then.
            RuntimeError: there is not one loss per candidate, or nothing could be scored where the search needs it.
        """
        num_asked = sum(map(len, self._calls.values()))
        if len(losses) != num_asked:
            raise RuntimeError(
                f"tell must get one loss per candidate of ask, got {len(losses)} for {num_asked} candidates"
            )
        seconds, left = time.perf_counter() - self._asked_at, iter([_score(one) for one in losses])
        for (document, gradient), genomes in self._calls.items():
            scores = [next(left) for _ in genomes]
            share = seconds * len(scores) / num_asked
            self._record.append(rows_of_call(scores, genomes, self._generation, document, gradient, share))
        self._advance()

    def finish(self) -> None:
        """End the search early: what is still asked for is the choice among its finalists, if the strategy has one."""
        if not self._strategy.done:
            self._strategy.finish()
            self._advance()

    def _advance(self) -> None:
        """Go to the next generation of which losses are missing."""
        self._calls: dict[tuple[int, bool], dict[Genome, str]] = {}
        for generation, requests in self._generations:
            if calls := self._record.missing(requests):
                self._generation, self._calls = generation, calls
                break
        self._asked_at = time.perf_counter()


def _plain_seeds(space: Space) -> dict[str, Genome]:
    """Return PI (all factors s) and NTK (from 1 to s, geometric) as genomes."""
    steps = {
        "pi": (space.scale_step,) * space.num_pairs,
        "ntk": (*ntk_left(space, space.num_pairs - 1, space.scale_step), space.scale_step),
    }
    attention = ATTENTION_RESOLUTION if space.search_attention else None
    return {name: Genome(own, space.start_token_choices[0], attention) for name, own in steps.items()}


def _price(document: int, gradient: bool) -> int:
    return GRADIENT_SCORES if gradient else 1


def _score(loss: SupportsFloat | DocumentScore) -> DocumentScore:
    if hasattr(loss, "nats"):
        return loss  # type: ignore[return-value]
    try:
        return Score(float(loss))  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError) as error:  # what numpy and torch raise for anything but one number
        raise ValueError(
            f"a loss must be a number or a Score, got {str(loss)[:80]!r}; tell a failure as nan or as a Score's error"
        ) from error
