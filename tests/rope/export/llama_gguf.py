"""A minimal converter of a Transformers Llama to a float32 GGUF without vocabulary, laid out as by llama.cpp's own."""

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


def write_llama(model: Any, path: Path, architecture: str = "llama", **tensors: np.ndarray) -> Path:
    """Write the model and further tensors, given by name without `.weight`."""
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
    writer.add_tokenizer_model("no_vocab")
    for name, tensor in {**gguf_tensors(model), **{f"{n}.weight": t for n, t in tensors.items()}}.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
