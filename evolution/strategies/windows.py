"""Which windows a search draws from, and which it keeps for the choice among its finalists.

Window w of document d has the index `w * num_documents + d`.
"""

from collections.abc import Collection, Sequence

from numpy.random import Generator, default_rng

SELECTION_DOCUMENTS = 0.3
"""Share of the documents that are kept for the selection."""
LEAST_SELECTION = 4
"""Documents of the selection at least, or half of five and more: on fewer than three nothing is ever sure."""


class WindowPool:
    """Windows in random order, each drawn once before any is drawn again."""

    def __init__(self, windows: Sequence[int], rng: Generator, left: Sequence[int] = ()) -> None:
        self._windows, self._rng = tuple(windows), rng
        self.left = list(left)
        """Windows not drawn yet, in the order to come."""

    def draw(self, count: int, known: Collection[int] = ()) -> tuple[int, ...]:
        """Return some windows, all different and none of those that are known, fewer if there are not so many."""
        drawn: list[int] = []
        while len(drawn) < min(count, len(self._windows) - len(known)):
            if not self.left:
                self.left = [int(window) for window in self._rng.permutation(self._windows)]
            window = next((one for one in self.left if one not in drawn and one not in known), self.left[0])
            self.left.remove(window)
            if window not in drawn and window not in known:
                drawn.append(window)
        return tuple(sorted(drawn))


def split(
    num_documents: int, windows_per_document: int, selection_share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Return the windows to search on and those for selection: of other documents at random, first windows first.

    Documents may come in an order, such as by author or by length, so that the last ones would not be like the others.

    Args:
        num_documents: of the search.
        windows_per_document: of each.
        selection_share: of the documents, for the selection.
        seed: of the choice.

    Raises:
        ValueError: there are fewer than two documents.
    """
    if num_documents < 2:
        raise ValueError(
            f"num_documents must be at least 2, got {num_documents}; the winner is chosen on documents that the search "
            "did not see: raise --samples"
        )
    half = (num_documents + 1) // 2
    least = min(LEAST_SELECTION, half) if half > 2 else 1
    num_selection = min(max(round(selection_share * num_documents), least), num_documents - 1)
    order = default_rng(seed).permutation(num_documents).tolist()
    kept = set(order[:num_selection])
    windows = [window * num_documents + document for window in range(windows_per_document) for document in order]
    search = [index for index in windows if index % num_documents not in kept]
    return search, [index for index in windows if index % num_documents in kept]
