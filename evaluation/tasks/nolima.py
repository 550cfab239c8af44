"""A needle that shares no words with its question, after NoLiMa (arXiv 2502.05167); facts and wording are our own.

What links the two is knowledge of the world: one step (the Eiffel Tower: Paris) or two (Paris: France). The answer is
the name of a person, drawn for each prompt from `NAMES` among those that the haystack doesn't hold; a model that names
any of them at random scores `1 / len(NAMES)`.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean
from typing import Any, ClassVar, NamedTuple

from ..data.haystack import Haystack, Hidden
from ..data.seeding import seeded
from .haystack import HaystackTask
from .needle import contains
from .prompted import Sample

ANSWER_TOKENS = 16
BASE_LENGTH = 1024
"""Longest of the short lengths, in tokens, whose best score is a pair's base score (the paper: 250, 500, 1000)."""
EFFECTIVE_SHARE = 0.85
NAMES = (
    *("Agnes", "Amara", "Anton", "Beatrix", "Bruno", "Carmen", "Cyril", "Dalia", "Edgar", "Farida", "Fergus", "Greta"),
    *("Hamid", "Helga", "Imani", "Ingrid", "Jasper", "Kamila", "Lorenz", "Mabel", "Marcus", "Nadia", "Oskar", "Petra"),
    *("Quentin", "Rosalind", "Samir", "Tamsin", "Ulrich", "Vera", "Wanda", "Yusuf"),
)
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the this that who whom whose what which is are was were be been being has have had do does did can could
        will would may might must cannot not no nor and or but if in on at of to for from by with without as into after
        before every each one all any some he she it they him her them his its their""",
    )
)


class Fact(NamedTuple):
    """What a needle says of a person in both orders, and what a question may ask about instead."""

    topic: str
    default: str
    """Statement in which the name comes first."""
    inverted: str
    """Statement in which the name comes last."""
    one_hop: str
    """Predicate that follows from the statement in one step of knowledge."""
    two_hop: str | None = None
    """Predicate that follows in two steps."""


class Pair(NamedTuple):
    """A needle and a question that share no content words."""

    name: str
    statement: str
    """With `{name}` where the person's name goes."""
    predicate: str


FACTS = (
    Fact(
        "paris",
        "{name} rents a small flat facing the Eiffel Tower.",
        "The small flat facing the Eiffel Tower is rented by {name}.",
        "lives in Paris",
        "lives in France",
    ),
    Fact(
        "vegan",
        "{name} has not touched meat, milk or eggs for years.",
        "Not touched for years: that is what meat, milk and eggs are to {name}.",
        "follows a vegan diet",
    ),
    Fact(
        "rome",
        "{name} sweeps the steps of the Colosseum at dawn.",
        "The steps of the Colosseum are swept at dawn by {name}.",
        "works in Rome",
        "works in Italy",
    ),
    Fact(
        "lactose",
        "{name} gets stomach cramps from a single sip of milk.",
        "A single sip of milk gives stomach cramps to {name}.",
        "is intolerant of lactose",
    ),
    Fact(
        "london",
        "{name} photographs Big Ben from the office window.",
        "From the office window, Big Ben is photographed by {name}.",
        "spends weekdays in London",
        "spends weekdays in England",
    ),
    Fact(
        "heights",
        "{name} trembles on the lowest rung of a ladder.",
        "The lowest rung of a ladder is where you see the trembling of {name}.",
        "is afraid of heights",
    ),
    Fact(
        "berlin",
        "{name} sells postcards beside the Brandenburg Gate.",
        "Beside the Brandenburg Gate, postcards are sold by {name}.",
        "earns a living in Berlin",
        "earns a living in Germany",
    ),
    Fact(
        "orchestra",
        "{name} tunes the cello for tonight's symphony.",
        "The cello for tonight's symphony is tuned by {name}.",
        "plays in an orchestra",
    ),
    Fact(
        "new york",
        "{name} feeds gulls below the Statue of Liberty.",
        "Below the Statue of Liberty, gulls are fed by {name}.",
        "spends time in New York",
        "spends time in America",
    ),
    Fact(
        "dentist",
        "{name} drills and fills teeth all day.",
        "All day, teeth are drilled and filled by {name}.",
        "is a dentist",
    ),
    Fact(
        "athens",
        "{name} guards the Parthenon at night.",
        "The Parthenon is guarded at night by {name}.",
        "has a job in Athens",
        "has a job in Greece",
    ),
    Fact(
        "baker",
        "{name} pulls two hundred warm loaves from the oven.",
        "Two hundred warm loaves are pulled from the oven by {name}.",
        "is a baker",
    ),
    Fact(
        "barcelona",
        "{name} runs a kiosk next to the Sagrada Familia.",
        "The kiosk next to the Sagrada Familia is run by {name}.",
        "is at home in Barcelona",
        "is at home in Spain",
    ),
    Fact(
        "pilot",
        "{name} brings the Boeing down on runway two.",
        "Down on runway two, the Boeing is brought by {name}.",
        "is a pilot",
    ),
    Fact(
        "agra",
        "{name} guides visitors around the Taj Mahal.",
        "Around the Taj Mahal, visitors are guided by {name}.",
        "is employed in Agra",
        "is employed in India",
    ),
    Fact(
        "farmer",
        "{name} milks forty cows in the barn.",
        "In the barn, forty cows are milked by {name}.",
        "is a farmer",
    ),
    Fact(
        "sydney",
        "{name} mops the stage of the Opera House under the white sails by the harbour bridge.",
        "Under the white sails by the harbour bridge, the stage of the Opera House is mopped by {name}.",
        "is known in Sydney",
        "is known in Australia",
    ),
    Fact(
        "astronomer",
        "{name} points the great telescope at Saturn.",
        "The great telescope is pointed at Saturn by {name}.",
        "studies astronomy",
    ),
)


