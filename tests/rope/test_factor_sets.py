import numpy as np
import pytest
import torch

from longrope.rope import (
    FactorSets,
    RescaleFactors,
    apply_factors,
    compose,
    holds_factor_sets,
    load_factor_sets,
    rope_geometry,
)
from longrope.rope.export import export_hf
from longrope.rope.methods.searched import by_length
from longrope.rope.plain import is_scaled, make_plain


def factors(target, largest, attention=1.0, original=32):
    return RescaleFactors(np.linspace(1, largest, 8), original, target, 10000.0, 16, attention)


SETS = FactorSets((factors(128, 4.0, 1.2), factors(32, 1.5), factors(64, 2.0, 1.1)))


def test_the_shortest_set_that_reaches_a_length_holds():
    reached = {length: SETS.at(length).target_length for length in (1, 32, 33, 64, 65, 128, 129, 1000)}
    assert reached == {1: 32, 32: 32, 33: 64, 64: 64, 65: 128, 128: 128, 129: 128, 1000: 128}
    assert SETS.longest.target_length == 128


def test_sets_travel_through_a_file(tmp_path):
    SETS.save(tmp_path / "sets.json")
    assert holds_factor_sets(tmp_path / "sets.json")
    assert load_factor_sets(tmp_path / "sets.json") == SETS
    SETS.longest.save(tmp_path / "one.json")
    assert not holds_factor_sets(tmp_path / "one.json")
    with pytest.raises(ValueError, match="must be a file of format"):
        load_factor_sets(tmp_path / "one.json")


def test_sets_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        FactorSets((factors(64, 2.0), factors(64, 3.0)))
    with pytest.raises(ValueError, match="one model.s"):
        FactorSets((factors(64, 2.0), factors(128, 3.0, original=16)))
    with pytest.raises(ValueError, match="at least one"):
        FactorSets(())


def logits(model, ids, factors):
    with torch.no_grad(), apply_factors(model, factors):
        return model(ids, use_cache=False).logits


def test_a_sequence_keeps_the_set_it_began_with(llama):
    ids = torch.randint(0, 64, (1, 80), generator=torch.Generator().manual_seed(0))
    alone = {length: logits(llama, ids, SETS.at(length)) for length in (32, 64, 128)}
    assert not torch.allclose(alone[32], alone[64], atol=1e-2)
    with apply_factors(llama, SETS), torch.no_grad():
        cache, steps = None, []
        for part in ids.split([30, *[1] * 50], dim=1):  # generation that crosses the ends of two sets
            output = llama(part, past_key_values=cache, use_cache=True)
            cache, steps = output.past_key_values, [*steps, output.logits]
        assert torch.allclose(torch.cat(steps, dim=1), alone[32], atol=1e-4)
        assert torch.allclose(llama(ids, use_cache=False).logits, alone[128], atol=1e-4)  # the next sequence is its own
        assert torch.allclose(llama(ids[:, :20], use_cache=False).logits, alone[32][:, :20], atol=1e-4)
    with apply_factors(llama, SETS, planned_length=64), torch.no_grad():
        cache = llama(ids[:, :30], use_cache=True)
        rest = llama(ids[:, 30:60], past_key_values=cache.past_key_values, use_cache=True).logits
        assert torch.allclose(rest, alone[64][:, 30:60], atol=1e-4)


def test_as_a_method_each_length_has_its_set(llama):
    method, geometry = by_length(SETS), rope_geometry(llama)
    assert method.factors(geometry) == SETS.longest
    for length in (20, 50, 90):
        assert method.at_length(geometry, length).factors(geometry) == SETS.at(length)


def test_two_stages_multiply_to_what_the_extended_model_computes(model_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    first, second = factors(64, 2.0, 1.1), factors(128, 3.0, 1.3, original=64)
    export_hf(model_folder, first, tmp_path / "model")
    extended, plain = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "model", model_folder))
    ids = torch.randint(0, 64, (1, 120), generator=torch.Generator().manual_seed(0))
    both = compose(first, second)
    assert (both.original_length, both.target_length) == (32, 128)
    assert torch.allclose(logits(extended, ids, second), logits(plain, ids, both), atol=1e-4)
    with pytest.raises(ValueError, match="original length of 32"):
        compose(first, factors(128, 3.0))


def test_an_extended_model_gets_its_pretrained_rope_back(model_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    export_hf(model_folder, factors(64, 2.0, 1.1), tmp_path / "model")
    extended, plain = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "model", model_folder))
    assert is_scaled(rope_geometry(extended))
    make_plain(extended, 32)
    assert not is_scaled(rope_geometry(extended))
    assert rope_geometry(extended).original_length == 32
    ids = torch.randint(0, 64, (1, 50), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(extended(ids).logits, plain(ids).logits)
