"""Compare llama.cpp's perplexity on an exported GGUF with ours: a script, as llama-cpp-python has to be compiled.

Usage: pip install llama-cpp-python; python tests/rope/export/check_llama_cpp.py MODEL [FACTORS]

MODEL is a folder of a Llama with its tokenizer; FACTORS a factor file (default: factors made for 2048 tokens). The text
is source code of the standard library. Exits with 1 if the two differ by more than 1 %, or if llama.cpp gives the same
without the factors, which would prove nothing.
"""

import ctypes
import math
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llama_gguf import write_llama  # beside this script
from transformers import AutoModelForCausalLM, AutoTokenizer

from longrope.rope import RescaleFactors, apply_factors, load_factors, rope_geometry
from longrope.rope.export import export_gguf

TOKENS = 2048
MODULES = ("argparse", "difflib", "tarfile", "doctest")


def documents(tokenizer: Any) -> list[list[int]]:
    """Return the first 2048 tokens of some modules."""
    texts = [Path(find_spec(name).origin).read_text(encoding="utf-8") for name in MODULES]  # type: ignore
    return [tokenizer(text, add_special_tokens=False)["input_ids"][:TOKENS] for text in texts]


def made_factors(model: Any) -> RescaleFactors:
    geometry = rope_geometry(model)
    lambdas = np.round(np.geomspace(1, TOKENS / geometry.original_length, geometry.pairs), 2)
    return RescaleFactors(lambdas, geometry.original_length, TOKENS, geometry.theta, geometry.rotary_dim, 1.15)


def perplexity(logits: list[torch.Tensor], ids: list[list[int]]) -> float:
    """Return exp of nats per token over all documents; logits (T, V) each."""
    nats = [
        torch.nn.functional.cross_entropy(a[:-1].float(), torch.tensor(b[1:]), reduction="sum").item()
        for a, b in zip(logits, ids, strict=True)
    ]
    return math.exp(sum(nats) / sum(len(document) - 1 for document in ids))


def our_logits(model: Any, ids: list[list[int]]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model(input_ids=torch.tensor([document])).logits[0] for document in ids]


def llama_cpp_logits(file: Path, ids: list[list[int]], vocab: int) -> list[torch.Tensor]:
    """Run llama.cpp through its C interface: the file has no vocabulary, which the Python class expects."""
    llama_cpp: Any = import_module("llama_cpp")

    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
    assert model, f"llama.cpp must load {file}"
    found = []
    for document in ids:
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = TOKENS
        settings.type_k = settings.type_v = 0  # float32 cache
        context = llama_cpp.llama_init_from_model(model, settings)
        batch = llama_cpp.llama_batch_init(TOKENS, 0, 1)
        batch.n_tokens = len(document)
        for position, token in enumerate(document):
            batch.token[position], batch.pos[position] = token, position
            batch.n_seq_id[position], batch.seq_id[position][0], batch.logits[position] = 1, 0, 1
        assert llama_cpp.llama_decode(context, batch) == 0, "llama.cpp must decode the batch"
        flat = llama_cpp.llama_get_logits(context)
        values = np.ctypeslib.as_array(ctypes.cast(flat, ctypes.POINTER(ctypes.c_float)), (len(document), vocab))
        found.append(torch.from_numpy(values.copy()))
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return found


def main(source: str, factor_file: str | None = None) -> int:
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    ids = documents(AutoTokenizer.from_pretrained(source))
    factors = load_factors(factor_file).without_start_tokens() if factor_file else made_factors(model)
    with tempfile.TemporaryDirectory() as folder:
        base = write_llama(model, Path(folder) / "base.gguf")
        scaled = export_gguf(base, factors, Path(folder) / "scaled.gguf")
        theirs = perplexity(llama_cpp_logits(scaled, ids, model.config.vocab_size), ids)
        unscaled = perplexity(llama_cpp_logits(base, ids, model.config.vocab_size), ids)
    with apply_factors(model, factors):
        ours = perplexity(our_logits(model, ids), ids)
    print(f"perplexity at {TOKENS} tokens: longrope {ours:.4f}, llama.cpp {theirs:.4f} ({theirs / ours - 1:+.3%})")
    print(f"llama.cpp without the factors: {unscaled:.4f}")
    return int(abs(theirs / ours - 1) > 0.01 or abs(unscaled / ours - 1) < 0.01)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
