"""The cells of the benchmark: ways to get the losses of candidates on one window, timed in turns."""

import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel
from transformers.utils.import_utils import is_flash_attn_2_available

from longrope.evaluation.data.tokenized import TokenDocument
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring.batching import free_memory, is_out_of_memory
from longrope.evaluation.scoring.cost import forward_flops, model_size
from longrope.evaluation.scoring.model import load_model, pick_dtype
from longrope.evaluation.scoring.resources import PeakMemory
from longrope.rope import Installation, RescaleFactors, install
from longrope.rope.methods import YaRN

ORIGINAL_LENGTH = 8192
"""Of random models, in tokens."""
RANDOM = re.compile(r"random-(\d+)x(\d+)x(\d+)")
ROOF = 1024
"""Rows and columns of the matrices whose product is the roof."""
GIB = 2**30


@dataclass(frozen=True)
class Cell:
    """One measurement, or why there is none."""

    model: str
    kernel: str
    """Attention kernel, as Transformers names it."""
    length: int
    """Tokens per window."""
    candidates: int
    """Candidates per forward; fewer than asked for where memory ran out."""
    attention_share: float | None = None
    """Share of the operations of a forward that attention's two products over all pairs have."""
    seconds: list[float] = field(default_factory=list)
    """Time per candidate of each round."""
    tokens_per_second: float | None = None
    tflops: float | None = None
    """Teraflops per second, counted as `longrope search --estimate` does: what --sustained-tflops is to be."""
    of_roof: list[float] = field(default_factory=list)
    """Operations per second as a share of the matrix product's in the same round."""
    vs_bare_forward: list[float] = field(default_factory=list)
    """Tokens per second of scoring over those of the bare forward, by round; empty where that was not run."""
    vs_labels_call: list[float] = field(default_factory=list)
    """The same over the call with labels."""
    peak_gib: float | None = None
    """Most memory in use: on CUDA what torch allocated, weights included; elsewhere that of the process."""
    error: str | None = None


def build(name: str, device: str, dtype: str) -> PreTrainedModel:
    """Return a model by its name in the cells."""
    if (sizes := RANDOM.fullmatch(name)) is None:
        return load_model(name, dtype, device)[0]
    layers, hidden, vocabulary = map(int, sizes.groups())
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(hidden // 256, 1),
        max_position_embeddings=ORIGINAL_LENGTH,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    )
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=pick_dtype(dtype, device)).eval()


def kernels_of(device: str, dtype: torch.dtype) -> list[str]:
    """Return the attention kernels that can run here."""
    flash = device.startswith("cuda") and dtype in (torch.bfloat16, torch.float16) and is_flash_attn_2_available()
    return ["sdpa", *(["flash_attention_2"] if flash else [])]


class Passes:
    """The ways to get the losses of candidates on one window of random tokens; each call handles `candidates`."""

    def __init__(self, model: PreTrainedModel, installation: Installation, length: int, candidates: int) -> None:
        ids = np.random.default_rng(0).integers(model.config.get_text_config().vocab_size, size=length)
        factor = max(2.0, length / installation.geometry.original_length)
        self.factors: list[RescaleFactors] = [YaRN(factor).factors(installation.geometry)] * candidates
        self.objective = PerplexityObjective(model, installation, [TokenDocument("random", ids)], length, candidates)
        self.model, self.installation, self.ids = model, installation, torch.tensor(ids, device=model.device)[None]

    def score(self) -> None:
        """Score candidates as a search does."""
        scores = self.objective.score(self.factors, 0)
        if errors := [score.error for score in scores if score.error is not None]:
            raise RuntimeError(f"a score failed, so its time says nothing: {errors[0]}")

    def bare(self) -> None:
        """Run the model alone, candidate by candidate."""
        with torch.inference_mode():
            for one in self.factors:
                self.installation.set([one])
                self.model(input_ids=self.ids, use_cache=False)
        self._wait()

    def labels(self) -> None:
        """Call the model with labels, candidate by candidate."""
        with torch.no_grad():
            for one in self.factors:
                self.installation.set([one])
                self.model(input_ids=self.ids, labels=self.ids, use_cache=False).loss.item()

    def roof(self) -> None:
        """Multiply two square matrices."""
        with torch.inference_mode():
            left = torch.ones(ROOF, ROOF, device=self.model.device, dtype=self.model.dtype)
            for _ in range(self.products):
                torch.mm(left, left)
        self._wait()

    @property
    def products(self) -> int:
        """Matrix products of one call of `roof`: enough work to be timed."""
        return 200 if self.model.device.type == "cuda" else 4

    def _wait(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)


def timed(call: Callable[[], None], clock: Callable[[], float]) -> float:
    """Return how long a call takes."""
    started = clock()
    call()
    return clock() - started


def measure(model: PreTrainedModel, cell: Cell, rounds: int, compared: bool) -> Cell:
    """Run the passes of a cell in turns, after one score to warm up.

    Args:
        model: on its device.
        cell: names kernel, length and candidates.
        rounds: how often.
        compared: whether the bare forward and the call with labels run, too.
    """
    clock = time.perf_counter if model.device.type == "cuda" else time.process_time
    model.set_attn_implementation(cell.kernel)
    free_memory()
    memory = PeakMemory()
    try:
        with install(model) as installation:
            passes = Passes(model, installation, cell.length, cell.candidates)
            passes.score()
            peak = memory.read()
            others = {"bare": passes.bare, "labels": passes.labels} if compared else {}
            calls = {"score": passes.score, "roof": passes.roof, **others}
            taken = [{name: timed(call, clock) for name, call in calls.items()} for _ in range(rounds)]
            batch = passes.objective.batcher.batch_size
    except (RuntimeError, MemoryError, ImportError) as error:
        return replace(cell, error="out of memory" if is_out_of_memory(error) else " ".join(str(error).split()))
    flops, roof = forward_flops(model_size(model), cell.length), 2 * ROOF**3 * passes.products
    seconds = [one["score"] / cell.candidates for one in taken]
    middle = statistics.median(seconds)
    return replace(
        cell,
        candidates=min(cell.candidates, batch),
        seconds=seconds,
        tokens_per_second=cell.length / middle,
        tflops=flops / middle / 1e12,
        of_roof=[flops * cell.candidates / one["score"] / (roof / one["roof"]) for one in taken],
        vs_bare_forward=[one["bare"] / one["score"] for one in taken if "bare" in one],
        vs_labels_call=[one["labels"] / one["score"] for one in taken if "labels" in one],
        peak_gib=None if peak is None else peak / GIB,
    )


def attention_share(model: PreTrainedModel, length: int) -> float:
    """Return the share of the operations of a forward that grow with the square of its length."""
    size = model_size(model)
    linear = 2 * size.matrix_parameters * length
    return 1 - linear / forward_flops(size, length)


def growth(cells: Sequence[Cell], model: str) -> dict[str, Any] | None:
    """Return how the time of a candidate grows with the length of its window: least squares over all lengths."""
    timed_cells = [cell for cell in cells if cell.model == model and cell.seconds and cell.kernel == cells[0].kernel]
    if len(timed_cells) < 3:
        return None
    lengths = np.log([cell.length for cell in timed_cells])
    seconds = np.log([statistics.median(cell.seconds) for cell in timed_cells])
    return {
        "model": model,
        "lengths": [cell.length for cell in timed_cells],
        "exponent": float(np.polyfit(lengths, seconds, 1)[0]),
        "between_neighbours": (np.diff(seconds) / np.diff(lengths)).tolist(),
        "attention_share": [cell.attention_share for cell in timed_cells],
    }
