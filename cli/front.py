"""What a Pareto search leaves beside its factors: the front as a table, and the factors of each of its points."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from ..evaluation.scoring.estimates import perplexity
from ..evolution import FrontPoint, Genome
from ..rope import RescaleFactors, write_atomically

COLUMNS = ("factors", "knee", "long_perplexity", "short_perplexity", "start_tokens", "attention_factor")


def save_front(
    folder: Path, front: Sequence[FrontPoint], knee: Genome, build: Callable[[Genome], RescaleFactors]
) -> None:
    """Write `pareto.csv` and `front/NN.json`, lowest long-context loss first; the knee is also `factors.json`."""
    (folder / "front").mkdir(exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    digits = max(len(str(len(front) - 1)), 2)
    for number, point in enumerate(front):
        factors, name = build(point.genome), f"front/{number:0{digits}d}.json"
        factors.save(folder / name)
        losses = (repr(perplexity(loss)) for loss in (point.long.loss, point.short.loss))
        is_knee = int(point.genome == knee)
        writer.writerow((name, is_knee, *losses, factors.start_tokens, repr(factors.attention_factor)))
    write_atomically(folder / "pareto.csv", table.getvalue())
