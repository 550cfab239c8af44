import pytest
import torch

from longrope.rope import install
from longrope.rope.methods import Linear
from longrope.training import LoRA, MicroBatches, Options, Stage, TrainingText, train_stage
from longrope.training.lora import add_adapters, merge_adapters

pytest.importorskip("peft")
STAGE = Stage(32, steps=3, batch_size=2, learning_rate=1e-2)


def test_adapters_embeddings_and_norms_are_trained_and_merged(make_llama, make_documents, tmp_path):
    model, before = make_llama(), make_llama().state_dict()
    batches = MicroBatches(STAGE, TrainingText({"documents": make_documents([90, 80])}, [0], [1]), 2, seed=0)
    with install(model) as installation:
        adapted = add_adapters(model, LoRA(rank=2, targets=("q_proj", "v_proj")))
        factors = Linear(2.0).factors(installation.geometry)
        train_stage(adapted, installation, factors, STAGE, batches, tmp_path, Options(2, "float32", use_cpu=True))
        ids = batches[0]["input_ids"]
        with torch.no_grad():
            expected = adapted(input_ids=ids, use_cache=False).logits
            merged = merge_adapters(adapted)
            assert torch.allclose(merged(input_ids=ids, use_cache=False).logits, expected, atol=1e-4)
    after = merged.state_dict()
    assert after.keys() == before.keys()
    changed = {name.rpartition("layers.")[2] for name in after if not torch.equal(after[name], before[name])}
    layers = ("self_attn.q_proj", "self_attn.v_proj", "input_layernorm", "post_attention_layernorm")
    expected_names = {f"{i}.{name}.weight" for i in (0, 1) for name in layers}
    assert changed == expected_names | {"model.embed_tokens.weight", "model.norm.weight"}


def test_a_rank_of_nothing_is_refused():
    with pytest.raises(ValueError, match="rank must be at least 1"):
        LoRA(0)
