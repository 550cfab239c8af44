"""A haystack of essays: any corpus, cut into sentences."""

import random
import re
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from ...data.tokenized import TokenizedDocuments

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"')\]])\s+|\n\s*\n\s*")
"""White space after a full stop, question or exclamation mark (and a closing quote or bracket), or a blank line."""


class Essays:
    """The sentences of documents, one document after the other; long haystacks repeat them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, data: TokenizedDocuments) -> None:
        self.tokenizer, self.data = tokenizer, data

    def sentences(self, rng: random.Random, words: int) -> list[str]:
        """Return sentences of so many words altogether, from a random sentence on; the last one may be cut."""
        taken: list[str] = []
        at = rng.randrange(len(self._ring))
        while words > 0:
            sentence = self._ring[at % len(self._ring)][:words]
            taken.append(" ".join(sentence))
            words -= len(sentence)
            at += 1
        return taken

    @cached_property
    def _ring(self) -> list[list[str]]:
        """Words of each sentence; line breaks and runs of spaces are no part of them, as in RULER."""
        texts = (str(self.tokenizer.decode(d.ids, skip_special_tokens=True)) for d in self.data.documents)
        ring = [words for text in texts for part in SENTENCE_END.split(text) if (words := part.split())]
        if not ring:
            raise ValueError("essays must hold words, got documents without any; give other data")
        return ring
