"""LongPPL in an evaluation: who finds the key tokens, and whether that is one of those who are compared."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation.comparison.results import model_fingerprint
from ..evaluation.data.tokenized import TokenizedDocuments
from ..evaluation.scoring.key_tokens import model_losses, own_window_rule, paper_rule
from ..evaluation.scoring.model import load_model, read_config
from ..evaluation.tasks.longppl import Evaluator, LongPPL, load_key_tokens
from ..rope import Method, RescaleFactors, RopeGeometry, load_factors, rope_geometry
from ..rope.methods import NoScaling
from .task_options import TaskOptions


def build_longppl(
    config: TaskOptions, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: TokenizedDocuments
) -> LongPPL:
    """Return LongPPL with key tokens found by the unmodified model inside its own window, or by another model."""
    original = rope_geometry(model, config.original_length).original_length
    other = config.longppl_evaluator

    @contextmanager
    def load() -> Iterator[Evaluator]:
        evaluator, own_tokenizer = load_model(str(other), config.dtype, config.device, config.attn_implementation)
        yield Evaluator(model_losses(evaluator), own_tokenizer)

    facts: dict[str, Any] = {"dtype": str(model.dtype), "attention": model.config._attn_implementation}
    if other is None:
        name = f"the unmodified model inside its own window of {original} tokens"
        facts |= {"name": name, "model": model_fingerprint(model, config.model)}
    else:
        name = f"{other}, reading whole documents"
        facts |= {"name": name, "model": {"id": other, **model_fingerprint(read_config(other), other)}}
    found = load_key_tokens(
        data,
        max(*config.lengths, config.dataset_min_tokens or 0),
        own_window_rule(original) if other is None else paper_rule(original),
        load if other else lambda: nullcontext(Evaluator(model_losses(model))),
        facts,
        tokenizer,
        config.output_dir,
    )
    return LongPPL(data, found, config.batch_size, config.seed)


def compared_evaluator(
    evaluator: str, model: str, geometry: RopeGeometry, methods: Mapping[str, Method | RescaleFactors]
) -> list[str]:
    """Return the compared methods that an evaluator of key tokens is: its RoPE is the model's with their factors.

    Args:
        evaluator: folder or hub id.
        model: that of the evaluated model.
        geometry: RoPE of the evaluated model.
        methods: what is compared, by name.
    """
    own = _factors_of(evaluator, model, geometry)
    if own is None:
        return []
    compared = {
        name: one if isinstance(one, RescaleFactors) else one.factors(geometry) for name, one in methods.items()
    }
    return [name for name, one in compared.items() if _same_rope(one, own)]


def _factors_of(evaluator: str, model: str, geometry: RopeGeometry) -> RescaleFactors | None:
    """Return the factors that make the evaluator's RoPE of the model's, None if there are none."""
    folder = Path(evaluator).expanduser()
    if evaluator == model or folder.resolve() == Path(model).expanduser().resolve():
        return NoScaling(1.0).factors(geometry)
    try:
        return load_factors(folder if folder.is_dir() else f"hf://{evaluator}", geometry)
    except ValueError:  # not scaled, or another RoPE altogether
        return None


def _same_rope(first: RescaleFactors, second: RescaleFactors) -> bool:
    pairs = (first.lambdas, second.lambdas), (first.attention_factor, second.attention_factor)
    return all(np.allclose(one, other, rtol=1e-5, atol=0) for one, other in pairs)
