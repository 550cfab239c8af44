"""Which executor a command runs on, from its options and the devices that are here."""

import os
from collections.abc import Sequence
from typing import Protocol

import torch

from ..execution import (
    Executor,
    Factory,
    InlineExecutor,
    RayExecutor,
    Resources,
    process_executor,
    threads_per_worker,
)
from ..execution.base import State

SHARDED = "auto-shard"


class ExecutorOptions(Protocol):
    """Options that the commands with an executor share."""

    @property
    def executor(self) -> str: ...
    @property
    def workers(self) -> int | None: ...
    @property
    def devices_per_worker(self) -> int: ...
    @property
    def ray_address(self) -> str | None: ...
    @property
    def device(self) -> str: ...


def open_executor(options: ExecutorOptions, factory: Factory[State]) -> Executor[State]:
    """Return the executor of the options; its workers in other processes begin to load at once.

    Args:
        options: of a command.
        factory: makes what a worker holds.

    Raises:
        ValueError: options don't fit together, or there are too few devices.
        ImportError: Ray is not installed.
    """
    kind = executor_kind(options)
    if kind == "inline":
        return InlineExecutor(factory)
    if kind == "ray":
        gpus = 0 if options.device == "cpu" else options.devices_per_worker
        or_cpus = options.device == "auto" and gpus == 1  # who names several wants GPUs
        return RayExecutor(factory, options.ray_address, options.workers, gpus, or_cpus)
    return process_executor(factory, _shares(options))


def executor_kind(options: ExecutorOptions) -> str:
    """Return what `auto` stands for: processes for several workers or CUDA devices, else this process.

    Raises:
        ValueError: options don't fit together.
    """
    kind, device = options.executor, options.device
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"workers must be at least 1, got {options.workers}; leave it out for one per device")
    if options.devices_per_worker < 1:
        raise ValueError(f"devices_per_worker must be at least 1, got {options.devices_per_worker}; leave it out for 1")
    if options.ray_address is not None and kind != "ray":
        raise ValueError(f"ray_address must come with the executor ray, got {kind}; add --executor ray")
    if kind == "auto":
        several = options.devices_per_worker > 1 or (options.workers or len(cuda_devices(device))) > 1
        kind = "processes" if several else "inline"
    if kind == "inline" and (options.workers or 1) + options.devices_per_worker > 2:
        raise ValueError(
            f"workers and devices_per_worker must be 1 with the executor inline, got {options.workers} and "
            f"{options.devices_per_worker}; choose processes or ray, or --device auto-shard for one large model"
        )
    if kind != "inline" and device not in ("auto", "cuda", "cpu"):
        raise ValueError(
            f"device must be auto, cuda or cpu with the executor {kind}, whose workers have devices of their own, got "
            f"{device}; choose devices by CUDA_VISIBLE_DEVICES, and --devices-per-worker for large models"
        )
    return kind


def cuda_devices(device: str) -> list[str]:
    """Return the CUDA devices that workers may have, as `CUDA_VISIBLE_DEVICES` names them; none for another device."""
    if device not in ("auto", "cuda"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]


def _shares(options: ExecutorOptions) -> Sequence[Resources]:
    """Return what each process has: a group of devices, or its share of the CPU's threads."""
    devices, each = cuda_devices(options.device), options.devices_per_worker
    if not devices:
        if options.workers is None or each > 1:
            raise ValueError(
                "workers must be given, and devices_per_worker left out, for processes without CUDA devices, got "
                f"{options.workers} and {each}; each worker holds the model and has an equal share of the cores"
            )
        return [Resources(threads=threads_per_worker(options.workers))] * options.workers
    groups = [tuple(devices[first : first + each]) for first in range(0, len(devices) - each + 1, each)]
    if not 1 <= (count := options.workers or len(groups)) <= len(groups):
        raise ValueError(
            f"workers must be at most the {len(groups)} groups of {each} that {len(devices)} CUDA devices make, got "
            f"{count}; take fewer, or fewer devices_per_worker"
        )
    return [Resources(group) for group in groups[:count]]


def use(resources: Resources) -> None:
    """Let torch keep to the resources of the worker that this process is."""
    if resources.threads is not None:
        torch.set_num_threads(resources.threads)


def device_of(options: ExecutorOptions) -> str:
    """Return where a worker loads its model."""
    return SHARDED if options.devices_per_worker > 1 else options.device
