"""The options of `finetune` and `extend`; see `configs.py` for the others."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FinetuneConfig:
    """Go on with the pre-training of a model on long documents, with rescale factors in it.

    Call it again to go on where a killed run was: the weights are the same, bit for bit on one CPU. On several devices:
    accelerate launch --config_file hyperparams/finetune/accelerate/fsdp.yaml -m longrope.cli finetune ...

    Example: longrope finetune --model M --factors runs/128k runs/256k --tokenized data/train --recipe longrope-llama2
    --output-dir runs/tuned
    """

    model: str
    """Model to tune: local folder or hub id."""
    factors: tuple[str, ...]
    """Factors, one for each stage of the recipe or one for all: files, run folders, published:NAME, or a method such as
    yarn or linear, built for the length of the stage."""
    tokenized: tuple[str, ...]
    """Training documents: folders written by `longrope tokenize`, as PATH or NAME=PATH where windows of the recipe name
    a source."""
    output_dir: str
    """Folder: a folder for each stage, at the end factors.json, tuned/ (the weights, for use with the factors) and
    model/ (the export, which needs no longrope)."""
    recipe: str = "longrope2-mixed"
    """Recipe (longrope-llama2, longrope-mistral, longrope2-mixed, yarn, tiny) or a YAML file."""
    lengths: tuple[int, ...] = ()
    """Tokens of the longest windows, one for each stage or one for all (default: as the recipe says)."""
    steps: tuple[int, ...] = ()
    """Optimiser steps, one for each stage or one for all (default: as the recipe says)."""
    batch_size: int | None = None
    """Sequences per step, over all devices (default: as the recipe says)."""
    learning_rate: float | None = None
    """Peak learning rate (default: as the recipe says)."""
    micro_batch_size: int = 1
    """Sequences in one forward on one device; what is left of the batch size is accumulated."""
    lora_rank: int = 0
    """Rank of low-rank adapters (LoRA) on the attention, with norms and embeddings trained along; 0 trains all weights.
    Needs peft."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """bfloat16: float32 weights and bfloat16 arithmetic; auto: bfloat16 on CUDA, else float32."""
    gradient_checkpointing: bool = True
    """Keep the inputs of layers only and run each again in the backward pass: a third more work, far less memory."""
    original_length: int | None = None
    """Context length of the pre-training, in tokens (default: the model's max_position_embeddings)."""
    save_steps: int = 50
    """Steps between checkpoints; the last two are kept."""
    trackers: tuple[str, ...] = ()
    """Trackers of Transformers' Trainer, e.g. tensorboard, wandb."""
    seed: int = 0
    """Seed of the order of documents and windows."""
    device: str = "auto"
    """auto, or cpu where a GPU is to be left alone."""
    attn_implementation: str = "auto"
    """auto (sdpa where the model has it) or a name Transformers knows."""


@dataclass(frozen=True)
class ExtendConfig:
    """Run a whole extension: search, fine-tune, search again, readjust for short contexts, evaluate, export.

    Each stage has a folder of its own, as its command would write it; call it again to go on where it stopped.

    Example: longrope extend hyperparams/extend/llama2-2048k.yaml --plan
    """

    recipe: str
    """Recipe (llama2-2048k, mistral, llama3-128k, phi3-128k, phi4-64k, smollm2-64k, tiny) or a YAML file: model, data,
    stages."""
    output_dir: str | None = None
    """Folder for the stages, results.json, factor_sets.json, model/ and report/ (default: as the recipe says)."""
    plan: bool = False
    """Print what each stage would cost, from the model's configuration alone, and stop."""
    model: str | None = None
    """Model in place of the recipe's: local folder or hub id."""
    train: tuple[str, ...] = ()
    """Training documents in place of the recipe's, as PATH or NAME=PATH."""
    search: str | None = None
    """Search documents in place of the recipe's."""
    eval: str | None = None
    """Evaluation documents in place of the recipe's."""
    seed: int = 0
    """Seed of every search and fine-tuning; the evaluation keeps its own, so that runs compare on the same prompts."""
    devices: int = 8
    """plan: number of devices."""
    device_gib: float = 80.0
    """plan: memory of a device, in GiB."""
    sustained_tflops: float = 400.0
    """plan: teraflops per second of one device."""
    device: str = "auto"
    """auto, cpu, cuda, or auto-shard to spread the layers of searches and evaluations over all devices."""
    dtype: str = "auto"
    """Of searches and evaluations: auto (bfloat16 on CUDA, float32 on CPU) or a torch dtype."""
