"""Exports: a Transformers folder, vLLM and SGLang command lines, a GGUF file, and the model card."""

from .gguf import export_gguf
from .hf import export_hf
from .model_card import model_card
from .serving import ServingCommand, sglang_command, vllm_command

__all__ = ["ServingCommand", "export_gguf", "export_hf", "model_card", "sglang_command", "vllm_command"]
