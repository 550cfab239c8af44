"""`longrope doctor --plan`: what an extension needs before it starts, from the config of a model alone."""

from collections.abc import Iterator

from ..evaluation.scoring.cost import forward_flops, weight_bytes
from ..evaluation.scoring.model import pick_device
from ..evolution import Settings, load_settings
from ..hyperparams import preset
from .comparison_configs import EvaluateConfig
from .configs import DoctorConfig, SearchConfig
from .documents import EVALUATION_DOCUMENTS
from .estimate import print_estimate
from .model_search import search_space
from .preflight import (
    GIB,
    Subject,
    check_disk,
    check_memory,
    check_window,
    document_facts,
    download_bytes,
    fits,
    forward_need,
    gradient_need,
    gradient_on_cpu,
    gradient_verdict,
    prompt_need,
    prompt_on_cpu,
    read_subject,
    wants_gradients,
)

SHARES = (16, 8, 4, 2, 1)
"""What the examples divide the target length by, for the lengths they evaluate at."""


def print_plan(config: DoctorConfig) -> None:
    """Print documents, memory, disk, hours and money of a search and its evaluation.

    Raises:
        ValueError: an option is missing, or something would fail later; the message says what and how to help it.
    """
    if config.model is None or config.target_length is None:
        raise ValueError(
            f"plan must have --model and --target-length, got {config.model} and {config.target_length}; give both"
        )
    target, settings = config.target_length, load_settings(preset(config.hyper_params))
    memory = None if config.device_gib is None else round(config.device_gib * GIB)
    subject = read_subject(config, pick_device(config.device) if memory is None else "cuda", memory)
    search = SearchConfig(
        config.model,
        config.tokenized or "",
        target,
        config.output_dir,
        config.hyper_params,
        original_length=config.original_length,
        samples=config.samples,
        sustained_tflops=config.sustained_tflops,
        price_per_hour=config.price_per_hour,
    )
    search_space(settings, search, subject.rope.geometry)
    check_window(subject.rope, target)
    facts = dict(document_facts(config, settings, target)) | dict(_resources(config.model, subject, settings, target))
    original = subject.rope.geometry.original_length
    print(f"{config.model}: {original} to {target} tokens ({target / original:g} times), {subject.dtype}")
    for name, value in facts.items():
        print(f"{name + ':':<22} {value}")
    check_disk(config.model, subject, config.output_dir)
    check_memory("a forward", forward_need(subject, target), subject.memory, target)
    check_memory("a prompt and its cache", prompt_need(subject, target), subject.memory, target)
    print()
    print_estimate(search, settings, search_space)
    print(_describe_evaluation(subject, target, config))


def _resources(model: str, subject: Subject, settings: Settings, length: int) -> Iterator[tuple[str, str]]:
    size, width = subject.size, subject.width
    yield "memory, weights", f"{weight_bytes(size, width) / GIB:.1f} GiB"
    needs = {"forward": forward_need(subject, length), "prompt and cache": prompt_need(subject, length)}
    if wants_gradients(settings):
        needs["gradient"] = gradient_need(subject, length)
    for name, need in needs.items():
        if subject.memory is None:
            yield f"memory, {name}", f"{need / GIB:.1f} GiB of an unknown memory"
            continue
        verb = {True: "fits in", None: "may or may not fit in", False: "does not fit in"}[fits(need, subject.memory)]
        yield f"memory, {name}", f"{need / GIB:.1f} GiB, {verb} {subject.memory / GIB:.1f} GiB"
    if (on_cpu := prompt_on_cpu(subject, length)) > 0:
        yield "main memory, cache", f"{on_cpu / GIB:.1f} GiB of keys and values, which may not fit in the device"
    if wants_gradients(settings) and (on_cpu := gradient_on_cpu(subject, length)) > 0:
        yield "main memory, gradient", f"{on_cpu / GIB:.1f} GiB of layer inputs, which may not fit in the device"
    if wants_gradients(settings) and (verdict := gradient_verdict(subject, length)) is not None:
        yield "note", verdict
    if (download := download_bytes(model, subject)) > 0:
        yield "download", f"{download / GIB:.1f} GiB"


def _describe_evaluation(subject: Subject, length: int, config: DoctorConfig) -> str:
    """Tell the cost of the examples' evaluation: perplexity at the target, and pass keys at five lengths."""
    methods = len(EvaluateConfig.methods) + 1
    lengths = [length // share for share in SHARES]
    keys = EvaluateConfig.passkey_depths * EvaluateConfig.passkey_trials
    windows = [*[length] * EVALUATION_DOCUMENTS, *(one for one in lengths for _ in range(keys))]
    flops = methods * sum(forward_flops(subject.size, one) for one in windows)
    hours = flops / (config.sustained_tflops * 1e12) / 3600
    price = "" if config.price_per_hour is None else f", price {hours * config.price_per_hour:,.2f}"
    return (
        f"evaluation of {methods} methods: {methods * sum(windows):,} tokens, {hours:,.2f} hours{price} "
        f"(perplexity of {EVALUATION_DOCUMENTS} documents of one corpus, {keys} pass keys at each of {len(lengths)} "
        "lengths)"
    )
