"""`longrope doctor --measure`: which dtype, and how many candidates per forward, score a model fastest here.

Nothing is chosen silently: a search takes its dtype and batch size from its options, since the last digits of a loss
follow both, and the same command must give the same search again.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr

from ..evaluation.objectives.perplexity import PerplexityObjective
from ..evaluation.scoring.model import load_model
from ..rope import RescaleFactors, RopeGeometry, install
from ..rope.methods import NTKByParts
from .configs import DoctorConfig
from .documents import load_documents

RAMPS = [(alpha, beta) for alpha in (0.25, 0.5, 1.0, 2.0) for beta in (4.0, 8.0, 32.0)]
"""Ends of the ramps that are ranked; neighbours are about as far apart as good candidates of a search."""
BATCHES = (1, 2, 4, 8)
SURVIVES = 0.95
"""Least rank correlation with float32 of a dtype that is recommended."""
ROUNDS = 2


@dataclass(frozen=True)
class Measurement:
    """What scoring in one dtype gives."""

    nats: Sequence[float]
    """Loss of each candidate."""
    rates: Mapping[int, float]
    """Tokens per second by candidates per forward; only those that fit in memory."""

    @property
    def batch_size(self) -> int:
        """The fastest number of candidates per forward."""
        return max(self.rates, key=self.rates.__getitem__)


def measure(config: DoctorConfig) -> dict[str, str]:
    """Score candidates on one document in float32 and bfloat16, and return what was found by what it is called.

    Raises:
        ValueError: model, documents or target length are missing, or a score failed.
    """
    if config.model is None or config.tokenized is None or config.target_length is None:
        raise ValueError(
            "measure must have a model, documents and a length, got one of them missing; give --model, --tokenized and "
            "--target-length"
        )
    found = {dtype: measure_dtype(config, dtype) for dtype in ("float32", "bfloat16")}
    correlation = rank_correlation(found["float32"].nats, found["bfloat16"].nats)
    speed = {dtype: one.rates[one.batch_size] for dtype, one in found.items()}
    faster = max(speed, key=speed.__getitem__)
    chosen = faster if correlation >= SURVIVES else "float32"
    facts = {
        dtype: ", ".join(f"{rate:,.0f} tokens/s by {batch}" for batch, rate in one.rates.items())
        for dtype, one in found.items()
    }
    kept = "keeps" if correlation >= SURVIVES else "does not keep"
    return facts | {
        "order of candidates": f"bfloat16 {kept} it: rank correlation {correlation:.3f} with float32 over {len(RAMPS)}",
        "fastest": f"--dtype {chosen} --batch-size {found[chosen].batch_size}",
    }


def measure_dtype(config: DoctorConfig, dtype: str) -> Measurement:
    """Load the model in a dtype and score the ramps by every batch size."""
    assert config.model is not None and config.tokenized is not None and config.target_length is not None
    length = config.target_length
    data = load_documents(config.tokenized, length, 1, 1)
    model, _ = load_model(config.model, dtype, config.device, config.attn_implementation)
    rates: dict[int, float] = {}
    with install(model, config.original_length) as installation:
        ramps = candidates(installation.geometry, length)
        objective = PerplexityObjective(model, installation, data.documents, length, 1)
        scores = objective.score(ramps, 0)
        for batch in BATCHES:
            objective.batcher.batch_size = batch
            seconds = [_seconds(objective, ramps[:batch]) for _ in range(ROUNDS)]
            if objective.batcher.batch_size < batch:
                break
            rates[batch] = batch * length / statistics.median(seconds)
    if errors := [score.error for score in scores if score.error is not None]:
        raise ValueError(f"measure must score every candidate in {dtype}, got a failure: {errors[0]}; try another")
    return Measurement([score.nats for score in scores if score.nats is not None], rates)


def candidates(geometry: RopeGeometry, length: int) -> list[RescaleFactors]:
    """Return the ramps of an extension to a length."""
    scale = max(2.0, length / geometry.original_length)
    return [NTKByParts(scale, alpha=alpha, beta=beta).factors(geometry) for alpha, beta in RAMPS]


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Return Spearman's rank correlation of two lists of losses."""
    return float(spearmanr(left, right).statistic)  # type: ignore[attr-defined]


def _seconds(objective: PerplexityObjective, chosen: Sequence[RescaleFactors]) -> float:
    started = time.perf_counter()
    objective.score(chosen, 0)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
