"""One stage of training against plain PyTorch."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longrope.rope import RescaleFactors, install
from longrope.training import MicroBatches, Options, Stage, TrainingText, Window, train_stage
from longrope.training.batches import spread
from longrope.training.checkpoints import last_complete, mark_complete
from longrope.training.finetune import as_stored

WINDOWS = (Window(16, share=1, rope="original", mask_documents=True), Window(32, share=1))
STAGE = Stage(32, steps=2, batch_size=4, learning_rate=1e-2, schedule="constant", windows=WINDOWS)


@pytest.fixture
def batches(make_documents):
    text = TrainingText({"documents": make_documents([9, 40, 13, 70, 25, 60])}, leading=[0], closing=[1])
    return MicroBatches(STAGE, text, micro_batch_size=1, seed=0)


def factors_of(geometry, **changes):
    return RescaleFactors(
        np.linspace(1, 4, geometry.pairs), 32, 64, geometry.theta, geometry.rotary_dim, 1.1, **changes
    )


def test_spread_keeps_the_shares_in_any_stretch():
    assert spread([1, 3], 8).tolist() == [1, 0, 1, 1, 1, 0, 1, 1]
    kinds = spread([0.2, 0.5, 0.3], 1000)
    for start in range(0, 1000, 50):
        counts = np.bincount(kinds[start : start + 50], minlength=3)
        assert np.all(np.abs(counts - np.array([10, 25, 15])) <= 2)


def test_micro_batches_have_equal_tokens_and_say_which_rope_they_mean(batches):
    seen = [(tuple(batch["input_ids"].shape), bool(batch["original"])) for batch in map(batches.__getitem__, range(8))]
    assert sorted(set(seen)) == [((1, 32), False), ((2, 16), True)]
    assert [original for _, original in seen].count(True) == 4
    again = batches[3]
    assert all(torch.equal(again[name], batches[3][name]) for name in again)


@pytest.mark.parametrize("start_tokens", [0, 5])
def test_two_steps_of_mixed_windows_equal_plain_pytorch(make_llama, batches, tmp_path, start_tokens):
    model, expected = make_llama(), make_llama()
    with install(model) as installation:
        factors = factors_of(installation.geometry, start_tokens=start_tokens)
        options = Options(micro_batch_size=1, precision="float32", use_cpu=True, save_steps=100)
        train_stage(model, installation, factors, STAGE, batches, tmp_path, options)
    optimizer = torch.optim.AdamW(expected.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    with install(expected) as installation:
        for step in range(2):
            micro = [batches[4 * step + i] for i in range(4)]
            count = sum(int((one["labels"] != -100).sum()) for one in micro)
            for one in micro:
                installation.set([factors]) if not one["original"] else installation.reset()
                logits = expected(input_ids=one["input_ids"], position_ids=one["position_ids"], use_cache=False).logits
                nats = torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), one["labels"].flatten(), ignore_index=-100, reduction="sum"
                )
                (nats / count).backward()
            torch.nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    for (name, one), (_, other) in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name
    assert "forward" not in model.__dict__
    assert not torch.equal(model.lm_head.weight, make_llama().lm_head.weight)


def test_tied_weights_stay_tied_in_the_dtype_they_are_stored_in(make_llama, tmp_path):
    model = make_llama(tie_word_embeddings=True)
    state = as_stored(model.state_dict(), torch.bfloat16)
    assert state["lm_head.weight"] is state["model.embed_tokens.weight"]
    model.save_pretrained(tmp_path, state_dict=state)
    saved = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in saved
    assert torch.equal(saved["model.norm.weight"], model.model.norm.weight.bfloat16())


def test_an_unfinished_checkpoint_is_removed_and_never_resumed(tmp_path):
    for step in (2, 10, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
    mark_complete(tmp_path, 2)
    mark_complete(tmp_path, 4)
    assert last_complete(tmp_path) == str(tmp_path / "checkpoint-4")
    assert not (tmp_path / "checkpoint-10").exists()
    assert last_complete(tmp_path / "checkpoint-2") is None


def test_sizes_that_do_not_fit_are_refused(make_documents):
    text = TrainingText({"documents": make_documents([90])}, [0], [1])
    with pytest.raises(ValueError, match="micro_batch_size must divide the batch size of 4"):
        MicroBatches(STAGE, text, 3, 0)
    with pytest.raises(ValueError, match="add --tokenized books=FOLDER"):
        MicroBatches(Stage(32, 1, 1, 1e-3, windows=(Window(32, source="books"),)), text, 1, 0)
