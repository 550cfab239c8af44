"""Costs of training against counted operations and parameters."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from longrope.evaluation.scoring.cost import model_size
from longrope.training.cost import scoring_bytes, training_bytes, training_flops


@pytest.mark.parametrize("tied", [False, True])
def test_a_training_step_costs_three_forwards_and_one_more_with_checkpoints(make_llama, tied):
    model = make_llama(tie_word_embeddings=tied).train()
    model.set_attn_implementation("eager")
    sizes, length = model_size(model), 64
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        with FlopCounterMode(display=False) as counter:
            ids = torch.zeros(1, length, dtype=torch.long)
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        attention = 2 * sizes.layers * sizes.heads * sizes.head_dim * length**2
        passes = 4 if checkpointing else 3
        whole_square = passes * attention  # the counter sees all pairs, the formula half of them
        counted = counter.get_total_flops() - whole_square
        head = 2 * sizes.vocabulary * sizes.hidden * length * checkpointing  # the output head is not run again
        assert counted + head == pytest.approx(training_flops(sizes, length, checkpointing), rel=0.05)


def test_sharded_states_are_sixteen_bytes_per_parameter(make_llama):
    sizes = model_size(make_llama())
    few, many = (training_bytes(sizes, 64, devices) for devices in (1, 8))
    assert few - many == pytest.approx(16 * sizes.parameters * 7 / 8)
    assert training_bytes(sizes, 128, 8) > many
    assert scoring_bytes(sizes, 64) < few
