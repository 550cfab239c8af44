"""Make the cases that every engine is asked: a model, its export, two prompts, and what `apply_factors` answers.

Usage: python tests/engines/prepare.py WORK FACTORS [CASE ...]

FACTORS are those searched for the embedded model. The other models have random weights, large enough that logits are
not flat, and an attention factor far from 1 and from LongRoPE's own, so that an engine that drops it, applies it twice
or computes its own is seen.
"""

import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from answers import GREEDY_TOKENS, Prompt, token_logprobs  # beside this script
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

from longrope.rope import RescaleFactors, apply_factors, load_factors, rope_geometry
from longrope.rope.attention_factor import su
from longrope.rope.export import export_hf

EMBEDDED = Path(__file__).parents[2] / "examples/tiny/model"
ORIGINAL, TARGET = 256, 2048
LENGTHS = (200, 2000)
ATTENTION_FACTOR = 1.6
ASKED_SINGLY = 80
MODULES = ("argparse", "difflib", "tarfile", "doctest", "inspect", "pdb", "zipfile")

COMMON: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": ORIGINAL,
    "initializer_range": 0.08,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
GEMMA: dict[str, Any] = {
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    "sliding_window": 128,
    "head_dim": 64,
    "query_pre_attn_scalar": 64,
    "tie_word_embeddings": True,
}
CASES: dict[str, tuple[str, float | None, dict[str, Any]]] = {
    "llama": ("llama", ATTENTION_FACTOR, {}),
    "qwen3": ("qwen3", ATTENTION_FACTOR, {"head_dim": 64}),
    "phi3": ("phi3", ATTENTION_FACTOR, {"sliding_window": None}),
    "phi3-su": ("phi3", None, {"sliding_window": None}),
    "gemma3": ("gemma3_text", ATTENTION_FACTOR, GEMMA),
}
"""Model type, attention factor (None: LongRoPE's su, the one that engines compute by themselves), and settings."""


def save_random_model(folder: Path, model_type: str, settings: dict[str, Any]) -> None:
    """Save a model with random bfloat16 weights and the tokenizer of the embedded model."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**{**COMMON, **settings}))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_tokens" in name or "lm_head" in name:
                weight.normal_(std=0.2)
            elif "q_norm" in name:  # normalised queries would attend to everything alike
                weight.fill_(2.0)
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED).save_pretrained(folder)


def made_factors(model: Any, attention_factor: float | None) -> RescaleFactors:
    geometry = rope_geometry(model, ORIGINAL)
    lambdas = np.round(np.geomspace(1, TARGET / ORIGINAL, geometry.pairs), 2)
    attention_factor = attention_factor or su(TARGET / ORIGINAL, ORIGINAL)
    return RescaleFactors(lambdas, ORIGINAL, TARGET, geometry.theta, geometry.rotary_dim, attention_factor)


def prompt_of(tokenizer: Any, text: str, length: int) -> Prompt | None:
    """Return the first tokens of a text as a prompt, or None if their text alone is tokenized in another way."""

    def encode(end: int) -> list[int]:
        return tokenizer(text[:end])["input_ids"]

    encoded = tokenizer(text, return_offsets_mapping=True)
    ids, ends = encoded["input_ids"][:length], [end for _, end in encoded["offset_mapping"][:length]]
    if len(ids) < length or encode(ends[-1]) != ids:
        return None
    single = [
        (index, text[: ends[index - 1]], text[ends[index - 1] : ends[index]])
        for index in np.linspace(2, length - 1, ASKED_SINGLY, dtype=int).tolist()
        if not text[ends[index - 1] - 1].isspace()
        and encode(ends[index - 1]) == ids[:index]
        and encode(ends[index]) == ids[: index + 1]
    ]
    return Prompt(ids, text[: ends[-1]], single)


def prompts(tokenizer: Any) -> dict[str, Prompt]:
    """Return a prompt of each length: source code of the standard library."""
    found = {}
    for length in LENGTHS:
        for module in MODULES:
            text = Path(find_spec(module).origin).read_text(encoding="utf-8")  # type: ignore[union-attr,arg-type]
            if prompt := prompt_of(tokenizer, text[: 6 * length], length):
                found[str(length)] = prompt
                break
        else:
            raise RuntimeError(f"one of {MODULES} must have {length} tokens whose text is tokenized into them")
    return found


@torch.no_grad()
def logprobs(model: Any, prompt: Prompt) -> list[float]:
    logits = model(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[0]
    return token_logprobs(logits.numpy(), prompt.ids).tolist()


@torch.no_grad()
def greedy(model: Any, prompt: Prompt) -> list[int]:
    """Return the most likely continuation."""
    found = model.generate(torch.tensor([prompt.ids]), max_new_tokens=GREEDY_TOKENS, do_sample=False)
    return found[0, len(prompt.ids) :].tolist()


def variants(factors: RescaleFactors) -> Iterator[tuple[str, RescaleFactors]]:
    """Yield what an engine may make of the attention factor."""
    yield "once", factors
    for name, value in (
        ("dropped", 1.0),
        ("twice", factors.attention_factor**2),
        ("su", su(factors.scale, factors.original_length)),
    ):
        if abs(value - factors.attention_factor) > 0.01:
            yield name, replace(factors, attention_factor=value)


def reference(model: Any, tokenizer: Any, factors: RescaleFactors, asked: dict[str, Prompt]) -> dict[str, Any]:
    """Return log-probabilities of each prompt for each variant, and the greedy continuation."""
    result: dict[str, Any] = {length: {"ignored": logprobs(model, prompt)} for length, prompt in asked.items()}
    for variant, changed in variants(factors):
        with apply_factors(model, changed):
            for length, prompt in asked.items():
                result[length][variant] = logprobs(model, prompt)
    with apply_factors(model, factors):
        for length, prompt in asked.items():
            result[length]["greedy"] = greedy(model, prompt)
            result[length]["greedy_text"] = tokenizer.decode(result[length]["greedy"], skip_special_tokens=True)
            assert tokenizer.eos_token_id not in result[length]["greedy"], "the continuation must not end early"
    return result


def prepare(case: Path, source: Path, attention_factor: float | None, factors: RescaleFactors | None) -> None:
    """Write the prompts, factors, export and reference of a case."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    factors = factors or made_factors(model, attention_factor)
    asked = prompts(tokenizer)
    (case / "prompts.json").write_text(json.dumps({length: asdict(prompt) for length, prompt in asked.items()}))
    factors.save(case / "factors.json")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export_hf(source, factors, case / "exported")
    answers = reference(model, tokenizer, factors, asked)
    change = max(np.abs(np.subtract(answers[n]["once"], answers[n]["ignored"])).max() for n in answers)
    assert change > 0.5, f"the factors must change log-probabilities, but the largest change is {change}"
    about = {
        "model_type": model.config.model_type,
        "source": str(source),
        "attention_factor": factors.attention_factor,
        "warnings": [str(warning.message) for warning in caught],
        "reference": answers,
    }
    (case / "case.json").write_text(json.dumps(about), encoding="utf-8")
    print(
        f"{case.name}: attention factor {factors.attention_factor:.4g}, log-probabilities change by up to {change:.2f}"
    )


def main(work: Path, searched: Path, *names: str) -> None:
    for name in names or ("embedded", *CASES):
        case = work / name
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir(parents=True)
        if name == "embedded":
            prepare(case, EMBEDDED, None, load_factors(searched).without_start_tokens())
            continue
        model_type, attention_factor, settings = CASES[name]
        save_random_model(case / "base", model_type, settings)
        prepare(case, case / "base", attention_factor, None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
