"""Factors in a real model: rows, start tokens, precision, restoring, and the canary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longrope.rope import RescaleFactors, apply_factors, install, load_factors, rope_geometry
from longrope.rope.methods import NTK, DynamicNTK, Linear, YaRN

Llama = Any  # the annotations of Transformers refuse its own calls
MakeLlama = Callable[..., Llama]
IDS = torch.arange(96)[None] * 7 % 64


def logits(model: Llama, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def factors(lambdas: np.ndarray | float, start_tokens: int = 0, attention_factor: float = 1.0) -> RescaleFactors:
    values = np.broadcast_to(np.asarray(lambdas, dtype=np.float64), (8,))
    return RescaleFactors(values, 32, 128, 1e4, 16, attention_factor, start_tokens)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (Linear(4), {"rope_type": "linear", "factor": 4.0}),
        (YaRN(4), {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}),
    ],
)
def test_installed_methods_give_the_logits_of_transformers_own(
    make_llama: MakeLlama, method: Linear, parameters: dict[str, object]
) -> None:
    model = make_llama()
    reference = make_llama(rope_parameters={"rope_theta": 10000.0, **parameters})
    with install(model) as rope:
        rope.set([method.factors(rope.geometry)])
        torch.testing.assert_close(logits(model), logits(reference), atol=1e-5, rtol=1e-5)


def test_each_batch_row_equals_its_candidate_alone_exactly(llama: Llama) -> None:
    candidates = [factors(s, n, a) for s, n, a in ((1.5, 0, 1.0), (4.0, 8, 1.2), (np.linspace(1, 4, 8), 3, 0.9))]
    with install(llama) as rope:
        rope.set(candidates)
        batched = logits(llama, IDS.expand(3, -1))
        for row, candidate in enumerate(candidates):
            rope.set([candidate])
            assert torch.equal(batched[row], logits(llama)[0])


def test_any_source_of_factors_can_be_applied(make_llama: MakeLlama, tmp_path: Path) -> None:
    model = make_llama(head_dim=128, hidden_size=64, num_attention_heads=1, num_key_value_heads=1)
    name, ids = "published:llama2-7b-256k", IDS[:, :64]
    with apply_factors(model, load_factors(name)):
        expected = logits(model, ids)
    load_factors(name).save(tmp_path / "factors.json")
    for source in (name, tmp_path, str(tmp_path / "factors.json")):
        with apply_factors(model, source):
            assert torch.equal(logits(model, ids), expected)
    (tmp_path / "four.csv").write_text("4.0\n" * 64)
    with apply_factors(model, tmp_path / "four.csv", target_length=128):
        scaled = logits(model, ids)
    linear = RescaleFactors(np.full(64, 4.0), 32, 128, 1e4, 128, attention_factor=(1 + np.log(4) / np.log(32)) ** 0.5)
    with apply_factors(model, linear):
        assert torch.equal(logits(model, ids), scaled)


def test_a_source_that_cannot_be_read_leaves_the_model_as_it_was(llama: Llama) -> None:
    original = logits(llama)
    with pytest.raises(ValueError, match="factors must be a file that exists"):
        apply_factors(llama, "nowhere.json")
    assert torch.equal(logits(llama), original)


def test_as_many_start_tokens_as_positions_is_the_original_model_exactly(llama: Llama) -> None:
    original = logits(llama)
    with apply_factors(llama, factors(4.0, start_tokens=96, attention_factor=1.3)):
        assert torch.equal(logits(llama), original)
        assert torch.equal(logits(llama), original), "the second call gives the same"


def test_start_tokens_keep_their_angles_and_the_others_are_rescaled(llama: Llama) -> None:
    positions = torch.arange(40)[None]
    x = torch.zeros(1, dtype=torch.float32)
    with install(llama) as rope:
        base = llama.model.rotary_emb.pretrained(x, positions)[0][0]
        rope.set([factors(4.0, start_tokens=5, attention_factor=1.1)])
        cos = rope.rotary(x, positions)[0][0]
        angles = positions[0, :, None].double() * torch.tensor(rope.geometry.inv_freq) / 4
        torch.testing.assert_close(cos[:5], base[:5], atol=0, rtol=0)
        expected = 1.1 * torch.cat((angles, angles), -1).cos().float()
        torch.testing.assert_close(cos[5:], expected[5:], atol=1e-5, rtol=0)


def test_restoring_leaves_the_model_bit_for_bit(llama: Llama) -> None:
    before, module, state = logits(llama), llama.model.rotary_emb, list(llama.state_dict())
    with apply_factors(llama, factors(4.0)):
        assert not torch.equal(logits(llama), before)
    assert llama.model.rotary_emb is module
    assert list(llama.state_dict()) == state
    assert torch.equal(logits(llama), before)


def test_the_model_is_restored_when_the_block_raises(llama: Llama) -> None:
    module = llama.model.rotary_emb
    with pytest.raises(KeyError), apply_factors(llama, factors(4.0)):
        raise KeyError
    assert llama.model.rotary_emb is module


def test_a_model_that_ignores_its_rotary_module_is_refused(llama: Llama) -> None:
    tables = llama.model.rotary_emb(torch.zeros(1), torch.arange(200)[None])
    for layer in llama.model.layers:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: (args, kwargs | {"position_embeddings": tuple(t[:, :32] for t in tables)}),
            with_kwargs=True,
        )
    module = llama.model.rotary_emb
    with pytest.raises(RuntimeError, match="must move the logits"):
        install(llama)
    assert llama.model.rotary_emb is module


def test_angles_stay_float32_after_the_model_is_cast_to_bfloat16(llama: Llama) -> None:
    positions = torch.tensor([[100_000, 131_071]])
    with install(llama) as rope:
        rope.set([factors(4.0)])
        before = rope.rotary(torch.zeros(1), positions)
        llama.to(torch.bfloat16)
        assert all(torch.equal(a, b) for a, b in zip(before, rope.rotary(torch.zeros(1), positions), strict=True))


def test_generation_with_a_cache_equals_generation_without(llama: Llama) -> None:
    with apply_factors(llama, factors(np.linspace(1, 4, 8), start_tokens=4, attention_factor=1.1)):
        settings = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": 0}
        cached = llama.generate(IDS[:, :28], use_cache=True, **settings)
        assert torch.equal(cached, llama.generate(IDS[:, :28], use_cache=False, **settings))


def test_left_padding_does_not_change_the_logits(llama: Llama) -> None:
    ids, mask = torch.cat((torch.zeros(1, 10, dtype=torch.long), IDS), 1), torch.ones(1, 106, dtype=torch.long)
    mask[:, :10] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with apply_factors(llama, factors(3.0, start_tokens=4)), torch.no_grad():
        padded = llama(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, 10:]
        torch.testing.assert_close(padded, logits(llama), atol=1e-4, rtol=1e-4)


def test_dynamic_factors_follow_the_length_in_both_directions(llama: Llama, make_llama: MakeLlama) -> None:
    with install(llama) as rope:
        method = DynamicNTK(4.0)
        rope.set_schedule(lambda length: method.at_length(rope.geometry, length).factors(rope.geometry))
        for length in (20, 96, 48, 33, 32):
            # A fresh reference each time: Transformers keeps the factors of the longest sequence it has seen.
            reference = make_llama(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0})
            ids = IDS[:, :length]
            torch.testing.assert_close(logits(llama, ids), logits(reference, ids), atol=1e-4, rtol=1e-4)


def test_a_cache_is_never_filled_with_two_rotations(llama: Llama) -> None:
    settings = {"max_new_tokens": 16, "do_sample": False, "pad_token_id": 0}
    with install(llama) as rope:

        def schedule(length: int) -> RescaleFactors:
            return DynamicNTK(4.0).at_length(rope.geometry, length).factors(rope.geometry)

        rope.set_schedule(schedule)
        with pytest.raises(RuntimeError, match="planned_length"):
            llama.generate(IDS[:, :28], **settings)
        rope.set_schedule(schedule, planned_length=44)
        cached = llama.generate(IDS[:, :28], use_cache=True, **settings)
        assert torch.equal(cached, llama.generate(IDS[:, :28], use_cache=False, **settings))


def test_layers_can_have_their_own_factors(llama: Llama) -> None:
    rows = np.stack([np.full(8, 1.0), np.full(8, 4.0)])
    layered = RescaleFactors(rows, 32, 128, 1e4, 16)
    with install(llama) as rope:
        rope.set([RescaleFactors(np.stack([rows[1], rows[1]]), 32, 128, 1e4, 16)])
        alike = logits(llama)
        rope.set([factors(4.0)])
        assert torch.equal(alike, logits(llama))
        rope.set([layered])
        mixed = logits(llama)
        second = llama.model.layers[1].self_attn
        seen = []
        hook = second.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs["position_embeddings"][0]), with_kwargs=True
        )
        assert torch.equal(mixed, logits(llama))
        hook.remove()
        rope.set([factors(4.0)])
        assert torch.equal(seen[0], rope.rotary(torch.zeros(1), torch.arange(96)[None])[0])
        assert not torch.equal(mixed, logits(llama))


def test_factors_of_another_head_size_are_refused_and_the_model_restored(llama: Llama) -> None:
    module = llama.model.rotary_emb
    with pytest.raises(ValueError, match=r"factors must have length 8 \(rotary dim 16 / 2\), got 16"):
        apply_factors(llama, RescaleFactors(np.ones(16), 32, 128, 1e4, 32))
    assert llama.model.rotary_emb is module


def test_geometry_reads_the_live_model_not_a_default(make_llama: MakeLlama) -> None:
    model = make_llama(rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    geometry = rope_geometry(model)
    assert (geometry.theta, geometry.rotary_dim, geometry.original_length) == (5e5, 16, 32)
    lambdas = NTK(2).factors(geometry).lambdas
    np.testing.assert_allclose(geometry.inv_freq / lambdas, (5e5 * 2 ** (16 / 14)) ** (-np.arange(8) / 8), rtol=1e-6)
