"""One stage of fine-tuning: Transformers' Trainer on a model with rescale factors in it."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..evaluation.scoring.loss import IGNORED, target_nats
from ..rope import Installation, RescaleFactors
from .batches import MicroBatches
from .checkpoints import last_complete, mark_complete
from .recipe import Stage, Window

Precision = Literal["auto", "bfloat16", "float32"]
LOG_JSON = "log.json"


@dataclass(frozen=True)
class Options:
    """What decides speed and memory of the training, not its recipe."""

    micro_batch_size: int = 1
    """Sequences of the stage's length in one forward on one device."""
    precision: Precision = "auto"
    """`bfloat16`: float32 weights, bfloat16 arithmetic (autocast); `auto`: bfloat16 on CUDA, else float32."""
    gradient_checkpointing: bool = True
    """Keep the inputs of layers only, and run each layer again in the backward pass."""
    save_steps: int = 50
    """Steps between checkpoints; the last two are kept."""
    logging_steps: int = 10
    trackers: tuple[str, ...] = ()
    """Trackers of Transformers' Trainer, e.g. tensorboard, wandb."""
    seed: int = 0
    use_cpu: bool = False


class PackTrainer(Trainer):
    """Takes micro-batches in their order: they are shuffled already."""

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[Any]:
        return SequentialSampler(train_dataset or self.train_dataset)  # type: ignore[arg-type]


class CompleteCheckpoints(TrainerCallback):
    """Marks each checkpoint that was written to its end."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero and args.output_dir is not None:
            mark_complete(Path(args.output_dir), state.global_step)


def train_stage(
    model: PreTrainedModel,
    installation: Installation,
    factors: RescaleFactors,
    stage: Stage,
    batches: MicroBatches,
    folder: Path,
    options: Options,
) -> Trainer:
    """Train a model with factors in its rotary module; continues at the last complete checkpoint in the folder.

    Args:
        model: model whose weights are trained in place; with adapters, the wrapped one.
        installation: of the same model, without adapters.
        factors: what windows of the RoPE `rescaled` are rotated by, start tokens and attention factor included.
        stage: schedule and optimiser.
        batches: its micro-batches.
        folder: for checkpoints and the log.
        options: speed and memory.

    Returns:
        The trainer, which knows how to gather the weights of a model that is spread over devices.
    """
    arguments = _arguments(stage, folder, options)
    if options.gradient_checkpointing:
        bare: Any = installation.model
        bare.activation_checkpointing_enable({"use_reentrant": False})
    with packed_loss(installation, factors):
        trainer = PackTrainer(
            model=model,
            args=arguments,
            train_dataset=batches,
            data_collator=_first,
            callbacks=[CompleteCheckpoints()],
        )
        trainer.train(resume_from_checkpoint=last_complete(folder))
    if trainer.is_world_process_zero():
        (folder / LOG_JSON).write_text(json.dumps(trainer.state.log_history, indent=1) + "\n", encoding="utf-8")
    return trainer


def _arguments(stage: Stage, folder: Path, options: Options) -> TrainingArguments:
    per_step, devices = stage.batch_size // options.micro_batch_size, _data_parallel(stage, folder, options)
    if per_step % devices:
        raise ValueError(
            f"batch_size / micro_batch_size must be a multiple of the {devices} processes, got {stage.batch_size} / "
            f"{options.micro_batch_size}; change one of them"
        )
    on_cuda = torch.cuda.is_available() and not options.use_cpu
    warms_up = stage.schedule == "constant" and stage.warmup_steps
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=stage.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=per_step // devices,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="constant_with_warmup" if warms_up else stage.schedule,
        warmup_steps=stage.warmup_steps,
        weight_decay=stage.weight_decay,
        adam_beta1=stage.beta1,
        adam_beta2=stage.beta2,
        max_grad_norm=stage.max_grad_norm,
        bf16=options.precision == "bfloat16" or (options.precision == "auto" and on_cuda),
        dataloader_pin_memory=on_cuda,
        save_steps=options.save_steps,
        save_total_limit=2,
        logging_steps=options.logging_steps,
        report_to=list(options.trackers) or "none",
        remove_unused_columns=False,
        use_cpu=options.use_cpu,
        seed=options.seed,
        disable_tqdm=not sys.stderr.isatty(),
    )


def _data_parallel(stage: Stage, folder: Path, options: Options) -> int:
    """Return how many processes read different micro-batches; those of a context-parallel group read the same."""
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=options.use_cpu, report_to="none")
    config = arguments.parallelism_config
    if config is None:
        return arguments.world_size
    check_context_parallel(stage.windows, config.cp_size)
    return max(1, arguments.world_size // (config.cp_size * config.tp_size * config.sp_size))


def check_context_parallel(windows: Sequence[Window], devices: int) -> None:
    """Refuse what ring attention can't do: it is causal over the whole sequence, whatever the mask.

    Raises:
        ValueError: several devices share a sequence, and a kind of windows masks documents.
    """
    if devices > 1 and any(window.mask_documents for window in windows):
        raise ValueError(
            f"mask_documents must be false where {devices} devices share a sequence, got true; ring attention knows no "
            "mask: train with hyperparams/finetune/accelerate/fsdp.yaml, or without the mask"
        )


def _first(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    (batch,) = items
    return batch


@contextmanager
def packed_loss(installation: Installation, factors: RescaleFactors) -> Iterator[None]:
    """Let a model's forward take a micro-batch and return its loss, under the RoPE that the micro-batch is meant for.

    The loss is the sum of nats over the tokens of the whole step (`num_items_in_batch`), so that accumulation and
    devices change nothing; logits exist for a few positions at a time. It is the forward itself that is replaced, since
    wrappers that spread a model over devices act on forwards.
    """
    model: Any = installation.model

    def forward(
        self: Any,
        input_ids: Tensor,
        position_ids: Tensor,
        shift_labels: Tensor,
        original: Tensor,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> Mapping[str, Tensor]:
        if bool(original):
            installation.reset()
        else:
            installation.set([factors])
        states = self.base_model(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state
        nats = target_nats(self, states, shift_labels).sum()
        count = (shift_labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": nats / count}

    model.forward = MethodType(forward, model)
    try:
        yield
    finally:
        for name in ("forward", "_original_forward"):  # accelerate leaves the second
            model.__dict__.pop(name, None)
        installation.reset()
