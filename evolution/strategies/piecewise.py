"""The search of LongRoPE over factors of three pieces, as the official code's `dim_piece_mono`."""

from collections.abc import Mapping

from ..piecewise import mutate_piecewise
from ..settings import PiecewiseSettings
from ..space import Genome, Space
from .paper import PaperStrategy


class PiecewiseStrategy(PaperStrategy):
    """Algorithm 1 with mutations that also move the breakpoints between the pieces.

    Every seed has its breakpoints: PI's are (0, 0), where the official search starts. A crossover takes the head of one
    parent and the tail of another, and so the first breakpoint of one and the second of the other.
    """

    def __init__(
        self, settings: PiecewiseSettings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        super().__init__(settings, space, seeds, num_documents, seed)
        self._toolbox.register("mutate", mutate_piecewise, space=space, probability=settings.mutation_probability)
