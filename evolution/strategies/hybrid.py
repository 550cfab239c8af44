"""The default search: explore in smooth coordinates, refine in the full ones, choose on documents not searched on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..operators import crossover, distinct, mutate
from ..racing import p_value_of_worse, survivors
from ..settings import HybridSettings
from ..space import Genome, Space
from .base import Evaluation, Request, check_seeds
from .explorer import Explorer
from .replay import ReplayStrategy, best_of, unique
from .windows import Deck, split


@dataclass
class Race:
    """Children against the incumbent, on one more window per round until the last round."""

    origins: dict[Genome, str]
    """Who still runs, the incumbent first."""
    losses: dict[Genome, list[float]] = field(default_factory=dict)
    """Loss of everyone on each window so far; infinite where the score failed."""
    rounds: int = 0


class HybridStrategy(ReplayStrategy):
    """From the best baseline to its neighbourhood, under a budget of scores (one candidate on one window each).

    1. Seeds: all on the same few windows; the best is the origin of the smooth coordinates.
    2. Exploration: an evolution strategy on knots of log lambda, the attention factor and start tokens. A generation
       shares a fresh window, later ones more. Its result is the average of the later means.
    3. Refinement: the average races against mutations of it and crossovers with earlier incumbents in full coordinates.
       Every round adds a window; a paired test drops who can't win. The winner becomes the incumbent if it is better
       with some certainty.
    4. Selection: the best seeds, the average and the incumbent on windows of documents that the search never saw. The
       lowest loss there wins, so the result is never worse there than those seeds.
    """

    def __init__(
        self, settings: HybridSettings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        check_seeds(space, seeds, num_documents)
        self._settings, self._space, self._seed = settings, space, seed
        self._seeds = dict(seeds)
        self._search_windows, selection = split(num_documents, settings.windows_per_document, settings.selection_share)
        self._selection_windows = tuple(selection[: settings.selection_windows])
        self._num_knots = min(settings.num_knots, space.num_pairs)
        least = len(seeds) * settings.seed_windows + settings.population_size + self.num_final_scores
        if settings.num_scores < least:
            raise ValueError(
                f"num_scores must be at least {least} for {len(seeds)} seeds, one generation and the selection, got "
                f"{settings.num_scores}; raise it (or --max-scored-tokens) or lower seed_windows and selection_windows"
            )
        super().__init__()

    def _begin(self) -> None:
        self._rng = np.random.default_rng(self._seed)
        self._deck = Deck(self._search_windows, self._rng)
        self._scored: set[tuple[Genome, int]] = set()
        self._best_seeds: list[Evaluation] = []
        self._explorer: Explorer | None = None
        self._exploring = True
        self._race: Race | None = None
        self._incumbents: list[Genome] = []
        self._seen: set[Genome] = set()
        self._stale = 0
        self._result: Evaluation | None = None
        self._final = False

    @property
    def num_generations(self) -> int | None:
        return None

    @property
    def num_final_scores(self) -> int:
        finalists = self._settings.num_finalist_seeds + 3
        return finalists * len(self._selection_windows)

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
        if self._finished_at is not None:
            return self._ask_selection()
        if not self._told:
            documents = self._deck.draw(self._settings.seed_windows)
            return [Request(genome, documents, f"seed:{name}") for name, genome in self._seeds.items()]
        for propose in (self._ask_exploration, self._ask_refinement):
            if requests := propose():
                return requests
        return self._ask_selection()

    def _ask_exploration(self) -> list[Request]:
        """Return a generation of the evolution strategy, none once its share of the budget is spent."""
        explorer = self._explorer
        if explorer is None or not self._exploring:
            return []
        windows = self._deck.draw(1 + explorer.generation // self._settings.generations_per_window)
        share = self._settings.explore_share
        num_seed_scores = len(self._told[0]) * self._settings.seed_windows
        limit = num_seed_scores + share * (self._settings.num_scores - self.num_final_scores - num_seed_scores)
        if explorer.generation and len(self._scored) + self._settings.population_size * len(windows) > limit:
            self._exploring = False
            self._incumbents = [self._best_seeds[0].genome, explorer.average(self._settings.averaged_share)]
            self._seen |= {genome for genome, _ in self._scored}
            return []
        return [Request(genome, windows, "cma") for genome in explorer.ask()]

    def _ask_refinement(self) -> list[Request]:
        """Return the next round of the race, none once the budget is spent or nothing is gained any more."""
        if not self._incumbents or self._stale >= self._settings.patience:
            return []
        if self._race is None:
            self._race = Race(self._breed())
        race = self._race
        left = self._settings.num_scores - self.num_final_scores - len(self._scored)
        if len(race.origins) < 2 or len(race.origins) > left:
            return []
        windows = self._deck.draw(1)
        return [Request(genome, windows, origin) for genome, origin in race.origins.items()]

    def _ask_selection(self) -> list[Request]:
        self._final = True
        finalists = [one.request for one in self._best_seeds[: self._settings.num_finalist_seeds]]
        requests = [replace(request, documents=self._selection_windows) for request in finalists]
        if self._explorer and self._explorer.generation:
            average = self._explorer.average(self._settings.averaged_share)
            kept = replace(average, start_tokens=finalists[0].genome.start_tokens)
            refined = self._incumbents[-1] if self._incumbents else average
            candidates = {"average": average, "average:start_tokens": kept, "refined": refined}
            requests += [Request(genome, self._selection_windows, origin) for origin, genome in candidates.items()]
        return unique(requests)

    def _tell(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            self._scored |= {(evaluation.genome, document) for document in evaluation.request.documents}
        if self._final:
            self._result = best_of(evaluations)
            if self._result is None:
                raise RuntimeError(f"no finalist could be scored: {evaluations[0].error}; fix the objective")
        elif not self._told:
            self._begin_exploration(evaluations)
        elif self._exploring and self._explorer:
            self._explorer.tell([_loss(evaluation) for evaluation in evaluations])
        else:
            self._run_race(evaluations)

    def _begin_exploration(self, evaluations: Sequence[Evaluation]) -> None:
        self._best_seeds = sorted((one for one in evaluations if not one.failed), key=lambda one: one.loss)
        if self._best_seeds:
            settings, seed = self._settings, int(self._rng.integers(2**32))
            origin = self._best_seeds[0].genome
            self._explorer = Explorer(
                self._space, origin, self._num_knots, settings.sigma, settings.population_size, seed
            )

    def _breed(self) -> dict[Genome, str]:
        """Return the incumbent and its new children with their origins."""
        incumbent = self._incumbents[-1]
        settings, rng = self._settings, self._rng
        children = {incumbent: "incumbent"}

        def mutant() -> Genome:
            return mutate(incumbent, self._space, rng, settings.mutation_probability)

        def child() -> Genome:
            mate = self._incumbents[int(rng.integers(len(self._incumbents) - 1))]
            return crossover(incumbent, mate, rng)

        makers = [("mutation", mutant)] * settings.num_mutations + [("crossover", child)] * settings.num_crossovers
        for origin, propose in makers:
            if (genome := distinct(propose, self._seen, settings.max_attempts)) is not None:
                self._seen.add(genome)
                children[genome] = origin
        return children

    def _run_race(self, evaluations: Sequence[Evaluation]) -> None:
        race = self._race
        assert race is not None, "a refinement is a race"
        for evaluation in evaluations:
            race.losses.setdefault(evaluation.genome, []).append(_loss(evaluation))
        race.rounds += 1
        runners = list(race.origins)
        kept = {runners[i] for i in survivors([race.losses[one] for one in runners], 1, self._settings.significance)}
        incumbent = self._incumbents[-1]
        race.origins = {one: origin for one, origin in race.origins.items() if one in kept or one == incumbent}
        if race.rounds >= self._settings.race_rounds or len(race.origins) < 2:
            self._end_race(race)

    def _end_race(self, race: Race) -> None:
        incumbent = self._incumbents[-1]
        winner = min(race.origins, key=lambda one: sum(race.losses[one]))
        certainty = p_value_of_worse(np.array(race.losses[incumbent]), np.array(race.losses[winner]))
        self._stale += 1
        if winner != incumbent and certainty <= self._settings.significance:
            self._incumbents.append(winner)
            self._stale = 0
        self._race = None


def _loss(evaluation: Evaluation) -> float:
    """Return the loss to rank by, infinite for a failure."""
    return math.inf if evaluation.failed else evaluation.loss
