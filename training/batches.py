"""The micro-batches of a stage: micro-batch i is a function of the seed and of i, so that a run resumes anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .documents import Documents
from .packing import Packer
from .recipe import Stage, Window


@dataclass(frozen=True)
class TrainingText:
    """Documents by the names that windows give them, and the special tokens around a document."""

    sources: Mapping[str, Documents]
    leading: Sequence[int]
    """Tokens in front of every text, such as BOS; the documents have them."""
    closing: Sequence[int]
    """Tokens that end a document, such as EOS; the documents don't have them."""

    def packer(self, window: Window) -> Packer:
        """Return what cuts the windows of one kind.

        Raises:
            ValueError: there are no documents of the window's source.
        """
        if window.source not in self.sources:
            raise ValueError(
                f"source of a window must be one of the tokenized folders ({', '.join(self.sources)}), got "
                f"{window.source!r}; add --tokenized {window.source}=FOLDER"
            )
        documents = self.sources[window.source]
        return Packer(documents, window.length, self.leading, self.closing, window.mask_documents, window.min_tokens)


class MicroBatches(Dataset[dict[str, Tensor]]):
    """What goes through the model in one forward: as many tokens of one kind of window in each micro-batch."""

    def __init__(self, stage: Stage, text: TrainingText, micro_batch_size: int, seed: int) -> None:
        """Plan all micro-batches of a stage.

        Args:
            stage: its windows and sizes.
            text: the documents.
            micro_batch_size: sequences of `stage.length` tokens in one forward on one device.
            seed: orders documents and windows.

        Raises:
            ValueError: the sizes don't fit together, or there are no documents.
        """
        if micro_batch_size < 1 or stage.batch_size % micro_batch_size:
            raise ValueError(
                f"micro_batch_size must divide the batch size of {stage.batch_size} sequences, got {micro_batch_size}"
            )
        self.stage = stage
        self._kinds = spread(
            [window.share for window in stage.windows], stage.steps * stage.batch_size // micro_batch_size
        )
        self._nth = np.zeros_like(self._kinds)  # how many of its kind are before a micro-batch
        for kind in range(len(stage.windows)):
            self._nth[self._kinds == kind] = np.arange((self._kinds == kind).sum())
        self._rows = [micro_batch_size * stage.length // window.length for window in stage.windows]
        self._packers = [text.packer(window) for window in stage.windows]
        self._plans = [
            packer.plan(max(1, int((self._kinds == kind).sum()) * rows), seed + kind)
            for kind, (packer, rows) in enumerate(zip(self._packers, self._rows, strict=True))
        ]

    def __len__(self) -> int:
        return len(self._kinds)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return tokens, positions and targets, each (R, L), and whether the original RoPE is meant."""
        kind = int(self._kinds[index])
        rows = self._rows[kind]
        first = int(self._nth[index]) * rows
        packs = [self._packers[kind].pack(pieces) for pieces in self._plans[kind][first : first + rows]]
        targets = torch.from_numpy(np.stack([pack.targets for pack in packs]))
        return {
            "input_ids": torch.from_numpy(np.stack([pack.ids for pack in packs])),
            "position_ids": torch.from_numpy(np.stack([pack.positions for pack in packs])),
            "shift_labels": targets,
            "labels": targets.clone(),  # the Trainer counts targets only where there are labels
            "original": torch.tensor(self.stage.windows[kind].rope == "original"),
        }


def spread(shares: Sequence[float], count: int) -> np.ndarray:
    """Return which kind each of `count` places is, as even as can be: any stretch of them holds about its shares.

    `spread([1, 3], 8)` is 1 0 1 1 1 0 1 1.
    """
    weights = np.array(shares) / sum(shares)
    kinds, given = np.empty(count, dtype=np.int64), np.zeros(len(shares))
    for place in range(count):
        kinds[place] = int(np.argmax(weights * (place + 1) - given))
        given[kinds[place]] += 1
    return kinds
