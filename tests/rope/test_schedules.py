"""Factors that depend on the length: each sequence has one set of them, with a cache or without."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from longrope.rope import Installation, RescaleFactors, install
from longrope.rope.methods import DynamicNTK

IDS = torch.arange(96)[None] * 7 % 61 + 1
GREEDY: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}


def follow_dynamic(rope: Installation, planned: int | list[int] | None = None) -> None:
    method = DynamicNTK(4.0)
    rope.set_schedule(lambda length: method.at_length(rope.geometry, length).factors(rope.geometry), planned)


def short_then_long(length: int) -> RescaleFactors:
    """No scaling up to the original length of 32, factors of 3 beyond it."""
    return RescaleFactors(np.full(8, 1.0 if length <= 32 else 3.0), 32, 96, 1e4, 16)


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor, **inputs: Any) -> torch.Tensor:
    return model(input_ids=ids, **{"use_cache": False, **inputs}).logits


def padded(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded prompts of these lengths, and their attention mask."""
    widest = max(lengths)
    ids = torch.cat([torch.nn.functional.pad(IDS[:, :length], (widest - length, 0)) for length in lengths])
    return ids, (ids != 0).long()


@pytest.mark.parametrize(("length", "scaled"), [(31, False), (32, False), (33, True)])
def test_long_factors_start_one_token_beyond_the_original_length(llama: Any, length: int, scaled: bool) -> None:
    before = logits(llama, IDS[:, :length])
    with install(llama) as rope:
        rope.set_schedule(short_then_long)
        assert torch.equal(logits(llama, IDS[:, :length]), before) != scaled


def test_each_left_padded_row_gets_the_factors_of_its_own_length(llama: Any) -> None:
    ids, mask = padded(20, 60, 33, 90)
    with install(llama) as rope:
        follow_dynamic(rope)
        batch = logits(llama, ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0))
        for row, length in enumerate((20, 60, 33, 90)):
            alone = logits(llama, IDS[:, :length])[0]
            torch.testing.assert_close(batch[row, -length:], alone, atol=1e-4, rtol=1e-4)


def test_a_batch_that_crosses_the_original_length_generates_what_each_prompt_generates_alone(
    llama: Any,
) -> None:
    lengths = (14, 27, 40)
    ids, mask = padded(*lengths)
    with install(llama) as rope:
        follow_dynamic(rope, [length + 12 for length in lengths])
        batch = llama.generate(ids, attention_mask=mask, **GREEDY)
        for row, length in enumerate(lengths):
            follow_dynamic(rope, length + 12)
            alone = llama.generate(IDS[:, :length], use_cache=False, **GREEDY)
            assert torch.equal(batch[row, -12:], alone[0, -12:])


def test_beam_search_with_a_cache_equals_beam_search_without(llama: Any) -> None:
    with install(llama) as rope:
        follow_dynamic(rope, planned=28 + 12)
        cached = llama.generate(IDS[:, :28], num_beams=3, use_cache=True, **GREEDY)
        assert torch.equal(cached, llama.generate(IDS[:, :28], num_beams=3, use_cache=False, **GREEDY))


def test_decoding_without_a_plan_works_until_the_factors_would_change(llama: Any) -> None:
    with install(llama) as rope:
        follow_dynamic(rope)
        below = llama.generate(IDS[:, :20], use_cache=True, **GREEDY)
        assert torch.equal(below, llama.generate(IDS[:, :20], use_cache=False, **GREEDY))
        with pytest.raises(RuntimeError, match=r"factors must stay the same while a cache is in use.* \[33\]"):
            llama.generate(IDS[:, :28], use_cache=True, **GREEDY)
        again = llama.generate(IDS[:, :20], use_cache=True, **GREEDY)
        assert torch.equal(again, below), "a new sequence starts afresh"


def chunked(model: Any, length: int) -> torch.Tensor:
    cache = DynamicCache(config=model.config)
    chunks = IDS[:, :length].split(24, dim=1)
    return torch.cat([logits(model, chunk, past_key_values=cache, use_cache=True) for chunk in chunks], dim=1)


def test_chunked_prefill_needs_a_plan_and_then_equals_one_prefill(llama: Any) -> None:
    with install(llama) as rope:
        follow_dynamic(rope)
        with pytest.raises(RuntimeError, match="pass planned_length"):
            chunked(llama, 72)
        follow_dynamic(rope, planned=72)
        torch.testing.assert_close(chunked(llama, 72), logits(llama, IDS[:, :72]), atol=1e-4, rtol=1e-4)


def test_a_short_sequence_after_a_long_one_is_as_if_it_came_first(llama: Any) -> None:
    with install(llama) as rope:
        follow_dynamic(rope)
        first = logits(llama, IDS[:, :40])
        logits(llama, IDS)
        assert torch.equal(logits(llama, IDS[:, :40]), first)


def test_a_sequence_longer_than_planned_is_refused(llama: Any) -> None:
    with install(llama) as rope:
        follow_dynamic(rope, planned=36)
        with pytest.raises(ValueError, match=r"planned_length must cover the whole sequence, got \[36\] for \[37\]"):
            llama.generate(IDS[:, :28], **GREEDY)


def test_several_candidates_need_a_batch_of_as_many_rows(llama: Any) -> None:
    with install(llama) as rope:
        rope.set([short_then_long(1), short_then_long(99)])
        with pytest.raises(ValueError, match="one or as many as batch rows, got 2 for 3 rows"):
            logits(llama, IDS.expand(3, -1))


def test_a_schedule_may_yield_per_layer_factors(llama: Any) -> None:
    rows = np.stack([np.full(8, 1.0), np.full(8, 4.0)])
    layered = RescaleFactors(rows, 32, 128, 1e4, 16)
    ids, mask = padded(20, 60)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with install(llama) as rope:
        rope.set_schedule(lambda length: layered if length > 32 else short_then_long(length))
        batch = logits(llama, ids, attention_mask=mask, position_ids=positions)
        for row, (length, candidate) in enumerate(((20, short_then_long(20)), (60, layered))):
            rope.set([candidate])
            alone = logits(llama, IDS[:, :length])[0]
            torch.testing.assert_close(batch[row, -length:], alone, atol=1e-4, rtol=1e-4)
