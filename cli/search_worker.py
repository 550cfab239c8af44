"""Where candidates are scored: a model with an objective, in this process or in that of a worker."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from transformers import PreTrainedModel

from ..evaluation.comparison.results import model_fingerprint
from ..evaluation.data.tokenized import TokenizedDocuments, check_tokenizer
from ..evaluation.objectives.base import WindowScore
from ..evaluation.scoring.compiling import compile_tokenwise
from ..evaluation.scoring.model import load_model
from ..evolution import Objective, Settings, Unit, UnitScores, score_unit
from ..execution import Executor, Resources, TaskFuture, TaskLost
from ..rope import Installation, RopeGeometry, install
from .configs import SearchConfig
from .executors import device_of, use
from .objectives import build_objective
from .readjust import prepare_readjustment


@dataclass(frozen=True)
class SearchFacts:
    """What the search has to know of a worker's model and objective."""

    config: SearchConfig
    """With the model's own extension as the one to readjust, where that is what the search is for."""
    geometry: RopeGeometry
    provenance: dict[str, Any]
    """Of the model, and what it runs with."""
    prices: dict[bool, list[int]]
    """Without and with derivatives: tokens that a score costs at most, by window."""


@dataclass(frozen=True)
class SearchWorker:
    """A model that an objective scores candidates in."""

    config: SearchConfig
    model: PreTrainedModel
    installation: Installation
    objective: Objective

    def facts(self, num_windows: int) -> SearchFacts:
        """Return what the search has to know, of so many windows."""
        prices = {
            gradient: [self.objective.price(window, gradient) for window in range(num_windows)]
            for gradient in (False, True)
        }
        provenance = {
            "model": {"id": self.config.model, **model_fingerprint(self.model, self.config.model)},
            "device": self.model.device.type,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attention": self.model.config._attn_implementation,
        }
        return SearchFacts(self.config, self.installation.geometry, provenance, prices)

    def score(self, unit: Unit) -> UnitScores:
        """Return the scores of a unit."""
        return score_unit(self.objective, unit)


@dataclass(frozen=True)
class SearchFactory:
    """Loads a model and builds the objective, where the scores are made."""

    config: SearchConfig
    settings: Settings
    data: TokenizedDocuments

    def __call__(self, resources: Resources) -> SearchWorker:
        use(resources)
        config = self.config
        model, tokenizer = load_model(config.model, config.dtype, device_of(config), config.attn_implementation)
        check_tokenizer(self.data, tokenizer)
        if config.compile:
            compile_tokenwise(model)
        config = prepare_readjustment(config, model)
        installation = install(model, config.original_length)
        objective = build_objective(config, self.settings, model, tokenizer, installation, self.data)
        return SearchWorker(config, model, installation, objective)


@dataclass(frozen=True)
class ExecutedObjective:
    """An objective whose scores the workers of an executor make."""

    executor: Executor[SearchWorker]
    prices: dict[bool, list[int]]
    unit_size: int

    def price(self, document: int, gradient: bool) -> int:
        """Return the tokens that a score of one candidate costs at most."""
        return self.prices[gradient][document]

    def score(self, candidates: Sequence[Any], document: int) -> Sequence[Any]:
        """Return the scores of one unit."""
        ((_, (scores, _)),) = self.score_units([Unit(tuple(candidates), document, gradient=False)])
        return scores

    def score_units(self, units: Iterable[Unit | None]) -> Iterator[tuple[int, UnitScores]]:
        """Yield the place of each unit and its scores as workers end them; a unit is taken when a worker is free.

        A unit that loses its workers again and again is tried candidate by candidate; what loses them then has failed.
        """
        following, places = iter(units), count()
        taken: dict[TaskFuture[UnitScores], tuple[int, Unit]] = {}
        try:
            while True:
                while len(taken) < self.executor.num_workers and (unit := next(following, None)) is not None:
                    taken[self._submit(unit)] = next(places), unit
                if not taken:
                    return
                ended = next(self.executor.as_completed(taken))
                place, unit = taken.pop(ended)
                yield place, self._result(ended, unit)
        finally:
            for future in taken:
                future.cancel()

    def _submit(self, unit: Unit) -> TaskFuture[UnitScores]:
        return self.executor.submit(SearchWorker.score, unit)

    def _result(self, task: TaskFuture[UnitScores], unit: Unit) -> UnitScores:
        """Return the scores of a unit, whose seconds are also those of the workers that were lost with it."""
        try:
            scores, seconds = task.result()
            return UnitScores(scores, seconds + task.lost_seconds)
        except TaskLost as loss:
            if len(unit.candidates) == 1:
                cost = self.price(unit.document, unit.gradient)
                return UnitScores([WindowScore(None, 0, f"TaskLost: {loss}", forwarded=cost)], task.lost_seconds)
        alone = [Unit((candidate,), unit.document, unit.gradient) for candidate in unit.candidates]
        parts = dict(self.score_units(alone))
        scores = [score for place in range(len(alone)) for score in parts[place].scores]
        return UnitScores(scores, sum(part.seconds for part in parts.values()) + task.lost_seconds)
