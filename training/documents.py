"""Training documents: a tokenized folder read piece by piece, since its tokens may not fit into memory."""

from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as arrow
from numpy.typing import NDArray

from ..evaluation.data.tokenized import TokensInfo, open_table, read_info


class Documents(Protocol):
    """Documents whose lengths are known and whose tokens are read when they are needed."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document."""
        ...

    def tokens(self, document: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the tokens `start` to `stop` of a document."""
        ...


class StoredDocuments:
    """The documents of a folder written by `longrope tokenize`, on disk."""

    def __init__(self, path: str | Path) -> None:
        """Open the folder.

        Raises:
            ValueError: there is no such folder.
        """
        self.info: TokensInfo = read_info(Path(path))
        table = open_table(Path(path))
        self._ids: pa.ChunkedArray = table.data.column("input_ids")  # type: ignore[attr-defined]
        self._lengths = arrow.list_value_length(self._ids).to_numpy().astype(np.int64)  # type: ignore[attr-defined]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self._lengths

    def tokens(self, document: int, start: int, stop: int) -> NDArray[np.int64]:
        row = self._ids[document].values  # a view of the file
        return row.slice(start, stop - start).to_numpy().astype(np.int64)
