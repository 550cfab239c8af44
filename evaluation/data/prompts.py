"""Retrieval prompts: a needle to hide, and the question with the stem of its answer.

Two styles of one thing: `landmark` is the wording of LongRoPE A.1 (arXiv 2402.13753, after landmark attention,
arXiv 2305.16300); `comment` writes needles as Python comments, for models of source code such as the embedded one.
The key-value wording is that of RULER and LongRoPE2 (arXiv 2502.20082, appendix C).
"""

import random
from dataclasses import dataclass

FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


@dataclass(frozen=True)
class Needle:
    """A fact hidden in a long text; `question` and `stem` end where the model has to continue with `answer`."""

    statement: str
    question: str
    answer: str
    stem: str = ""
    """How the answer begins, with the space before it; in a chat template it follows the generation prompt."""


@dataclass(frozen=True)
class PromptStyle:
    """How needles are worded: `header` opens the prompt, `separator` precedes each part, `after` ends a needle."""

    name: str
    header: str
    line: str
    separator: str
    after: str

    def passkey(self, key: str) -> Needle:
        """The pass key of LongRoPE A.1."""
        statement = f"The pass key is {key}. Remember it. {key} is the pass key."
        return self.needle(statement, "What is the pass key?", "The pass key is", key)

    def named_passkey(self, name: str, key: str) -> Needle:
        """One of several pass keys, told apart by a name."""
        statement = f"The pass key of {name} is {key}. Remember it."
        return self.needle(statement, f"What is the pass key of {name}?", f"The pass key of {name} is", key)

    def key_value(self, key: str, value: str) -> Needle:
        """RULER's and LongRoPE2's special magic number."""
        asked = f"special magic number for {key} mentioned in the provided text"
        statement = f"One of the special magic numbers for {key} is: {value}."
        return self.needle(statement, f"What is the {asked}?", f"The {asked} is", value)

    def needle(self, statement: str, question: str, stem: str, answer: str) -> Needle:
        """Return a needle in this style."""
        return Needle(self.line.format(statement), self.line.format(question), answer, f" {stem}")


LANDMARK = PromptStyle(
    name="landmark",
    header="There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there.",
    line="{}",
    separator=" ",
    after="",
)
COMMENT = PromptStyle(name="comment", header="", line="# {}", separator="\n", after="\n")
STYLES = {style.name: style for style in (LANDMARK, COMMENT)}

KEY_WORDS = (
    *("amber", "basil", "cedar", "copper", "coral", "crystal", "delta", "ember", "falcon", "fjord", "garnet", "grove"),
    *("harbor", "hazel", "indigo", "ivory", "jade", "kite", "lantern", "lotus", "maple", "meadow", "north", "ocean"),
    *("opal", "pearl", "pepper", "quartz", "river", "saffron", "thistle", "willow"),
)


def key_names(rng: random.Random, count: int) -> list[str]:
    """Return different names such as `amber-cedar` that share no word."""
    words = rng.sample(KEY_WORDS, 2 * count)
    return [f"{first}-{second}" for first, second in zip(words[::2], words[1::2], strict=True)]
