"""Low-rank adapters (LoRA, arXiv 2106.09685) through peft, merged into the weights when a stage ends.

For long contexts embeddings and norms have to be trained along with them (LongLoRA, arXiv 2309.12307, table 2).
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from transformers import PreTrainedModel

ALSO_TRAINED = ("embed", "norm")
"""Parts of the names of modules that are trained whole beside the adapters."""


@dataclass(frozen=True)
class LoRA:
    """Size of the adapters.

    Raises:
        ValueError: the rank is not at least 1.
    """

    rank: int
    alpha: float | None = None
    """Scale of the adapters times their rank; None: twice the rank."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the linear modules that get adapters."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}; LongLoRA has 8")


def add_adapters(model: PreTrainedModel, lora: LoRA) -> Any:
    """Return the model with adapters, embeddings and norms to train, all else frozen.

    Raises:
        ImportError: peft is not installed.
    """
    try:
        peft = import_module("peft")
    except ImportError as error:
        raise ImportError("LoRA needs the package peft; install it: pip install peft") from error
    alpha = 2 * lora.rank if lora.alpha is None else lora.alpha
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=alpha,
        target_modules=list(lora.targets),
        modules_to_save=_also_trained(model),
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, settings)


def merge_adapters(adapted: Any) -> PreTrainedModel:
    """Return the model with its adapters merged into the weights."""
    return adapted.merge_and_unload()


def _also_trained(model: PreTrainedModel) -> list[str]:
    """Return embeddings and norms; embeddings that are the output head, too, stay frozen: peft can't share them."""
    names = [
        name
        for name, module in model.named_modules()
        if any(part in name.rpartition(".")[2] for part in ALSO_TRAINED) and not list(module.children())
    ]
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight  # type: ignore[union-attr]
    return [name for name in names if not (tied and "embed" in name.rpartition(".")[2])]
