"""`longrope export`: factors in a form that other programs load without longrope."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..evaluation.comparison.results import Results, read_results
from ..evaluation.data.tokenized import check_tokenizer
from ..evaluation.objectives.perplexity import PerplexityObjective
from ..evaluation.report.table import render_tables
from ..evaluation.scoring.estimates import perplexity
from ..evaluation.scoring.model import load_model, read_config
from ..rope import RescaleFactors, RopeGeometry, install, load_factors
from ..rope.describe import describe_rope
from ..rope.export import export_hf
from ..rope.export.engines import departure
from ..rope.export.gguf import export_gguf
from ..rope.export.model_card import model_card
from ..rope.export.serving import sglang_command, vllm_command
from .configs import ExportConfig
from .documents import load_documents

COMMANDS = {"vllm": vllm_command, "sglang": sglang_command}

SAMPLES = 5
"""Documents of the score without start tokens where the user does not say how many."""


class Rescored(NamedTuple):
    """Perplexity of the same factors on the same documents, as searched and as exported."""

    with_start_tokens: float
    without_start_tokens: float


def run(config: ExportConfig) -> None:
    """Write the export and say what it is and how to load it."""
    output = Path(config.output_dir)
    if config.format == "gguf" and config.short_factors:
        raise ValueError(
            f"short_factors must be left out for the format gguf, got {config.short_factors}; the file gets one set of "
            "factors, for every length"
        )
    geometry = describe_rope(read_config(config.model)).geometry
    found = load_factors(config.factors, geometry, config.target_length)
    short = _short_factors(config.short_factors, found, geometry) if config.short_factors else None
    notes = [_explain(one, _rescore(config, one)) for one in (found, short) if one and one.start_tokens]
    for note in notes:
        print(note)
    factors = found.without_start_tokens()
    if config.format == "gguf":
        export_gguf(config.model, factors, output, config.outtype, config.converter)
        print(f"saved: {output}, for llama.cpp")
        return
    tables = [_tables(read_results(config.results))] if config.results else []
    card = model_card(factors, config.model, "".join(f"{text}\n" for text in [*tables, *notes]) or None)
    export_hf(config.model, factors, output, config.weights, short and short.without_start_tokens(), card)
    print(f"saved: {output}, load it with AutoModelForCausalLM.from_pretrained({str(output)!r})")
    if warning := departure("transformers4", read_config(config.model).model_type, factors):
        print(f"warning: {warning}")
    if config.format in COMMANDS:
        serving = COMMANDS[config.format](output, factors, config.model if config.weights == "none" else None)
        print(serving.command + (f"\nwarning: {serving.warning}" if serving.warning else ""))


def _tables(results: Results) -> str:
    return render_tables(results.rows, results.provenance["protocols"])


def _short_factors(source: str, long: RescaleFactors, geometry: RopeGeometry) -> RescaleFactors:
    """Return factors for short inputs; as an export has one attention factor, they take that of the long ones."""
    short = load_factors(source, geometry, long.target_length, short=True)
    if short.attention_factor != long.attention_factor and not source.endswith(".csv"):
        print(
            f"note: the short factors of {source} take the attention factor of the long ones, "
            f"{long.attention_factor:.5f} instead of {short.attention_factor:.5f}, since an export has one for both"
        )
    return replace(short, attention_factor=long.attention_factor)


def _rescore(config: ExportConfig, factors: RescaleFactors) -> Rescored:
    """Score factors with and without their start tokens, which no export can express."""
    if config.tokenized is None:
        raise ValueError(
            f"tokenized must name documents when factors have start tokens, got none for n_hat = "
            f"{factors.start_tokens}; no export format can express start tokens, so the factors are scored without them"
        )
    exclude = factors.searched_documents
    data = load_documents(config.tokenized, factors.target_length, config.samples, SAMPLES, exclude=exclude)
    model, tokenizer = load_model(config.model)
    check_tokenizer(data, tokenizer)
    with install(model, factors.original_length) as installation:
        objective = PerplexityObjective(model, installation, data.documents, factors.target_length, batch_size=2)
        both = [factors, factors.without_start_tokens()]
        pairs = [objective.score(both, document) for document in range(len(data.documents))]
    sums = [0.0, 0.0]
    tokens = 0
    for pair in pairs:
        if failed := [score.error for score in pair if score.nats is None]:
            raise RuntimeError(f"the factors could not be scored: {failed[0]}")
        sums = [total + (score.nats or 0.0) for total, score in zip(sums, pair, strict=True)]
        tokens += pair[0].tokens
    return Rescored(*(perplexity(total / tokens) for total in sums))


def _explain(factors: RescaleFactors, rescored: Rescored) -> str:
    return (
        f"Start tokens (n_hat = {factors.start_tokens}) can't be expressed in the export, which has n_hat = 0: "
        f"perplexity at {factors.target_length} tokens {rescored.without_start_tokens:.4f}, "
        f"with start tokens {rescored.with_start_tokens:.4f}."
    )
