"""Which windows a search draws from, and which it keeps for the choice among its finalists.

Window w of document d has the index `w * num_documents + d`.
"""

from collections.abc import Sequence

from numpy.random import Generator

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

    def draw(self, count: int) -> tuple[int, ...]:
        """Return some windows, all different as long as there are so many."""
        drawn: list[int] = []
        while len(drawn) < min(count, len(self._windows)):
            if not self.left:
                self.left = [int(window) for window in self._rng.permutation(self._windows)]
            window = next((one for one in self.left if one not in drawn), self.left[0])
            self.left.remove(window)
            if window not in drawn:
                drawn.append(window)
        return tuple(sorted(drawn))


def split(num_documents: int, windows_per_document: int, selection_share: float) -> tuple[list[int], list[int]]:
    """Return the windows to search on and those for selection: of other documents, first windows first.

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
    first = num_documents - num_selection
    places = [(window, document) for window in range(windows_per_document) for document in range(num_documents)]
    windows = [(window * num_documents + document, document) for window, document in places]
    search = [index for index, document in windows if document < first]
    return search, [index for index, document in windows if document >= first]
