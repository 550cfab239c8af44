"""Progress of a search on the terminal."""

import math

from tqdm import tqdm

from ..evolution import SearchProgress

BAR = "{desc} {percentage:3.0f}%|{bar}| generation {n:.1f}/{total}, {elapsed} gone, {remaining} left{postfix}"
OPEN_BAR = "{desc} generation {n:.1f}, {elapsed} gone{postfix}"
"""Where the number of generations is not known beforehand."""


class SearchBar:
    """Progress on the terminal: generation, best perplexity so far, candidates per minute, time left."""

    def __init__(self) -> None:
        self.bar = tqdm(desc="search", dynamic_ncols=True, bar_format=BAR)
        self.first: int | None = None

    def __enter__(self) -> "SearchBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, progress: SearchProgress) -> None:
        """Draw where the search stands."""
        if self.first is None:
            self.first = progress.candidates
            self.bar.initial = progress.generation
        self.bar.total = progress.num_generations
        self.bar.bar_format = OPEN_BAR if progress.num_generations is None else BAR
        share = progress.num_scored / progress.num_requested if progress.num_requested else 1.0
        self.bar.n = progress.generation + share
        minutes = self.bar.format_dict["elapsed"] / 60
        best = f"{math.exp(progress.best.loss):.3f} ({progress.best.request.origin})" if progress.best else "-"
        rate = (progress.candidates - self.first) / minutes if minutes else 0.0
        self.bar.set_postfix_str(f"best ppl {best}, {rate:.0f} candidates/min", refresh=True)
