"""The interface of all strategies: they return requests and take evaluations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..racing import Gain
from ..space import Genome, Space

PROBE = "probe"
"""Origin of scores that are there for the search curve alone."""
GRADIENT_SCORES = 3
"""Scores that a loss with its derivatives counts as: one forward, and a backward of twice its work."""


@dataclass(frozen=True)
class Request:
    """A candidate to be scored on some documents."""

    genome: Genome
    documents: tuple[int, ...]
    """Indices of the search documents, each scored once."""
    origin: str
    """Where the candidate comes from: `seed:yarn`, `mutation`, `crossover`, ..."""
    gradient: bool = False
    """Whether the derivatives of the loss are wanted, too, which cost a backward pass."""

    @property
    def scores_per_document(self) -> int:
        """What a document costs, in scores (one forward each)."""
        return GRADIENT_SCORES if self.gradient else 1

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> "Request":
        """Undo `dataclasses.asdict`, also after a trip through JSON."""
        genome = {**payload["genome"], "steps": tuple(payload["genome"]["steps"])}
        return cls(Genome(**genome), tuple(payload["documents"]), payload["origin"], payload["gradient"])


@dataclass(frozen=True)
class Gradient:
    """Derivatives of the summed loss of one document, in nats."""

    log_lambda: tuple[float, ...]
    """With respect to the log of each rescale factor, length P."""
    log_attention: float
    """With respect to the log of the attention factor."""

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> "Gradient":
        """Undo `dataclasses.asdict`, also after a trip through JSON."""
        return cls(tuple(payload["log_lambda"]), payload["log_attention"])


@dataclass(frozen=True)
class Evaluation:
    """The answer to a request: its score, or why it has none."""

    request: Request
    nats: tuple[float, ...] = ()
    """Summed loss of each of the `documents`, in nats."""
    tokens: tuple[int, ...] = ()
    """Scored tokens of each of the `documents`."""
    error: str | None = None
    """Why the candidate could not be scored; such an evaluation is recorded and never ranked."""
    gradients: tuple[Gradient, ...] = ()
    """Derivatives for each of the `documents`, where the request wants them."""
    left_out: frozenset[int] = frozenset()
    """Requested documents on which everybody failed where that was decided, see `SearchRecord.evaluation`."""

    @property
    def genome(self) -> Genome:
        """The candidate."""
        return self.request.genome

    @property
    def documents(self) -> tuple[int, ...]:
        """Indices of the requested documents without those left out, the same for all that are compared."""
        return tuple(one for one in self.request.documents if one not in self.left_out)

    @property
    def failed(self) -> bool:
        """Whether there is no finite loss to rank."""
        return self.error is not None or not math.isfinite(math.fsum(self.nats)) or sum(self.tokens) <= 0

    @property
    def loss(self) -> float:
        """Mean nats per token over the `documents`: summed, counted, divided once.

        Raises:
            RuntimeError: the evaluation failed; a failure is no number.
        """
        if self.failed:
            raise RuntimeError(f"a failed evaluation has no loss: {self.error or self.nats}")
        return math.fsum(self.nats) / sum(self.tokens)


@dataclass(frozen=True)
class Proposal:
    """A generation that was asked for, and the state to go on from once its scores are there."""

    generation: int
    """Number of the generation, from 0."""
    final: bool
    """Whether it is the choice among the finalists, which a larger budget puts off."""
    requests: tuple[Request, ...]
    """What it asks for."""
    state: Mapping[str, Any]
    """The strategy's `state()` after it asked."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` undoes it."""
        return {
            "generation": self.generation,
            "final": self.final,
            "requests": [asdict(request) for request in self.requests],
            "state": dict(self.state),
        }

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> "Proposal":
        """Undo `to_dict`."""
        requests = tuple(Request.from_dict(request) for request in payload["requests"])
        return cls(int(payload["generation"]), bool(payload["final"]), requests, payload["state"])


class Strategy(Protocol):
    """A search algorithm that proposes candidates and never scores them itself.

    `ask` proposes one generation and may be called again with the same answer until `tell` takes the evaluations in the
    order of the requests. `state`, taken after `ask`, is JSON-able and holds what the evaluations don't tell: a
    strategy built with the same arguments continues from it and from the evaluations told.
    """

    @property
    def generation(self) -> int:
        """Generations told so far; the first is number 0."""
        ...

    @property
    def num_generations(self) -> int | None:
        """Generations of the whole search, None if it is not known."""
        ...

    @property
    def done(self) -> bool:
        """Whether there is nothing left to ask."""
        ...

    @property
    def final(self) -> bool:
        """Whether the generation asked for is the choice among the finalists."""
        ...

    @property
    def best(self) -> Evaluation | None:
        """The best evaluation so far; the result once the search is done."""
        ...

    @property
    def gain(self) -> Gain | None:
        """What the search found over the best baseline, with bounds, where it can tell; it is done then."""
        ...

    def ask(self) -> list[Request]: ...

    def tell(self, evaluations: Sequence[Evaluation]) -> None: ...

    @property
    def reserved(self) -> tuple[int, ...]:
        """Documents that the final generation after this one scores at most, one entry per score."""
        ...

    def finish(self) -> None:
        """Drop what is pending and make the next generation the final one, because the budget ends."""
        ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, proposal: Proposal, told: Sequence[Sequence[Evaluation]]) -> None:
        """Go to where a generation was asked for.

        Args:
            proposal: the generation.
            told: evaluations of the generations before it, in order.

        Raises:
            KeyError, TypeError, ValueError: the state is not one of this strategy.
        """
        ...


def check_seeds(space: Space, seeds: Mapping[str, Genome], num_documents: int) -> None:
    """Refuse seeds outside the space, no seeds, and no documents.

    Raises:
        ValueError: the message names the seed or the argument.
    """
    if not seeds:
        raise ValueError("seeds must hold at least one genome, got none; hand in pi, ntk or yarn")
    if num_documents < 1:
        raise ValueError(f"num_documents must be at least 1, got {num_documents}; give the search documents to score")
    for name, genome in seeds.items():
        if not space.contains(genome):
            raise ValueError(f"seed {name!r} must lie in the search space, got {genome}; make it with Space.encode")


def check_answer(requests: Sequence[Request] | None, evaluations: Sequence[Evaluation]) -> None:
    """Refuse evaluations that do not answer the pending requests one by one.

    Raises:
        RuntimeError: `tell` was called before `ask`, or with other evaluations.
    """
    if requests is None:
        raise RuntimeError("tell must follow ask, got evaluations with no request pending; call ask first")
    if [evaluation.request for evaluation in evaluations] != list(requests):
        raise RuntimeError(
            f"tell must get one evaluation per request in the order asked, got {len(evaluations)} for "
            f"{len(requests)} requests"
        )
