"""The default search: race the baselines, improve on the winner stage by stage, choose on documents not searched on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..settings import HybridSettings
from ..space import Genome, Space
from .base import Evaluation, Request, check_seeds
from .generational import SelectingStrategy, unique
from .stages import STAGES, Comparison, Halving, Probe, Record, Stage, Tools, loss_or_infinity, new_stage
from .windows import WindowPool, split

PROBE_WINDOWS = 3
"""Windows of the selection on which each incumbent is scored as soon as it is one, so that the search has a curve."""


class HybridStrategy(SelectingStrategy):
    """From the best baseline to its neighbourhood, under a budget of scores (one candidate on one window each).

    1. Seeds race: all on one window, the better half on another, and so on. The winner is the first incumbent.
    2. Stage follows stage. Each proposes one genome at a known cost; a comparison on fresh windows decides whether it
       is the new incumbent. The kind that gained most per score in its last stage is next, once every kind had one.
    3. Selection: the winner of the race and the last incumbents on windows of documents that the search never saw. The
       lowest loss there wins, so the result is never worse there than that seed.
    """

    def __init__(
        self, settings: HybridSettings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        check_seeds(space, seeds, num_documents)
        super().__init__(seed)
        self._settings, self._space = settings, space
        self._names: dict[Genome, str] = {}
        for name, genome in seeds.items():
            self._names.setdefault(genome, f"seed:{name}")
        self._windows, selection = split(num_documents, settings.windows_per_document, settings.selection_share)
        share = int(settings.selection_budget * settings.num_scores) // settings.num_finalists
        self._selection_windows = tuple(selection[: min(max(share, 2), settings.selection_windows)])
        least = len(self._names) + settings.population_size + len(self.reserved)
        if settings.num_scores < least:
            raise ValueError(
                f"num_scores must be at least {least} for {len(seeds)} seeds, one generation and the selection, got "
                f"{settings.num_scores}; raise it (or --max-scored-tokens)"
            )
        self._tools = self._new_tools()
        self._scores: dict[tuple[Genome, int, bool], int] = {}
        self._incumbents: list[Genome] = []
        self._records = {kind: Record() for kind in self._kinds()}
        self._stage: Stage = Halving(self._tools, self._names, self._left, 1)
        self._kind: str | None = None
        self._left_before = 0

    def _kinds(self) -> list[str]:
        """Return the kinds of stages, in the order of their first."""
        kinds = ["smooth", "variation", "fine"]
        if self._settings.use_gradients:
            kinds.insert(0, "descent")
        if len(self._space.start_token_choices) > 1:
            kinds.append("start_tokens")
        return kinds

    def _new_tools(self, windows_left: Sequence[int] = ()) -> Tools:
        pool = WindowPool(self._windows, self._rng, windows_left)
        return Tools(self._settings, self._space, pool, self._rng)

    @property
    def num_generations(self) -> int | None:
        return None

    @property
    def reserved(self) -> tuple[int, ...]:
        return self._settings.num_finalists * self._selection_windows

    @property
    def _left(self) -> int:
        """Scores left before the selection."""
        return self._settings.num_scores - len(self.reserved) - sum(self._scores.values())

    def _propose(self) -> list[Request] | None:
        while not (requests := self._stage.ask()):
            following = self._next_stage()
            if following is None:
                return None
            self._stage = following
        return requests

    def _next_stage(self) -> Stage | None:
        """Take in what the stage at its end has found; return the one that follows, None at the end of the search."""
        stage, result = self._stage, self._stage.result
        if isinstance(stage, Probe):
            return self._next_improvement()
        if not self._incumbents:
            if result is None:
                return None
            self._incumbents.append(result)
        elif isinstance(stage, Comparison):
            if result is not None:
                self._incumbents.append(result)
            self._credit(stage.sure_gain)
            if result is None:
                return self._next_improvement()
        elif result is None or result == self._incumbents[-1]:
            self._credit(0.0)
            return self._next_improvement()
        else:
            return Comparison(self._tools, self._incumbents[-1], result, str(self._kind), self._left)
        probes = self._selection_windows[:PROBE_WINDOWS]
        return Probe(self._tools, self._incumbents[-1], probes) if len(probes) <= self._left else None

    def _credit(self, gain: float) -> None:
        self._records[str(self._kind)].credit(gain, self._left_before - self._left)

    def _next_improvement(self) -> Stage | None:
        """Return a stage of the kind that gained most; None once the scores are spent or no kind gains any more."""
        settings, records = self._settings, self._records
        self._left_before = self._left
        limit = min(int(settings.stage_share * self._left), settings.stage_scores)
        if all(one.failures >= settings.patience for one in records.values()) or limit < settings.population_size:
            return None
        self._kind = max(records, key=lambda kind: (records[kind].rate, -records[kind].failures))
        return new_stage(self._kind, self._tools, records[self._kind], self._incumbents, limit)

    def _learn(self, evaluations: Sequence[Evaluation]) -> None:
        self._count(evaluations)
        self._stage.tell(evaluations)

    def _count(self, evaluations: Sequence[Evaluation]) -> None:
        for one in evaluations:
            for document in one.request.documents:
                self._scores[one.genome, document, one.request.gradient] = one.request.scores_per_document

    def _finalists(self) -> list[Request]:
        seeds, found = self._incumbents[:1], self._incumbents[:0:-1]
        finalists = ((seeds + found) or self._latest_best())[: self._settings.num_finalists]
        origins = {genome: self._names.get(genome, "incumbent") for genome in finalists}
        return unique([Request(genome, self._selection_windows, origin) for genome, origin in origins.items()])

    def _latest_best(self) -> list[Genome]:
        """Return who is left in a race that was ended early, best first; all seeds before it began."""
        if not self._told:
            return list(self._names)
        ranked = sorted(self._told[-1], key=loss_or_infinity)
        return [evaluation.genome for evaluation in ranked]

    def _state(self) -> dict[str, Any]:
        return {
            "windows_left": self._tools.pool.left,
            "incumbents": self._incumbents,
            "records": {kind: asdict(record) for kind, record in self._records.items()},
            "stage": {"name": type(self._stage).__name__, "state": self._stage.state()},
            "kind": self._kind,
            "left_before": self._left_before,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._tools = self._new_tools(state["windows_left"])
        self._scores = {}
        for evaluations in self._told:
            self._count(evaluations)
        self._incumbents = state["incumbents"]
        self._records = {kind: Record(**record) for kind, record in state["records"].items()}
        self._stage = STAGES[state["stage"]["name"]].restored(self._tools, state["stage"]["state"])
        self._kind, self._left_before = state["kind"], state["left_before"]
