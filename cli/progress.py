"""Progress of a search for people: a bar and a line per generation, accelerate's trackers, who found what."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from accelerate import Accelerator
from accelerate.state import is_initialized
from accelerate.tracking import GeneralTracker, get_available_trackers
from accelerate.utils import LoggerType, ProjectConfiguration
from tqdm import tqdm

from ..evaluation.scoring.estimates import perplexity, perplexity_change
from ..evolution import Gain, HistoryRow, RunFolder, SearchProgress, SearchResult
from ..evolution.curve import GenerationSummary, best_seed_on, generation_summaries, incumbents_curve, origin_summaries

BAR = "{desc} {percentage:3.0f}%|{bar}| generation {n:.1f}/{total}, {elapsed} gone, {remaining} left{postfix}"
OPEN_BAR = "{desc} generation {n:.1f}, {elapsed} gone{postfix}"
"""Where the number of generations is not known, or not yet."""


class SearchBar:
    """A bar on the terminal: generation, gain over the best seed, tokens spent, candidates per minute, time left."""

    def __init__(self) -> None:
        self.bar = tqdm(desc="search", dynamic_ncols=True, bar_format=OPEN_BAR)
        self.first: int | None = None
        self.gain: float | None = None
        """Loss of the incumbent minus that of the best seed on the same windows, in nats per token."""

    def __enter__(self) -> Self:
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
        best = "-" if self.gain is None else _percent(self.gain)
        rate = (progress.candidates - self.first) / minutes if minutes else 0.0
        tokens = tqdm.format_sizeof(progress.scored_tokens)
        self.bar.set_postfix_str(
            f"best {best} to the best seed, {tokens} tokens, {rate:.0f} candidates/min", refresh=True
        )


class SearchReport:
    """The bar, a line above it for each generation that ends, and the same numbers to accelerate's trackers.

    A resumed run goes on with the generation it is at; the generations before are there from the earlier run.
    """

    def __init__(self, folder: RunFolder, trackers: Sequence[str | GeneralTracker] = ()) -> None:
        """Start the trackers.

        Args:
            folder: run folder, whose history the numbers come from.
            trackers: `auto` (TensorBoard if it is installed), `none`, or trackers of accelerate by name; those that
                write files write them into `logs/search` of the run folder.

        Raises:
            ValueError: a tracker is unknown or not installed.
        """
        self._folder = folder
        self._tracker = _start_trackers(trackers, folder.path)
        self._bar = SearchBar()
        self._first: int | None = None
        self._told: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.bar.close()
        if self._tracker:
            self._tracker.end_training()

    def show(self, progress: SearchProgress) -> None:
        """Draw the bar, and report the generation if all its scores are there."""
        self._bar.show(progress)
        self._first = progress.generation if self._first is None else self._first
        told = progress.generation < self._first or progress.generation in self._told
        if told or progress.num_scored < progress.num_requested:
            return
        self._told.add(progress.generation)
        rows = [row for row in self._folder.rows if row.generation <= progress.generation]
        if any(row.generation == progress.generation for row in rows):  # else all had been scored before
            summary = generation_summaries(rows)[-1]
            last = self._folder.last
            if points := incumbents_curve(rows, last and last.proposal):
                self._bar.gain = points[-1].gain
            tqdm.write(describe(summary), file=sys.stderr)
            if self._tracker:
                self._tracker.log(scalars(summary), step=summary.generation)


def describe(one: GenerationSummary) -> str:
    """Return a line of text about a generation."""
    found = ", ".join(f"{count} {origin}" for origin, count in one.origins.items())
    if one.best_loss is None or one.median_loss is None:
        losses = "no candidate could be scored"
    else:
        losses = f"best ppl {perplexity(one.best_loss):.3f} ({one.best_origin})"
        losses += f", median {perplexity(one.median_loss):.3f}"
        if one.seed_loss is not None:
            losses += f", best {_percent(one.best_loss - one.seed_loss)} to the best seed"
    work = f"{one.scores} scores at once, {one.scored_tokens:,} tokens so far"
    return f"generation {one.generation}: {losses}; {found}; {work}"


def scalars(one: GenerationSummary) -> dict[str, float]:
    """Return the numbers of a generation by the names under which trackers show them.

    Losses of generations compare only where they are of the same documents; gains always do. A perplexity beyond
    floats is left out: trackers write JSON, which has no infinity.
    """
    values: dict[str, float] = {"scored_tokens": one.scored_tokens}
    if one.best_loss is not None and one.median_loss is not None:
        values |= {"loss/best": one.best_loss, "loss/median": one.median_loss}
        perplexities = {f"perplexity/{name}": perplexity(values[f"loss/{name}"]) for name in ("best", "median")}
        values |= {name: value for name, value in perplexities.items() if math.isfinite(value)}
        if one.seed_loss is not None:
            values["gain/best"] = one.best_loss - one.seed_loss
            values["gain/median"] = one.median_loss - one.seed_loss
    return values | {f"candidates/{origin}": count for origin, count in one.origins.items()}


def render_origins(rows: Sequence[HistoryRow]) -> str:
    """Return a table of who found what: candidates, share of the tokens, and the best against the best seed."""
    summaries = origin_summaries(rows)
    total = sum(one.scored_tokens for one in summaries)
    lines = [f"{'origin':<14} {'candidates':>10} {'tokens':>7}  best perplexity against the best seed, same documents"]
    for one in summaries:
        gain = "-" if one.best_gain is None else f"{_percent(one.best_gain)} on {one.documents}"
        lines.append(f"{one.origin:<14} {one.candidates:>10,} {one.scored_tokens / total:>7.1%}  {gain}")
    return "\n".join(lines)


def describe_result(result: SearchResult, rows: Sequence[HistoryRow], num_documents: int) -> Mapping[str, str]:
    """Return the winner's perplexity, the best seed's on the same windows, and who proposed the winner first.

    Args:
        result: of the search.
        rows: its history.
        num_documents: search documents; window w of document d has the index `w * num_documents + d`.
    """
    windows = result.best.documents
    documents = len({window % num_documents for window in windows})
    found = {
        "search perplexity": f"{perplexity(result.best.loss):.4f} on {len(windows)} windows of {documents} documents"
    }
    if seed := best_seed_on(rows, windows):
        found["best seed"] = f"{perplexity(seed[1]):.4f} on the same ({seed[0]})"
    if result.gain is not None:
        found["gain"] = describe_gain(result.gain)
    return found | {"found by": next(row.origin for row in rows if row.genome == result.best.genome)}


def describe_gain(gain: Gain) -> str:
    """Return a sentence about how much lower the perplexity of what was found is than that of the best baseline."""
    found = f"{-100 * perplexity_change(-gain.mean):.2f} % over the best baseline"
    if not math.isfinite(gain.low):
        return f"{found}, on too few documents to be sure: the result is that baseline"
    low, high = (f"{-100 * perplexity_change(-one):.2f}" for one in (gain.low, gain.high))
    sure = "sure" if gain.low > 0 else "not sure: the result is that baseline"
    return f"{found} ({100 * gain.confidence:.0f} % interval {low} to {high}), which is {sure}"


def _percent(gain: float) -> str:
    """Write a difference of losses in nats as a change of perplexity."""
    return f"{100 * perplexity_change(gain):+.2f} %"


def _start_trackers(names: Sequence[str | GeneralTracker], folder: Path) -> Accelerator | None:
    chosen = _chosen(names)
    if not chosen:
        return None
    logs = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "logs"))
    # cpu: it is to place nothing; after a fine-tuning in this process the device is chosen, and may not be changed
    accelerator = Accelerator(cpu=not is_initialized(), log_with=chosen, project_config=logs)
    accelerator.init_trackers("search")
    return accelerator


def _chosen(names: Sequence[str | GeneralTracker]) -> list[str | LoggerType | GeneralTracker]:
    """Return the trackers without `auto` and `none`, and refuse what accelerate would silently leave out."""
    installed = [str(one) for one in get_available_trackers()]
    chosen: list[str | LoggerType | GeneralTracker] = []
    for name in names:
        if isinstance(name, GeneralTracker) or name in installed:
            chosen.append(name)
        elif name == "auto":
            chosen += ["tensorboard"] if "tensorboard" in installed else []
        elif name != "none":
            known = sorted({str(one) for one in LoggerType} - {"all"})
            state = "is not installed: pip install it" if name in known else f"is not one of {', '.join(known)}"
            raise ValueError(
                f"trackers must be auto, none or installed trackers of accelerate, got {name!r}, which {state}"
            )
    return chosen
