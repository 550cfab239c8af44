"""A minimal converter of a Transformers Llama to a float32 GGUF, laid out as by llama.cpp's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

LAYER_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def pairs_as_neighbours(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Reorder the rows of Q or K: llama.cpp rotates dimensions (2i, 2i + 1) where Transformers rotates (i, i + d/2)."""
    return weight.unflatten(0, (num_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def gguf_tensors(model: Any) -> dict[str, np.ndarray]:
    config, state = model.config, model.state_dict()
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
    }
    if not config.tie_word_embeddings:
        tensors["output.weight"] = state["lm_head.weight"]
    for layer in range(config.num_hidden_layers):
        for theirs, ours in LAYER_TENSORS.items():
            weight = state[f"model.layers.{layer}.{theirs}.weight"]
            tensors[f"blk.{layer}.{ours}.weight"] = (
                pairs_as_neighbours(weight, heads[ours]) if ours in heads else weight
            )
    return {name: tensor.float().contiguous().numpy() for name, tensor in tensors.items()}


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any) -> None:
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    kinds = [
        gguf.TokenType.CONTROL if token in tokenizer.all_special_tokens else gguf.TokenType.NORMAL for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_scores([0.0] * len(tokens))  # in place of merges, of which there are none
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_unk_token_id):
        add(tokenizer.bos_token_id)
    writer.add_add_bos_token(True)


def write_llama(
    model: Any,
    path: Path,
    architecture: str = "llama",
    tokenizer: Any = None,
    kinds: Mapping[str, gguf.GGMLQuantizationType] | None = None,
    **tensors: np.ndarray,
) -> Path:
    """Write the model, a byte-level tokenizer if there is one, and further tensors, given by name without `.weight`.

    Tensors named in `kinds` are quantised.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    if tokenizer is None:
        writer.add_tokenizer_model("no_vocab")
    else:
        add_tokenizer(writer, tokenizer)
    for name, tensor in {**gguf_tensors(model), **{f"{n}.weight": t for n, t in tensors.items()}}.items():
        values = np.ascontiguousarray(tensor, dtype=np.float32)
        kind = (kinds or {}).get(name)
        writer.add_tensor(name, values if kind is None else gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
