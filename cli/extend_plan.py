"""`longrope extend --plan`: what each stage costs, before anything is loaded."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from transformers import AutoModelForCausalLM

from ..evaluation.scoring.cost import ModelSize, forward_flops, gradient_bytes, model_size
from ..evaluation.scoring.model import read_config
from ..evolution import load_settings
from ..hyperparams import finetune_recipe, preset
from ..training import load_recipe
from ..training.cost import HALF, scoring_bytes, training_bytes, training_flops
from .documents import EVALUATION_DOCUMENTS
from .extend_recipe import Extension, StagePlan
from .preflight import GIB, wants_gradients
from .training_configs import ExtendConfig

LARGEST_SHARE = 0.9
"""Part of a device's memory that is reckoned with."""


@dataclass(frozen=True)
class Machine:
    """What the stages run on."""

    devices: int
    bytes: float
    """Memory of a device that is reckoned with."""


@dataclass(frozen=True)
class Cost:
    """One row of the plan."""

    stage: str
    length: int
    tokens: float
    flops: float
    bytes: float
    """Memory of each device."""
    remedy: str
    """What to do where that is too much."""
    gradient: float | None = None
    """Memory of the derivatives of a search, which goes on without where they do not fit; None: it asks for none."""
    busy: int = 1
    """Devices that work at the same time."""

    def hours(self, speed: float) -> float:
        """Return the hours at so many operations per second of each device."""
        return self.flops / (speed * self.busy) / 3600


def print_plan(extension: Extension, config: ExtendConfig) -> None:
    """Print the stages with tokens, operations, hours and memory, and what would not fit.

    Raises:
        ValueError: the model has no readable configuration, or a number is not above 0.
    """
    for name in ("devices", "device_gib", "sustained_tflops"):
        if not (math.isfinite(getattr(config, name)) and getattr(config, name) > 0):
            raise ValueError(f"{name} must be above 0, got {getattr(config, name)}")
    with torch.device("meta"):
        sizes = model_size(AutoModelForCausalLM.from_config(read_config(extension.model)))
    machine = Machine(config.devices, LARGEST_SHARE * config.device_gib * GIB)
    costs = [cost for stage in extension.stages for cost in costs_of(stage, sizes, machine)]
    speed = config.sustained_tflops * 1e12
    print(
        f"{extension.model}, {sizes.parameters / 1e9:.2f} billion parameters, on {config.devices} devices of "
        f"{config.device_gib:g} GiB at {config.sustained_tflops:g} TFLOP/s each"
    )
    print(f"{'stage':<22} {'length':>9} {'tokens':>9} {'FLOPs':>9} {'hours':>8} {'GiB each':>9}")
    for cost in costs:
        fits = cost.bytes <= machine.bytes
        hours, gib = cost.hours(speed), cost.bytes / GIB
        row = f"{cost.stage:<22} {cost.length:>9} {cost.tokens:>9.2e} {cost.flops:>9.2e} {hours:>8.2f} {gib:>9.1f}"
        print(row + ("" if fits else f"  does not fit: {cost.remedy}") + _gradient_note(cost, machine))
    tokens, flops = sum(cost.tokens for cost in costs), sum(cost.flops for cost in costs)
    hours = sum(cost.hours(speed) for cost in costs)
    print(f"{'together':<22} {'':>9} {tokens:>9.2e} {flops:>9.2e} {hours:>8.2f}")
    print(
        "hours: fine-tuning with all devices busy; searches and evaluations as on one copy of the model, one device at"
    )
    print("a time, also where layers are spread; with a worker on each device (docs/devices.md) they take less")


def _gradient_note(cost: Cost, machine: Machine) -> str:
    if cost.gradient is None or cost.gradient <= machine.bytes:
        return ""
    return f"; gradients need {cost.gradient / GIB:.1f} GiB, so that the search goes on without"


def costs_of(stage: StagePlan, sizes: ModelSize, machine: Machine) -> Iterator[Cost]:
    """Yield the rows of a stage."""
    options = stage.options
    if stage.kind == "finetune":
        yield from _finetune(stage, sizes, machine)
    elif stage.kind in ("search", "readjust"):
        for length in options.get("lengths") or (options["target_length"],):
            tokens = options["max_scored_tokens"]
            cost = _scoring(f"{stage.kind} {length}", length, tokens, sizes, machine)
            settings = load_settings(preset(options.get("hyper_params", "hybrid")))
            yield replace(cost, gradient=_gradient(sizes, length, machine) if wants_gradients(settings) else None)
    elif stage.kind == "evaluate":
        rows = len(options.get("methods", ())) + 4
        samples = options.get("samples", EVALUATION_DOCUMENTS)
        for length in options["lengths"]:
            yield _scoring(f"evaluate {length}", length, rows * samples * length, sizes, machine)


def _gradient(sizes: ModelSize, length: int, machine: Machine) -> float:
    """Return the memory of a gradient, the inputs of the layers on the CPU where the device has no room for them."""
    whole = gradient_bytes(sizes, length, HALF)
    return whole if whole <= machine.bytes else gradient_bytes(sizes, length, HALF, offload=True)


def _scoring(name: str, length: int, tokens: float, sizes: ModelSize, machine: Machine) -> Cost:
    needed = scoring_bytes(sizes, length)
    remedy = "devices with more memory, for the layers spread over them (--device auto-shard)"
    if scoring_bytes(sizes, length, machine.devices) <= machine.bytes:
        remedy = "spread the layers over the devices (--device auto-shard)"
    return Cost(name, length, tokens, tokens / length * forward_flops(sizes, length), needed, remedy)


def _finetune(stage: StagePlan, sizes: ModelSize, machine: Machine) -> Iterator[Cost]:
    given = {name: stage.options[name] for name in ("lengths", "steps", "batch_size") if name in stage.options}
    recipe = load_recipe(finetune_recipe(stage.options.get("recipe", "longrope2-mixed"))).changed(**given)
    micro = stage.options.get("micro_batch_size", 1)
    for number, one in enumerate(recipe.stages, 1):
        shares = sum(window.share for window in one.windows)
        flops = sum(
            window.share / shares * one.tokens / window.length * training_flops(sizes, window.length)
            for window in one.windows
        )
        tokens = micro * one.length
        needed = training_bytes(sizes, tokens, machine.devices)
        shared = (2**power for power in range(1, 12))
        fits = (n for n in shared if training_bytes(sizes, tokens // n, max(n, machine.devices)) <= machine.bytes)
        remedy = "more devices"
        if (count := next(fits, None)) is not None:
            remedy = f"context parallelism over {count} devices (finetune/accelerate/context-parallel.yaml)"
        yield Cost(f"finetune, stage {number}", one.length, one.tokens, flops, needed, remedy, busy=machine.devices)
