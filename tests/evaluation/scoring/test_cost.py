"""The formulas of memory agree with what is alive at the peak of what they stand for, operation by operation."""

from inspect import unwrap
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Phi3Config, PreTrainedConfig, Qwen3Config

from longrope.evaluation.objectives.gradients import recomputed
from longrope.evaluation.scoring.cost import (
    MEMORY_TOLERANCE,
    forward_bytes,
    generation_bytes,
    gradient_bytes,
    model_size,
    weight_bytes,
)
from longrope.evaluation.scoring.generation import greedy
from longrope.evaluation.scoring.loss import differentiable_token_nats, token_nats
from longrope.rope import install
from longrope.rope.methods import YaRN

LENGTH = 192


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that are alive after each operation, and remembers the most."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        weights = {p.untyped_storage()._cdata: p.untyped_storage() for p in model.parameters()}
        self.peak = self.weights = sum(storage.nbytes() for storage in weights.values())
        self._ignored, self._alive = set(weights), {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage())._cdata not in self._ignored:
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, self.weights + sum(size for _, size in self._alive.values()))
        return result


SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 48,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def changed(**changes: int) -> dict[str, Any]:
    return {**SIZES, **changes}


MODELS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "narrow": LlamaConfig(**changed(intermediate_size=16)),
    "vocabulary": LlamaConfig(**changed(vocab_size=1500)),
    "deep": LlamaConfig(**changed(num_hidden_layers=10)),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "qwen3": Qwen3Config(**SIZES),
    "phi3": Phi3Config(**{name: value for name, value in SIZES.items() if name != "head_dim"}),
}


def build(name: str, dtype: torch.dtype, kernel: str = "sdpa") -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(MODELS[name], dtype=dtype, attn_implementation=kernel).eval()
    return model.requires_grad_(False)


def peak_of(model: Any, kind: str, rows: int) -> int:
    ids = torch.zeros(rows, LENGTH, dtype=torch.long)
    with install(model, 64, canary=False) as installation, LiveBytes(model) as live:
        factors = YaRN(LENGTH / 64).factors(installation.geometry)
        if kind == "gradient":
            with torch.enable_grad(), recomputed(installation.layers):
                changes = installation.set_differentiable(factors)
                torch.autograd.grad(differentiable_token_nats(model, ids).double().sum(), changes)
        else:
            installation.set([factors] * rows)
            with torch.no_grad():  # inference mode hides what is alive inside an operation of several
                unwrap(token_nats)(model, ids) if kind == "forward" else greedy(model, ids, 2)
    return live.peak


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["forward", "gradient"])
@pytest.mark.parametrize("name", MODELS)
def test_a_measured_peak_is_within_the_tolerance(name: str, kind: str, dtype: torch.dtype) -> None:
    model = build(name, dtype)
    need = forward_bytes if kind == "forward" else gradient_bytes
    expected = need(model_size(model), LENGTH, dtype.itemsize)
    assert peak_of(model, kind, 1) == pytest.approx(expected, rel=MEMORY_TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["forward", "gradient"])
def test_attention_that_keeps_its_scores_is_counted(kind: str, dtype: torch.dtype) -> None:
    model = build("llama", dtype, "eager")
    need = forward_bytes if kind == "forward" else gradient_bytes
    without, expected = (need(model_size(model), LENGTH, dtype.itemsize, eager=eager) for eager in (False, True))
    measured = peak_of(model, kind, 1)
    assert measured == pytest.approx(expected, rel=0.25)
    assert measured > 1.5 * without


def test_rows_are_counted_one_by_one() -> None:
    model = build("llama", torch.float32)
    assert peak_of(model, "forward", 4) == pytest.approx(
        forward_bytes(model_size(model), LENGTH, 4, rows=4), rel=MEMORY_TOLERANCE
    )


def test_a_prompt_takes_its_cache() -> None:
    model = build("deep", torch.float32)
    expected = generation_bytes(model_size(model), LENGTH, 4)
    assert peak_of(model, "generation", 1) == pytest.approx(expected, rel=0.2)


def test_a_config_has_the_sizes_of_its_model() -> None:
    model = build("llama", torch.float32)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(MODELS["llama"])
    assert model_size(skeleton) == model_size(model)
    assert weight_bytes(model_size(model), 4) == sum(p.numel() * 4 for p in model.parameters())
