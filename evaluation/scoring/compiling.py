"""Compiled feed-forward layers and norms: their many small operations become a few loops (`torch.compile`).

What differs between candidates, cos and sin, goes nowhere near them, and lengths are symbols in what is compiled:
nothing is compiled again from one candidate to the next. Only a single row and several rows are two cases.
"""

from typing import Any

import torch
from transformers import PreTrainedModel

from .chunks import tokenwise_modules


def compile_tokenwise(model: PreTrainedModel, backend: Any = "inductor") -> None:
    """Let feed-forward layers and norms run compiled from now on; the first forward takes longer.

    Args:
        model: in evaluation mode; no weight is copied or changed.
        backend: of `torch.compile`, its name or function; inductor needs a C++ compiler on the CPU.
    """
    for module in dict.fromkeys(tokenwise_modules(model)):
        module.forward = torch.compile(module.forward, dynamic=True, backend=backend)
