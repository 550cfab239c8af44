"""What a cell takes beside time: its peak memory."""

from pathlib import Path

import torch

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
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
