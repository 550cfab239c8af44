"""The default search: race the baselines, let emitters improve on the winner, choose on documents not searched on."""

from collections.abc import Generator, Mapping, Sequence

import numpy as np

from ..racing import p_value_of_worse
from ..settings import HybridSettings
from ..space import Genome, Space
from .base import Evaluation, Request, check_seeds
from .emitters import (
    BreedingEmitter,
    DescentEmitter,
    Emitter,
    SmoothEmitter,
    StartTokenEmitter,
    halve,
    loss_or_infinity,
)
from .replay import ReplayStrategy, best_of, unique
from .windows import Deck, split

Plan = Generator[list[Request], Sequence[Evaluation], None]


class HybridStrategy(ReplayStrategy):
    """From the best baseline to its neighbourhood, under a budget of scores (one candidate on one window each).

    1. Seeds race: all on one window, the better half on another, and so on. The winner is the first incumbent.
    2. Emitters take turns. Each proposes one genome at a known cost; a duel on fresh windows decides whether it is the
       new incumbent. Who gained most per score in its last turn goes next, after everyone had a first turn.
    3. Selection: the winner of the race and the last incumbents on windows of documents that the search never saw. The
       lowest loss there wins, so the result is never worse there than that seed.
    """

    def __init__(
        self, settings: HybridSettings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        check_seeds(space, seeds, num_documents)
        self._settings, self._space, self._seed = settings, space, seed
        self._names: dict[Genome, str] = {}
        for name, genome in seeds.items():
            self._names.setdefault(genome, f"seed:{name}")
        self._search_windows, selection = split(num_documents, settings.windows_per_document, settings.selection_share)
        share = int(settings.selection_budget * settings.num_scores) // settings.num_finalists
        self._selection_windows = tuple(selection[: min(max(share, 2), settings.selection_windows)])
        least = len(self._names) + settings.population_size + self.num_final_scores
        if settings.num_scores < least:
            raise ValueError(
                f"num_scores must be at least {least} for {len(seeds)} seeds, one generation and the selection, got "
                f"{settings.num_scores}; raise it (or --max-scored-tokens)"
            )
        super().__init__()

    def _begin(self) -> None:
        self._rng = np.random.default_rng(self._seed)
        self._deck = Deck(self._search_windows, self._rng)
        self._scores: dict[tuple[Genome, int, bool], int] = {}
        self._incumbents: list[Genome] = []
        self._emitters = self._new_emitters()
        self._plan = self._search()
        self._next: list[Request] | None = next(self._plan)
        self._final = False
        self._result: Evaluation | None = None

    def _new_emitters(self) -> list[Emitter]:
        shared = (self._settings, self._space, self._deck, self._rng)
        emitters: list[Emitter] = [
            SmoothEmitter("smooth", *shared, num_knots=self._settings.num_knots),
            BreedingEmitter("breeding", *shared),
            SmoothEmitter("fine", *shared, num_knots=self._settings.num_fine_knots),
        ]
        if self._settings.use_gradients:
            emitters.insert(0, DescentEmitter("descent", *shared))
        if len(self._space.start_token_choices) > 1:
            emitters.append(StartTokenEmitter("start_tokens", *shared))
        return emitters

    @property
    def num_generations(self) -> int | None:
        return None

    @property
    def num_final_scores(self) -> int:
        return self._settings.num_finalists * len(self._selection_windows)

    @property
    def done(self) -> bool:
        return self._final and self._result is not None

    @property
    def best(self) -> Evaluation | None:
        """The winner once it is chosen; before that the best of the latest generation, on windows of its own."""
        if self._result or not self._told:
            return self._result
        return best_of(self._told[-1])

    def _ask(self) -> list[Request]:
        if self._finished_at is None and self._next is not None:
            return self._next
        self._final = True
        return self._selection()

    def _tell(self, evaluations: Sequence[Evaluation]) -> None:
        for one in evaluations:
            for document in one.request.documents:
                self._scores[one.genome, document, one.request.gradient] = one.request.scores_per_document
        if not self._final:
            try:
                self._next = self._plan.send(evaluations)
            except StopIteration:
                self._next = None
            return
        self._result = best_of(evaluations)
        if self._result is None:
            raise RuntimeError(f"no finalist could be scored: {evaluations[0].error}; fix the objective")

    @property
    def _left(self) -> int:
        """Scores left before the selection."""
        return self._settings.num_scores - self.num_final_scores - sum(self._scores.values())

    def _search(self) -> Plan:
        """Yield generation after generation until the scores are spent or no emitter gains any more."""
        settings = self._settings
        winner = yield from halve(list(self._names), self._deck, self._names.__getitem__, self._left, 1)
        if winner is None:
            return
        self._incumbents.append(winner)
        while any(emitter.failures < settings.patience for emitter in self._emitters):
            emitter = max(self._emitters, key=lambda one: (one.rate, -one.failures))
            before = self._left
            limit = min(int(settings.turn_share * before), settings.turn_scores)
            if limit < settings.population_size:
                return
            challenger = yield from emitter.propose(self._incumbents, limit)
            gain = 0.0
            if challenger is not None:
                gain = yield from self._duel(challenger, emitter.name)
            emitter.credit(gain, before - self._left)

    def _duel(self, challenger: Genome, origin: str) -> Generator[list[Request], Sequence[Evaluation], float]:
        """Let the better of incumbent and challenger be the incumbent; return a likely gain, else 0."""
        settings, incumbent = self._settings, self._incumbents[-1]
        if challenger == incumbent:
            return 0.0
        losses: list[list[float]] = [[], []]
        level = 1.0
        while len(losses[0]) < settings.duel_windows and self._left >= 2:
            if len(losses[0]) >= settings.min_duel_windows and level <= settings.significance:
                break
            windows = self._deck.draw(1)
            evaluations = yield [Request(incumbent, windows, "incumbent"), Request(challenger, windows, origin)]
            for side, evaluation in zip(losses, evaluations, strict=True):
                side.append(loss_or_infinity(evaluation))
            old, new = map(np.array, losses)
            level = min(p_value_of_worse(new, old), p_value_of_worse(old, new))
        if not losses[0] or not np.mean(losses[1]) < np.mean(losses[0]):
            return 0.0
        self._incumbents.append(challenger)
        return float(np.mean(losses[0]) - np.mean(losses[1])) if level <= settings.significance else 0.0

    def _selection(self) -> list[Request]:
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