@dataclass(frozen=True)
class NoLiMa(HaystackTask):
    """Accuracy of naming the person that a needle speaks of without the question's words."""

    name: ClassVar[str] = "nolima"

    depths: int = 5
    """Depths on an even grid from 0 to 1."""
    pairs: int | None = None
    """Needle-question pairs, the first of `all_pairs()`; None: all of them."""

    @property
    def max_new_tokens(self) -> int:
        return ANSWER_TOKENS

    def samples(self, length: int) -> list[Sample]:
        haystack = self.haystack()
        return [
            self._ask(pair, haystack, length, depth, trial)
            for pair in self._chosen()
            for depth in self.grid()
            for trial in range(self.trials)
        ]

    def sample(self, haystack: Haystack, length: int, depth: float, trial: int) -> Sample:
        return self._ask(self._chosen()[0], haystack, length, depth, trial)

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        return {"accuracy": float(contains(predicted, sample.references[0]))}

    def scoring(self) -> str:
        return "answer contains the person's name"

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "pairs": [pair.name for pair in self._chosen()]}

    def _chosen(self) -> Sequence[Pair]:
        pairs = all_pairs()
        if self.pairs is not None and not 1 <= self.pairs <= len(pairs):
            raise ValueError(f"pairs must be from 1 to {len(pairs)}, got {self.pairs}; omit it to ask all")
        return pairs[: self.pairs]

    def _ask(self, pair: Pair, haystack: Haystack, length: int, depth: float, trial: int) -> Sample:
        seed = seeded(self.name, self.seed, length, pair.name, depth, trial)
        line = haystack.style.line.format
        question, stem = line(f"Who {pair.predicate}?"), f" The person who {pair.predicate} is"
        for name in random.Random(seed).sample(NAMES, len(NAMES)):
            hidden = [Hidden(depth, line(pair.statement.format(name=name)))]
            ids = haystack.prompt(hidden, question, length, ANSWER_TOKENS, random.Random(seed + 1), stem)
            if len(re.findall(rf"\b{name}\b", str(self.tokenizer.decode(ids)))) == 1:
                labels = {"depth": depth, "trial": trial, "pair": pair.name}
                return Sample(f"{pair.name} depth {depth} trial {trial}", ids, (name,), labels)
        raise ValueError(f"documents must lack at least one of the names {', '.join(NAMES)}; use other documents")


@cache
def all_pairs() -> tuple[Pair, ...]:
    """Return the pairs of all facts, hops and orders: those of one hop first, all facts in the default order first."""
    pairs = []
    for hop in ("one_hop", "two_hop"):
        for order in ("default", "inverted"):
            for fact in FACTS:
                if predicate := getattr(fact, hop):
                    pairs.append(Pair(f"{fact.topic} {hop} {order}", getattr(fact, order), predicate))
    return tuple(pairs)


def content_words(text: str) -> set[str]:
    """Return the words of a text, in lower case, that are no function words."""
    return set(re.findall(r"[^\W\d_]+", text.lower().replace("{name}", ""))) - FUNCTION_WORDS


def base_score(records: Iterable[Mapping[str, Any]], longest: int = BASE_LENGTH) -> float:
    """Return the score without a long context: the mean over pairs of each pair's best mean over the short lengths.

    Args:
        records: entries of `cells.jsonl` (`Record.to_dict`) of one method; those without a score are left out.
        longest: longest of the short lengths, in tokens.

    Raises:
        ValueError: no record has a score at a short length.
    """
    scores: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record["length"] <= longest and record["error"] is None:
            scores[record["pair"]][record["length"]].append(record["scores"]["accuracy"])
    if not scores:
        raise ValueError(f"records must hold answers at {longest} tokens or less, got none; evaluate such a length too")
    return mean(max(mean(values) for values in by_length.values()) for by_length in scores.values())


def effective_length(scores: Mapping[int, float], base: float) -> int | None:
    """Return the longest length, in tokens, whose score is at least 0.85 of the base score; None if none is."""
    return max((length for length, score in scores.items() if score >= EFFECTIVE_SHARE * base), default=None)
