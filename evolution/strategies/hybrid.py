"""The default search: race the baselines, improve on the winner stage by stage, choose on documents not searched on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..racing import Gain
from ..settings import HybridSettings
from ..space import Genome, Space
from .base import PROBE, Evaluation, Request, check_seeds
from .generational import SelectingStrategy
from .race import ROUND_WINDOWS, Race, Stage, Tools, check_selection, select, selection_terms
from .stages import POPULATION, STAGES, Gradients, Record, new_stage
from .windows import SELECTION_DOCUMENTS, WindowPool, split

PROBE_WINDOWS = 3
"""Windows of the selection on which each incumbent is scored as soon as it is one, so that the search has a curve."""
SELECTION_WINDOWS = 24
"""Windows on which finalists are scored at least, where the budget allows, before a further incumbent joins them."""
FINALISTS = 4
"""Finalists that scores are kept for: more share them, and where windows are few the search has what is left."""
LEAST_GENERATIONS = 40
"""Generations of full width that a budget is to give at least: below, they are narrower."""
LEAST_WIDTH = 20
"""Scores of a generation in small budgets; those below 160 scores have an eighth of them."""
RACE_SHARE = 0.2
"""Of the budget, for the race of the baselines at most."""
STAGE_SHARE = 0.4
"""Of the scores left, for a stage and its race against the incumbent."""
COMPARISON_SHARE = 0.5
"""Of these, for the race."""
PATIENCE = 2
"""Stages without a gain, of every kind in a row, after which the search ends."""


class HybridStrategy(SelectingStrategy):
    """From the best baseline to its neighbourhood, under a budget of scores (one candidate on one window each).

    1. Seeds race; only the test of `racing` drops one. The best is the first incumbent.
    2. Stage follows stage: each finds challengers, which race against the incumbent on fresh windows; who is surely
       better is the next one. The kind that gained most per score is next, once every kind had one.
    3. Selection: the baselines that the race left undecided, and the incumbents, on windows of documents that the
       search never saw. The best incumbent wins if its gain over the best baseline there is sure, else that baseline.

    A generation offers about `width` scores, which devices can share.
    """

    def __init__(
        self, settings: HybridSettings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        check_seeds(space, seeds, num_documents)
        if space.scale == 1:
            raise ValueError(
                "scale must be above 1 for hybrid, got 1.0: its steps are shares of log s; search with paper"
            )
        super().__init__(seed)
        self._settings, self._space, self._num_documents = settings, space, num_documents
        self._names: dict[Genome, str] = {}
        for name, genome in seeds.items():
            self._names.setdefault(genome, f"seed:{name}")
        self._windows, self._selection = split(num_documents, settings.windows_per_document, SELECTION_DOCUMENTS, seed)
        share = int(settings.selection_share * settings.num_scores)
        self._reserve = max(min(share, FINALISTS * len(self._selection)), len(self._names), 2)
        least = len(self._names) + self._reserve
        if settings.num_scores < least:
            raise ValueError(
                f"num_scores must be at least {least} for {len(seeds)} seeds and the selection, got "
                f"{settings.num_scores}; raise it (or --max-scored-tokens)"
            )
        self._tools = self._new_tools()
        self._scores: dict[tuple[Genome, int, bool], int] = {}
        self._incumbents: list[Genome] = []
        self._baselines = list(self._names)
        self._gain: Gain | None = None
        kinds = ("profile", "family", "polish") if settings.use_gradients else ("family", "profile", "polish")
        self._records = {kind: Record() for kind in kinds}
        self._stage: Stage = Race(self._tools, self._names, self._race_scores)
        self._kind = ""
        self._left_before = 0
        self._to_probe: Genome | None = None
        self._gradients = settings.use_gradients

    def _new_tools(self, windows_left: Sequence[int] = ()) -> Tools:
        pool, settings = WindowPool(self._windows, self._rng, windows_left), self._settings
        least = min(LEAST_WIDTH, settings.num_scores // 8)
        width = min(settings.width, max(settings.num_scores // LEAST_GENERATIONS, least, 1))
        return Tools(settings, self._space, pool, self._rng, width)

    @property
    def num_generations(self) -> int | None:
        return None

    @property
    def reserved(self) -> tuple[int, ...]:
        windows = self._selection
        return tuple(windows[place % len(windows)] for place in range(self._reserve))

    @property
    def gain(self) -> Gain | None:
        """Of the best incumbent over the best baseline in the selection, once it is made; the result if it is sure."""
        return self._gain

    @property
    def _left(self) -> int:
        """Scores left before the selection."""
        return self._settings.num_scores - self._reserve - sum(self._scores.values())

    def _propose(self) -> list[Request] | None:
        while True:
            if self._to_probe is not None:
                return [Request(self._to_probe, tuple(self._selection[:PROBE_WINDOWS]), PROBE)]
            if requests := self._stage.ask():
                return requests
            following = self._next_stage()
            if following is None:
                return None
            self._stage = following

    def _next_stage(self) -> Stage | None:
        """Take in what the stage at its end has found; return the one that follows, None at the end of the search."""
        stage, found = self._stage, self._stage.proposals
        if not isinstance(stage, Race):
            if not found:
                self._gradients = self._gradients and not isinstance(stage, Gradients)  # such as for lack of memory
                self._credit(0.0)
                return self._improvement()
            incumbent = self._incumbents[-1]
            origins = {incumbent: "incumbent"} | {one: found[one] for one in found if one != incumbent}
            return Race(self._tools, origins, self._stage_left, incumbent)
        if stage.incumbent is None:
            self._baselines = list(found) or self._baselines
        else:
            self._credit(stage.gain, next(iter(found.values()), ""))
        if not found:
            return self._improvement() if self._incumbents else None
        self._incumbents.append(next(iter(found)))
        if min(PROBE_WINDOWS, len(self._selection)) <= self._left:
            self._to_probe = self._incumbents[-1]
        return self._improvement()

    @property
    def _race_scores(self) -> int:
        """Scores for the race of the baselines: a round of it where that is no more than half of all."""
        round_scores = max(min(ROUND_WINDOWS * len(self._names), self._left // 2), len(self._names))
        return min(max(int(RACE_SHARE * self._settings.num_scores), round_scores), self._left)

    def _credit(self, gained: float, origin: str = "") -> None:
        self._records[self._kind].credit(gained, self._left_before - self._left, origin)

    @property
    def _stage_left(self) -> int:
        """Scores that the stage and its race may still spend."""
        return min(self._stage_scores - (self._left_before - self._left), self._left)

    @property
    def _stage_scores(self) -> int:
        """Scores of the stage and its race: a share of what was left; all if the rest could not pay for another."""
        share = max(int(STAGE_SHARE * self._left_before), self._least_stage)
        return share if self._left_before - share >= self._least_stage else self._left_before

    @property
    def _least_stage(self) -> int:
        """Scores that pay for a stage of any kind."""
        return self._tools.width + max(self._tools.width // 2, POPULATION)

    def _improvement(self) -> Stage | None:
        """Return a stage of the kind that gained most; None once the scores are spent or no kind gains any more."""
        records = self._records
        self._left_before = self._left
        given_up = all(one.failures >= PATIENCE for one in records.values())
        if given_up or self._left_before < self._least_stage:
            return None
        self._kind = max(records, key=lambda kind: (records[kind].rate, -records[kind].failures))
        num_scores = int((1 - COMPARISON_SHARE) * self._stage_scores)
        return new_stage(self._kind, self._tools, records[self._kind], self._incumbents, num_scores, self._gradients)

    def _learn(self, evaluations: Sequence[Evaluation]) -> None:
        self._count(evaluations)
        if self._to_probe is not None:
            self._to_probe = None
        else:
            self._stage.tell(evaluations)

    def _count(self, evaluations: Sequence[Evaluation]) -> None:
        for one in evaluations:
            for document in one.request.documents:
                self._scores[one.genome, document, one.request.gradient] = one.request.scores_per_document

    def _finalists(self) -> list[Request]:
        baselines = list(self._stage.proposals) if not self._incumbents else self._baselines
        baselines = baselines or self._baselines
        found = [one for one in dict.fromkeys(reversed(self._incumbents)) if one not in self._names]
        places = max(self._reserve // ROUND_WINDOWS, 1 + bool(found))  # in the smallest budgets not all have one
        baselines = baselines[: places - bool(found)]
        room = max(self._reserve // SELECTION_WINDOWS - len(baselines), 1)
        finalists = [*baselines, *found[:room]]
        most = self._reserve // len(finalists) if len(finalists) > 1 else min(self._reserve, SELECTION_WINDOWS)
        windows = tuple(self._selection[:most])
        return [Request(one, windows, self._names.get(one, "incumbent")) for one in finalists]

    def _choose(self, evaluations: Sequence[Evaluation]) -> Evaluation | None:
        winner, self._gain = select(evaluations, self._names, self._num_documents, self._settings.significance)
        return winner

    def _state(self) -> dict[str, Any]:
        return {
            "windows_left": self._tools.pool.left,
            "incumbents": self._incumbents,
            "baselines": self._baselines,
            "records": {kind: asdict(record) for kind, record in self._records.items()},
            "stage": {"name": type(self._stage).__name__, "state": self._stage.state()},
            "kind": self._kind,
            "left_before": self._left_before,
            "to_probe": self._to_probe,
            "gradients": self._gradients,
            "selection": selection_terms(self._settings.significance, self._num_documents, self._selection),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        check_selection(state, self._selection)
        self._tools = self._new_tools(state["windows_left"])
        self._scores = {}
        for evaluations in self._told:
            self._count(evaluations)
        self._incumbents, self._baselines = state["incumbents"], state["baselines"]
        self._records = {kind: Record(**record) for kind, record in state["records"].items()}
        self._stage = STAGES[state["stage"]["name"]].restored(self._tools, state["stage"]["state"])
        self._kind, self._left_before, self._to_probe = state["kind"], state["left_before"], state["to_probe"]
        self._gradients = state["gradients"]
