"""The options of every command: one frozen dataclass each, read from YAML files and flags alike.

The docstring under a field is its help text. Flags are the field names with dashes; names that the official LongRoPE
scripts use are kept where they mean the same.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TokenizeConfig:
    """Tokenize long documents and store them with a fingerprint.

    Example: longrope tokenize --model meta-llama/Meta-Llama-3-8B --dataset emozilla/pg19 --save-tokenized data/pg19
    """

    model: str
    """Model whose tokenizer is used: local folder or hub id."""
    save_tokenized: str
    """Folder to write."""
    dataset: str = "emozilla/pg19"
    """`pystdlib` (source code of the running Python), a folder or file (.txt, .py, .tex, .md, .jsonl, .parquet), or a
    hub id, read by streaming."""
    split: str | None = None
    """Split: train, search or eval of `pystdlib`; of a hub dataset its own names (default: validation)."""
    subset: str | None = None
    """Configuration of a hub dataset."""
    feature: str = "text"
    """Column that holds the text."""
    min_chars: int = 0
    """Skip texts of fewer characters."""
    num_documents: int | None = None
    """Stop after this many documents (default: all)."""


@dataclass(frozen=True)
class SearchConfig:
    """Search rescale factors and start tokens that minimise the perplexity of long documents.

    Example: longrope search --model M --tokenized data/pg19 --target-length 131072 --output-dir runs/128k
    """

    model: str
    """Model to extend: local folder or hub id."""
    tokenized: str
    """Search documents: a folder written by `longrope tokenize`. Never evaluate on the same ones."""
    target_length: int
    """Context length to extend to, in tokens."""
    output_dir: str
    """Run folder: config.yaml, history.jsonl, checkpoint.json and, at the end, factors.json and factors.csv."""
    hyper_params: str = "hybrid"
    """Preset (hybrid, longrope for the paper's search, tiny) or a file: YAML, or the official JSON."""
    max_scored_tokens: int | None = None
    """Stop in time to have sent at most this many tokens through the model (default: as the hyper-parameters say)."""
    max_hours: float | None = None
    """Stop in time to have scored for at most this many hours (default: no limit)."""
    original_length: int | None = None
    """Context length of the pre-training, in tokens (default: the model's max_position_embeddings)."""
    attention_factor: str | float = "su"
    """Attention factor of all candidates, or of seeds where the settings search it: su (LongRoPE, Phi-3), yarn, or a
    number."""
    samples: int = 5
    """Search documents."""
    dataset_min_tokens: int | None = None
    """Take documents of at least this many tokens (default: the target length)."""
    init_factors: tuple[str, ...] = ()
    """Factor files (.json, or the official .csv) added to the seeds PI, NTK and YaRN."""
    seed: int = 0
    """Seed of the search."""
    batch_size: int = 8
    """Candidates per forward; halved by itself when memory runs out."""
    resume: bool = False
    """Continue the run in the folder, exactly as if it had never stopped."""
    estimate: bool = False
    """Print what the search and the paper's would cost, from the model's configuration alone, and stop."""
    sustained_tflops: float = 400.0
    """Teraflops per second that the estimate reckons with: 400 is about two fifths of an H200's bfloat16 peak."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, or auto-shard to spread the layers over all devices."""
    dtype: str = "auto"
    """auto (bfloat16 on CUDA, float32 on CPU) or a torch dtype."""
    attn_implementation: str = "auto"
    """auto (flash_attention_2 if it can run, else sdpa) or a name Transformers knows."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Compare RoPE methods and factor files: perplexity and pass key by length, with intervals, a table and plots.

    Example: longrope evaluate --model M --tokenized data/eval --factors runs/128k/factors.json --lengths 8192 131072
    --output-dir runs/128k
    """

    model: str
    """Model: local folder or hub id."""
    tokenized: str
    """Evaluation documents: a folder written by `longrope tokenize`. Those that factors were searched on are left
    out."""
    lengths: tuple[int, ...]
    """Context lengths, in tokens; methods are built for the longest, or for the factors' target if that is longer."""
    output_dir: str
    """Folder for results.json, table.md and plots; finished cells are kept in cells.jsonl and not run again."""
    methods: tuple[str, ...] = ("none", "linear", "ntk", "yarn", "llama3")
    """Baselines, e.g. yarn or yarn:beta_fast=16,beta_slow=2."""
    factors: tuple[str, ...] = ()
    """Factor files or run folders, as PATH or NAME=PATH (default name: longrope)."""
    csv_attention_factor: float | str = "su"
    """Attention factor of factors from a CSV, which holds none: su, yarn, or a number."""
    tasks: tuple[str, ...] = ("perplexity", "passkey")
    """Tasks: perplexity, passkey."""
    original_length: int | None = None
    """Context length of the pre-training, in tokens (default: the model's max_position_embeddings)."""
    samples: int = 10
    """Evaluation documents."""
    dataset_min_tokens: int | None = None
    """Take documents of at least this many tokens (default: the longest length)."""
    passkey_style: Literal["landmark", "comment"] = "landmark"
    """Wording of the pass key prompt: the paper's sentences, or Python comments for models of code."""
    passkey_haystack: Literal["filler", "documents"] = "filler"
    """What the key is hidden in: the paper's filler sentences, or the evaluation documents."""
    passkey_depths: int = 10
    """Depths per length."""
    passkey_trials: int = 1
    """Prompts per depth."""
    batch_size: int = 1
    """Documents or prompts per forward; halved by itself when memory runs out."""
    search_run: str | None = None
    """Run folder of a search, for the plot of its curve."""
    seed: int = 0
    """Seed of prompts and bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, or auto-shard to spread the layers over all devices."""
    dtype: str = "auto"
    """auto (bfloat16 on CUDA, float32 on CPU) or a torch dtype."""
    attn_implementation: str = "auto"
    """auto (flash_attention_2 if it can run, else sdpa) or a name Transformers knows."""


@dataclass(frozen=True)
class ExportConfig:
    """Write factors in a form that other programs load without longrope.

    Example: longrope export --model M --factors runs/128k --output-dir exported
    """

    model: str
    """Model the factors belong to: local folder or hub id; for gguf an existing GGUF file."""
    factors: str
    """Factor file, run folder, or published:NAME."""
    output_dir: str
    """Folder (for gguf: file) to write; an earlier export in it is replaced, anything else is refused."""
    format: Literal["hf", "gguf", "vllm", "sglang"] = "hf"
    """hf: a folder for Transformers; vllm, sglang: the same and the command line to serve it; gguf: for llama.cpp."""
    weights: Literal["copy", "link", "none"] = "copy"
    """Copy the weights into the folder, link to them, or leave them out."""
    target_length: int | None = None
    """Context length of factors from a CSV, which holds none, in tokens."""
    short_factors: str | None = None
    """Factors for inputs up to the original length (default: the same factors for all lengths, safe with a cache)."""
    results: str | None = None
    """results.json whose table goes on the model card."""
    tokenized: str | None = None
    """Documents to score again without start tokens, which no export format can express."""
    samples: int = 5
    """Documents of that score."""


@dataclass(frozen=True)
class DoctorConfig:
    """Say which device, dtype and attention kernel will be used, and what the RoPE of a model looks like.

    Example: longrope doctor --model meta-llama/Meta-Llama-3-8B
    """

    model: str | None = None
    """Model to look at and to run the canary on: local folder or hub id."""
    original_length: int | None = None
    """Context length of the pre-training, in tokens (default: the model's max_position_embeddings)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: str = "auto"
    """auto (bfloat16 on CUDA, float32 on CPU) or a torch dtype."""
    attn_implementation: str = "auto"
    """auto (flash_attention_2 if it can run, else sdpa) or a name Transformers knows."""
