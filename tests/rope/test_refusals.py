"""Models whose RoPE can't be rescaled are refused by name, with the reason, and stay as they were."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    LlamaForCausalLM,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
)
from transformers.models.mistral_large4.modeling_mistral_large4 import MistralLarge4TextRotaryEmbedding

from longrope.rope import RescaleFactors, install
from longrope.rope.describe import describe_rope
from longrope.rope.families import REFUSED, find_rope

REASONS = {
    "gptj": "fixed tables inside each attention layer",
    "codegen": "fixed tables inside each attention layer",
    "roformer": "fixed tables inside each attention layer",
    "bert": "learned position embeddings",
    "gpt2": "learned position embeddings",
    "opt": "learned position embeddings",
    "bloom": "a bias on the attention scores",
    "t5": "a bias on the attention scores",
    "mamba": "recurrent",
    "rwkv": "recurrent",
    "jamba": "no position encoding",
    "mistral_large4": "frequencies are learned",
}


@pytest.mark.parametrize("kind", REASONS)
def test_the_message_names_the_model_and_the_reason(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"got a '{kind}' model: .*{REASONS[kind]}.*; use a model such as Llama"):
        describe_rope(CONFIG_MAPPING[kind]())


@pytest.mark.parametrize("kind", sorted(set(REFUSED) - {"mistral_large4", "mistral_large4_text"}))
def test_what_the_table_refuses_has_no_rotary_module_indeed(kind: str) -> None:
    config = CONFIG_MAPPING[kind]()
    config.num_hidden_layers = 4
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert not any(name.endswith("rotary_emb") for name, _ in model.named_modules())
    with pytest.raises(ValueError, match=f"got a '{kind}' model"):
        find_rope(model)


def test_learned_frequencies_differ_from_the_config_and_are_found_out(make_model: Callable[..., Any]) -> None:
    model = make_model("llama")
    rotary: Any = MistralLarge4TextRotaryEmbedding(model.config)
    model.model.rotary_emb = rotary
    rotary.alpha.fill_(0.1)
    with pytest.raises(ValueError, match="MistralLarge4TextRotaryEmbedding does not compute cos and sin of position"):
        install(model)
    rotary.alpha.zero_()
    install(model).restore()


def test_an_unknown_model_without_a_rotary_module_is_refused() -> None:
    with pytest.raises(ValueError, match="got a 'Linear' model: it has no rotary_emb module"):
        install(nn.Linear(2, 2))


def test_encoder_decoders_are_refused() -> None:
    part = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    part |= {"num_key_value_heads": 2, "vocab_size": 64}
    with torch.device("meta"):
        model = T5GemmaForConditionalGeneration(T5GemmaConfig(encoder=part, decoder=part, vocab_size=64))
    with pytest.raises(ValueError, match="got a 't5gemma' model: it is an encoder-decoder"):
        install(model)


def test_one_rotary_module_per_layer_is_refused(llama: LlamaForCausalLM) -> None:
    for layer in llama.model.layers:
        layer.rotary_emb = llama.model.rotary_emb
    with pytest.raises(ValueError, match="it has 3 rotary_emb modules, not one"):
        install(llama)


def test_phimoe_longrope_which_uses_its_short_factors_at_all_lengths_is_refused(make_model: Callable[..., Any]) -> None:
    parameters = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    parameters |= {"original_max_position_embeddings": 32, "short_mscale": 1.1, "long_mscale": 1.2}
    model = make_model("phimoe", num_local_experts=2, max_position_embeddings=128, rope_parameters=parameters)
    with pytest.raises(ValueError, match="PhimoeRotaryEmbedding does not compute cos and sin of position"):
        install(model)


def test_a_second_installation_is_refused_and_the_first_stays(llama: LlamaForCausalLM) -> None:
    with install(llama) as rope:
        with pytest.raises(ValueError, match="an installation is in place"):
            install(llama)
        assert llama.model.rotary_emb is rope.rotary


def test_a_rotary_function_that_knows_one_row_only_is_refused(llama: LlamaForCausalLM) -> None:
    """As a fused kernel would that reads cos and sin of the first batch row."""

    def first_row(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"position_embeddings": tuple(t[:1] for t in kwargs["position_embeddings"])}

    for layer in llama.model.layers:
        layer.register_forward_pre_hook(first_row, with_kwargs=True)
    module = llama.model.rotary_emb
    with pytest.raises(RuntimeError, match="each batch row must follow its own factors"):
        install(llama)
    assert llama.model.rotary_emb is module


def test_a_model_that_gives_nan_is_not_called_unmoved(llama: LlamaForCausalLM) -> None:
    with torch.no_grad():
        llama.lm_head.weight[0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="logits must be finite"):
        install(llama)


def test_per_layer_factors_that_do_not_reach_a_layer_are_an_error(llama: LlamaForCausalLM) -> None:
    with install(llama) as rope:
        rope.set([RescaleFactors(np.linspace([1.0] * 8, [2.0] * 8, 2), 32, 64, 1e4, 16)])
        llama(input_ids=torch.zeros(1, 4, dtype=torch.long))
        with pytest.raises(RuntimeError, match="per-layer factors must reach each layer, but LlamaDecoderLayer"):
            llama.model.layers[1](torch.zeros(1, 4, 32))
