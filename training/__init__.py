"""HOW a model is fine-tuned with rescale factors in it: packing, masks, recipes, the Trainer."""

from .batches import MicroBatches, TrainingText
from .documents import Documents, StoredDocuments
from .finetune import Job, finetune, training_text
from .lora import LoRA
from .packing import Pack, Packer, Piece
from .recipe import Recipe, Stage, Window, load_recipe
from .trainer import Options, packed_loss, train_stage

__all__ = [
    "Documents",
    "Job",
    "LoRA",
    "MicroBatches",
    "Options",
    "Pack",
    "Packer",
    "Piece",
    "Recipe",
    "Stage",
    "StoredDocuments",
    "TrainingText",
    "Window",
    "finetune",
    "load_recipe",
    "packed_loss",
    "train_stage",
    "training_text",
]
