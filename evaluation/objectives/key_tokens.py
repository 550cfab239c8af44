"""Perplexity of key tokens as an objective (LongPPL, arXiv 2410.23771)."""

import torch

from ..scoring.key_tokens import KeyTokenRule, find_key_tokens, model_losses
from .base import WindowObjective
from .perplexity import PerplexityObjective


class KeyTokenObjective(WindowObjective):
    """The loss of key tokens only: those that an evaluator predicts from the long context alone (LongPPL).

    The evaluator is the model itself without any factors, so that no candidate is favoured; the rule has to keep it
    inside its own window. A window's key tokens are found when it is first asked for; that scores no candidate, and its
    forwards count for none. Where a window has none, the next window of the same document that has some stands in for
    it.
    """

    def __init__(self, whole: PerplexityObjective, rule: KeyTokenRule) -> None:
        """Make sure that each document has key tokens.

        Args:
            whole: the windows, and where candidates are scored.
            rule: what a key token is, e.g. of `own_window_rule`.

        Raises:
            ValueError: a document has no key tokens in any of its windows.
        """
        super().__init__(whole.model, whole.installation, whole.batcher.batch_size)
        self.windows, self.documents = whole.windows, whole.documents
        self.rule = rule
        self._places: dict[int, torch.Tensor] = {}
        for number in range(len(self.documents)):
            self.window(number)

    def window(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a window with key tokens, and their places."""
        others = range(index, index + len(self.windows), len(self.documents))
        for number in (other % len(self.windows) for other in others):
            if len(places := self._key_tokens(number)):
                return self.windows[number], places
        raise ValueError(
            f"documents must have key tokens in a window of {self.windows.shape[1]} tokens, got none in "
            f"{self.documents[index % len(self.documents)].name}; take other or longer documents, lower alpha, or "
            "shorten trunc_len"
        )

    def tokens(self, index: int) -> int:
        """Return T, without looking for key tokens."""
        return self.windows.shape[1]

    def _key_tokens(self, number: int) -> torch.Tensor:
        if number not in self._places:
            self.installation.reset()
            self._places[number] = find_key_tokens(model_losses(self.model), self.windows[number], self.rule)
        return self._places[number]
