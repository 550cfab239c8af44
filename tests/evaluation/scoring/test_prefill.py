"""Prompts read in chunks: the same attention and answers as at once, without a mask of chunk times keys."""

from inspect import signature, unwrap
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen3Config,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from longrope.evaluation.scoring import attention, resources
from longrope.evaluation.scoring.attention import lower_right_sdpa, without_masks
from longrope.evaluation.scoring.cache import OffloadedLayer, needs_offload, offloaded_cache
from longrope.evaluation.scoring.generation import greedy
from longrope.evaluation.scoring.loss import differentiable_token_nats, token_nats

from .live import LiveBytes

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
    "pad_token_id": 0,
    "eos_token_id": None,
    "bos_token_id": None,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "phi3": Phi3Config(**SIZES),
    "sliding": MistralConfig(**SIZES, sliding_window=9),
    "mixed": Gemma3TextConfig(
        **SIZES, head_dim=8, sliding_window=9, layer_types=["full_attention", "sliding_attention"]
    ),
}


def build(name: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation="sdpa").eval()


def prompts(rows: int = 3, tokens: int = 40) -> torch.Tensor:
    return torch.randint(0, 64, (rows, tokens), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("heads", [2, 8])
@pytest.mark.parametrize("numbers", [1, 100, 2**24])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_a_chunk_attends_as_with_its_mask(
    heads: int, numbers: int, scaling: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MASK_NUMBERS", numbers)
    source = torch.Generator().manual_seed(0)
    query, (key, value) = torch.randn(2, heads, 7, 8, generator=source), torch.randn(2, 2, 2, 19, 8, generator=source)
    mask = torch.ones(7, 19, dtype=torch.bool).tril(12)
    expected = scaled_dot_product_attention(query, key, value, mask, scale=scaling, enable_gqa=True)
    found, weights = lower_right_sdpa(torch.nn.Module(), query, key, value, None, scaling=scaling)
    assert weights is None
    torch.testing.assert_close(found, expected.transpose(1, 2))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("chunk", [1, 7, 13, 39])
@pytest.mark.parametrize("offload", [False, True])
def test_answers_are_those_to_whole_prompts(name: str, chunk: int, offload: bool) -> None:
    model = build(name)
    whole = ids = prompts()
    with torch.no_grad():
        for _ in range(5):
            following = model(input_ids=whole, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
            whole = torch.cat([whole, following], dim=1)
    assert torch.equal(greedy(model, ids, 5, prefill_chunk=chunk, offload=offload), whole[:, 40:])


def test_no_mask_grows_with_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = build("llama"), prompts(1, 400)

    def largest(numbers: int) -> int:
        monkeypatch.setattr(attention, "MASK_NUMBERS", numbers)
        with LiveBytes(model) as live, torch.no_grad():  # inference mode hides what is inside an operation of several
            unwrap(greedy)(model, ids, 2, prefill_chunk=100)
        return live.largest_mask

    assert largest(2000) <= 2000
    assert largest(10**6) >= 100 * 400, "which counts masks"


@pytest.mark.skipif("q_length" not in signature(sdpa_mask).parameters, reason="a later version of Transformers")
@pytest.mark.parametrize("name", ["sliding", "mixed"])
@pytest.mark.parametrize("numbers", [1, 50, 600])
def test_windows_under_a_sliding_window_are_scored_and_answered_without_a_large_mask(
    name: str, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = build(name), prompts(2, 64)
    expected, answers = differentiable_token_nats(model, ids), greedy(model, ids, 5)
    monkeypatch.setattr(attention, "MASK_NUMBERS", numbers)
    with LiveBytes(model) as live, torch.no_grad():
        torch.testing.assert_close(unwrap(token_nats)(model, ids), expected, rtol=1e-4, atol=1e-4)
    assert live.largest_mask <= max(600, 2 * 2 * 18)  # heads that share keys, keys in reach of a query
    for chunk in (13, 64):
        assert torch.equal(greedy(model, ids, 5, prefill_chunk=chunk), answers)


def as_this_version_says(q_length: int, q_offset: int, **options: Any) -> dict[str, Any]:
    """Return the arguments of `sdpa_mask` as the installed version of Transformers takes them."""
    if "q_length" in signature(sdpa_mask).parameters:
        return {"q_length": q_length, "q_offset": q_offset, **options}
    return {"cache_position": torch.arange(q_offset, q_offset + q_length), **options}


def test_a_sliding_window_and_padding_keep_their_masks() -> None:
    with without_masks():
        make = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
        sizes: dict[str, Any] = {"batch_size": 1, "q_length": 4, "kv_length": 10, "q_offset": 6}
        plain = as_this_version_says(**sizes)
        assert make(**plain) is None
        assert make(**plain, attention_mask=torch.ones(1, 10, dtype=torch.bool)) is None
        padding = torch.arange(10)[None] > 2
        for options in (
            {"attention_mask": padding},
            {"local_size": 5},
            {"allow_is_causal_skip": False},
            {"q_length": 3},
            {"kv_offset": 1, "kv_length": 9},
        ):
            changed = as_this_version_says(**{**sizes, **options})
            found, expected = make(**changed), sdpa_mask(**changed)
            assert found is not None and expected is not None and torch.equal(found, expected)


def test_an_error_inside_leaves_the_functions_of_transformers() -> None:
    with pytest.raises(KeyError), without_masks():
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is lower_right_sdpa
        raise KeyError
    assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is sdpa_mask
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is not lower_right_sdpa


def test_contexts_that_overlap_leave_the_functions_of_transformers() -> None:
    one, other = without_masks(), without_masks()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is lower_right_sdpa
    other.__exit__(None, None, None)
    assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is sdpa_mask


def test_an_offloaded_cache_keeps_full_layers_alone_on_the_cpu() -> None:
    kinds = [type(layer) is OffloadedLayer for layer in offloaded_cache(build("mixed")).layers]
    assert kinds == [True, False]


def test_between_calls_nothing_of_an_offloaded_layer_is_on_the_device() -> None:
    layer = OffloadedLayer()
    pieces = [torch.randn(1, 2, n, 4) for n in (3, 1, 2)]
    keys, values = [layer.update(piece, -piece) for piece in pieces][-1]
    assert torch.equal(keys, torch.cat(pieces, dim=2)) and torch.equal(values, -keys)
    assert layer.get_seq_length() == 6
    assert layer.keys is None and layer.values is None
    assert [keys.shape[2] for keys, _ in layer.pieces] == [3, 1, 2]


def test_a_cache_is_offloaded_where_the_device_has_no_room_for_one_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama")
    assert not needs_offload(model, 10**9)  # not on a CUDA device
    for spare, main_memory, expected in ((10**9, None, False), (10**6, None, True), (10**6, 10**5, False)):
        monkeypatch.setattr(resources, "spare_memory", lambda _, spare=spare: spare)
        monkeypatch.setattr(resources, "available_memory", lambda _, memory=main_memory: memory)
        assert needs_offload(model, 10_000) is expected
