"""Tasks that hide needles in a haystack, at depths from its start to its end."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from transformers import PreTrainedModel

from ..data.haystack import Haystack
from ..data.tokenized import TokenizedDocuments, check_vocabulary
from .prompted import PromptedTask, Sample


@dataclass(frozen=True)
class HaystackTask(PromptedTask):
    """Base of the tasks that hide needles over a grid of depths."""

    sentences: ClassVar[bool] = True
    """Whether needles may stand between the sentences of prose (`landmark` style)."""

    data: TokenizedDocuments | None = None
    """Haystack documents; None: the filler sentences of the pass key."""
    style: Literal["landmark", "comment"] = "landmark"
    """Wording: `landmark` for prose, `comment` for models of Python source."""
    depths: int = 10
    """Depths on an even grid from 0 to 1."""
    trials: int = 1
    """Prompts per depth, each with a needle and a haystack of its own."""

    @abstractmethod
    def sample(self, haystack: Haystack, length: int, depth: float, trial: int) -> Sample:
        """Return one prompt; it depends on (seed, length, depth, trial) alone."""

    @abstractmethod
    def scoring(self) -> str:
        """Say in words how an answer is scored."""

    def haystack(self) -> Haystack:
        """Return the builder of the task's prompts.

        Raises:
            ValueError: the style is unknown, or the chat template can't be used.
        """
        sentences = self.sentences and self.style == "landmark"
        return Haystack(self.tokenizer, self.style, self.data, sentences, self.frame)

    def grid(self) -> list[float]:
        """Return the depths."""
        return [round(float(depth), 6) for depth in np.linspace(0, 1, self.depths)]

    def samples(self, length: int) -> list[Sample]:
        haystack = self.haystack()
        return [self.sample(haystack, length, depth, trial) for depth in self.grid() for trial in range(self.trials)]

    def check(self, model: PreTrainedModel, lengths: Sequence[int]) -> None:
        if min(self.depths, self.trials) < 1:
            raise ValueError(f"depths and trials must be at least 1, got {self.depths} and {self.trials}")
        if self.data is not None:
            check_vocabulary(self.data.documents, model)
        super().check(model, lengths)

    def describe(self) -> dict[str, Any]:
        return {
            "style": self.style,
            "haystack": "filler" if self.data is None else self.data.fingerprint(),
            "depths": self.depths,
            "trials": self.trials,
            "scoring": self.scoring(),
            "template": self.frame.describe(),
        }
