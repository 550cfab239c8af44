"""Training sequences that hide something and ask for it, so that retrieval can be measured on the embedded model.

They have the wording of the evaluation's tasks (`evaluation.prompts`, RULER's), with names, values, places and
haystacks of their own: the model learns to look things up inside its trained length, and an evaluation beyond it tells
whether the RoPE method keeps that.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from longrope.evaluation.data.prompts import COMMENT, FILLER, LANDMARK, Needle, PromptStyle
from longrope.evaluation.tasks.needle import all_values_question

WORDS = "amber basil cedar delta ember fjord grove hazel ivory jade kite lotus maple north ocean pearl quartz river"
KINDS = {"passkey": 30, "named_passkey": 15, "key_value": 20, "all_values": 10, "variables": 10, "copy": 15}
"""Weights of what a sequence asks for."""
COMMENT_SHARE = 0.6
"""Share of the needles that are Python comments; the others are sentences, half of them in filler sentences."""


@dataclass(frozen=True)
class Exercise:
    """Statements to hide, and the question with its answer."""

    statements: list[str]
    question: str
    answer: str


def sample_exercise(kind: str, style: PromptStyle, rng: random.Random) -> Exercise:
    """Return an exercise of a kind in a style."""
    if kind == "passkey":
        return _of([style.passkey(f"{rng.randrange(10**5):05d}")], rng)
    if kind == "named_passkey":
        return _of([style.named_passkey(name, _number(5, rng)) for name in _names(rng.randint(1, 3), rng)], rng)
    if kind == "key_value":
        return _of([style.key_value(name, _number(7, rng)) for name in _names(rng.randint(1, 2), rng)], rng)
    if kind == "all_values":
        (name,), values = _names(1, rng), [_number(7, rng) for _ in range(2)]
        statements = [style.key_value(name, value).statement for value in values]
        return Exercise(statements, "".join(all_values_question(style, name)), " and ".join(values))
    return _variables(style, rng)


def _of(needles: list[Needle], rng: random.Random) -> Exercise:
    asked = rng.choice(needles)
    return Exercise([needle.statement for needle in needles], asked.question + asked.stem, asked.answer)


def _variables(style: PromptStyle, rng: random.Random) -> Exercise:
    """Chain of assignments in RULER's wording: which variables have the value?"""
    names = ["".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.choice([3, 5]))) for _ in range(rng.randint(2, 4))]
    value = _number(5, rng)
    chain = [f"VAR {names[0]} = {value}"]
    chain += [f"VAR {new} = VAR {old}" for old, new in zip(names, names[1:], strict=False)]
    question = f"Question: Find all variables that are assigned the value {value} in the text above. Answer:"
    return Exercise([style.line.format(one) for one in chain], style.line.format(question), " ".join(names))


def _number(digits: int, rng: random.Random) -> str:
    return str(rng.randrange(10 ** (digits - 1), 10**digits))


def _names(count: int, rng: random.Random) -> list[str]:
    pairs = zip(rng.sample(WORDS.split(), 18), rng.sample(WORDS.split(), 18), strict=True)
    return rng.sample(["-".join(pair) for pair in pairs], count)


class RetrievalSequences:
    """Builds sequences of exactly `length` tokens after the BOS token.

    Args:
        encode: text to token ids, without special tokens.
        window: returns so many tokens of code.
        newline_ids: tokens that begin a new line, before which a statement may stand.
        length: tokens of a sequence without BOS.
        rng: chooses everything.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        window: Callable[[int], list[int]],
        newline_ids: set[int],
        length: int,
        rng: random.Random,
    ) -> None:
        self.encode, self.window, self.newline_ids, self.length, self.rng = encode, window, newline_ids, length, rng
        self.filler = encode(" " + FILLER)

    def sequence(self) -> list[int]:
        """Return one sequence."""
        kind = self.rng.choices(list(KINDS), list(KINDS.values()))[0]
        return self.copied() if kind == "copy" else self.hidden(kind)

    def copied(self) -> list[int]:
        """Return code in which a span stands a second time after what stood before it the first time."""
        code = self.window(self.length)
        size = self.rng.randint(12, 48)
        source = self.rng.randint(0, self.length // 2 - size)
        target = self.rng.randint(source + size, self.length - size)
        return [*code[:target], *code[source : source + size], *code[target + size :]]

    def hidden(self, kind: str) -> list[int]:
        """Return a haystack with statements in it and a question, mostly at the end."""
        style = COMMENT if self.rng.random() < COMMENT_SHARE else LANDMARK
        exercise = sample_exercise(kind, style, self.rng)
        middle = [self.encode(f"{style.separator}{one}{style.after}") for one in exercise.statements]
        asked = self.encode(f"{style.separator}{exercise.question} {exercise.answer}.\n")
        opening = self.encode(style.header) if style.header and self.rng.random() < 0.5 else []
        room = self.length - len(opening) - len(asked) - sum(map(len, middle))
        if room < 0:
            return self.window(self.length)
        in_filler = style is LANDMARK and self.rng.random() < 0.5
        haystack = (self.filler * (room // len(self.filler) + 1))[:room] if in_filler else self.window(room)
        end = room if self.rng.random() < 0.7 else self.rng.randint(0, room)
        cuts = sorted(self._line_end(haystack, self.rng.randint(0, end), end) for _ in middle)
        ids, position = list(opening), 0
        for cut, piece in [*zip(cuts, middle, strict=True), (end, asked)]:
            ids += haystack[position:cut] + piece
            position = cut
        return ids + haystack[position:]

    def _line_end(self, haystack: list[int], start: int, limit: int) -> int:
        return next((i for i in range(start, limit) if haystack[i] in self.newline_ids), start)
