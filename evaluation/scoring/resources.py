"""Memory: what a cell took at its peak, and what a device has."""

import os
from pathlib import Path

import torch
from transformers import PreTrainedModel

from .cost import MEMORY_TOLERANCE, model_size, weight_bytes

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
RESET_PEAK = "5"  # man 5 proc: resets VmHWM to the present resident size


class PeakMemory:
    """The most memory in use since this object was made.

    On CUDA the bytes that torch had allocated, weights included, over all devices; elsewhere the resident bytes of the
    whole process; None where the system does not tell.
    """

    def __init__(self) -> None:
        self.devices = range(torch.cuda.device_count())
        self.counts = True
        for device in self.devices:
            torch.cuda.reset_peak_memory_stats(device)
        if not self.devices:
            try:
                CLEAR_REFS.write_text(RESET_PEAK)
            except OSError:
                self.counts = False

    def read(self) -> int | None:
        """Return the peak so far, in bytes."""
        if self.devices:
            return sum(torch.cuda.max_memory_allocated(device) for device in self.devices)
        if not self.counts:
            return None
        lines = STATUS.read_text().splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def should_offload(model: PreTrainedModel, need: int, on_cpu: int) -> bool:
    """Tell whether a part of what a loaded model works with should rest on the CPU.

    That is where its CUDA devices may be too small for all of it, and main memory has room for the part.

    Args:
        model: on any device; on others than CUDA there is no memory to go to.
        need: bytes of all of it, weights included.
        on_cpu: bytes of the part.
    """
    if (spare := spare_memory(model)) is None:
        return False
    weights = weight_bytes(model_size(model), model.dtype.itemsize)
    main_memory = available_memory("cpu")
    has_room = main_memory is None or on_cpu <= main_memory
    return has_room and (need - weights) * (1 + MEMORY_TOLERANCE) > spare


def spare_memory(model: torch.nn.Module) -> int | None:
    """Return what the CUDA devices of a model have beside what is allocated, in bytes; None if it is on no such device.

    What torch holds without use counts as spare.
    """
    devices = {tensor.device for tensor in model.parameters() if tensor.is_cuda}
    if not devices:
        return None
    return sum(
        torch.cuda.mem_get_info(one)[0] + torch.cuda.memory_reserved(one) - torch.cuda.memory_allocated(one)
        for one in devices
    )


def available_memory(device: str) -> int | None:
    """Return the memory that a model could use on a device, in bytes; None where the system does not tell.

    On CUDA what is free (of all devices together, for `auto-shard`), on MPS what the system recommends, on the CPU all
    that the machine or its container has.
    """
    if device.startswith(("cuda", "auto-shard")) and torch.cuda.is_available():
        index = torch.device(device).index if ":" in device else None
        devices = range(torch.cuda.device_count()) if device == "auto-shard" else [index or 0]
        return sum(torch.cuda.mem_get_info(one)[0] for one in devices)
    if device == "mps":
        return torch.mps.recommended_max_memory()
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):  # Windows
        return None
    limits = [int(text) for path in CONTAINER_LIMITS if path.is_file() and (text := path.read_text().strip()).isdigit()]
    return min([machine, *limits])
