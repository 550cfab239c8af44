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
    """Model whose tokenizer is used: local folder, GGUF file or hub id."""
    save_tokenized: str
    """Folder to write."""
    dataset: str = "emozilla/pg19"
    """`python-packages` (source files of the locked packages), `pg19`, `proof-pile`, `govreport`, a folder or file
    (.txt, .py, .tex, .md, .jsonl, .parquet), or a hub id, read by streaming."""
    split: str | None = None
    """Split: train, search or eval of `python-packages`; of a hub dataset its own names (default: validation)."""
    subset: str | None = None
    """Configuration of a hub dataset."""
    feature: str = "text"
    """Column that holds the text."""
    min_chars: int = 0
    """Skip texts of fewer characters."""
    min_tokens: int = 0
    """Skip documents of fewer tokens, such as the target length of a search."""
    num_documents: int | None = None
    """Stop after this many documents that are long enough (default: all)."""


@dataclass(frozen=True)
class SearchConfig:
    """Search rescale factors and start tokens that minimise the perplexity of long documents.

    Example: longrope search --model M --tokenized data/pg19 --target-length 131072 --output-dir runs/128k
    """

    model: str
    """Model to extend: local folder, GGUF file or hub id."""
    tokenized: str
    """Search documents: a folder written by `longrope tokenize`. Never evaluate on the same ones."""
    target_length: int
    """Context length to extend to, in tokens."""
    output_dir: str
    """Run folder: config.yaml, history.jsonl, proposals.jsonl and, at the end, factors.json and factors.csv."""
    hyper_params: str = "hybrid"
    """Preset (hybrid, exportable for the same without start tokens, longrope for the paper's search, longrope2,
    pareto, piecewise, needle, tiny, or steady, an asynchronous search in which no worker waits for another: its result
    depends on the order in which workers end and is reproducible with one) or a file: YAML, or the official JSON."""
    max_scored_tokens: int | None = None
    """Stop in time to have sent at most this many tokens through the model (default: as the hyper-parameters say)."""
    max_hours: float | None = None
    """Stop in time to have scored for at most this many hours, those of all workers together (default: no limit)."""
    original_length: int | None = None
    """Context length of the pre-training, in tokens (default: the model's max_position_embeddings)."""
    attention_factor: str | float = "su"
    """Attention factor of all candidates, or of seeds where the settings search it: su (LongRoPE, Phi-3), yarn, or a
    number."""
    samples: int | None = None
    """Search documents (default: as the hyper-parameters say, or all there are if they are fewer)."""
    dataset_min_tokens: int | None = None
    """Take documents of at least this many tokens (default: the target length)."""
    evaluation_tokenized: str | None = None
    """Documents that the factors will be evaluated on: nothing starts unless enough of them are long enough."""
    init_factors: tuple[str, ...] = ()
    """Factors added to the seeds: files (.json, or the official .csv), run or model folders, published:NAME, or
    hf://OWNER/NAME."""
    auto_rescale_init_factors: bool = False
    """Rescale these factors in log space where they are for another extension ratio (a CSV: than its largest factor);
    the attention factor is then that of the policy."""
    readjust: str | None = None
    """Factors that the model was extended with: searches those for a shorter length, with the same bounds (LongRoPE,
    section 3.3), and writes both as factor_sets.json, which may be readjusted for a further length. A model whose
    config holds its extension needs no more than a target within it."""
    objective: Literal["perplexity", "needle", "longppl", "mixed"] = "perplexity"
    """What is minimised: perplexity (every token of a document, LongRoPE), needle (only the answers to questions about
    needles hidden in it, LongRoPE2), longppl (only its key tokens, those that the unmodified model predicts from its
    whole window and not from a small part of it), or mixed (perplexity and needle, which steers retrieval without
    giving language away)."""
    objective_lengths: tuple[str, ...] = ()
    """Lengths that perplexity is measured at, as LENGTH:WEIGHT, e.g. 256:0.3 2048:0.7, so that short context isn't paid
    for long (default: the target length alone). Each length costs its tokens for every candidate."""
    needle_weight: float = 0.5
    """Weight of the needle's loss in mixed, between 0 and 1; perplexity has the rest."""
    needle_style: Literal["landmark", "comment"] = "landmark"
    """Wording of needles and questions: sentences, or Python comments for models of code."""
    needle_kinds: tuple[str, ...] = ("passkey", "named_passkey", "key_value")
    """Needles, one kind after the other: passkey (at most one), named_passkey (several, told apart by names), key_value
    (the special magic numbers of LongRoPE2)."""
    needle_questions: int = 4
    """Needles hidden in a window and asked for at its end; more of them make the loss less noisy (LongRoPE2: 1)."""
    needle_distractors: int = 0
    """Further needles in a window that nobody asks for."""
    longppl_alpha: float = 2.0
    """How much long context has to lower the loss of a key token, in nats."""
    longppl_beta: float = -2.0
    """Least log-probability of a key token in long context, in nats."""
    longppl_trunc_len: int | None = None
    """Tokens of short context that key tokens are found against (default: an eighth of the original length)."""
    longppl_sliding_window: int | None = None
    """Tokens that share the start of their contexts (default: as many as the short context has)."""
    seed: int = 0
    """Seed of the search and of the needles."""
    batch_size: int = 8
    """Candidates per forward, halved by itself when memory runs out; `longrope doctor --measure` finds the fastest."""
    compile: bool = False
    """Compile feed-forward layers and norms (torch.compile): the first forward takes longer, the others less. On a
    processor it needs a C++ compiler."""
    resume: bool = False
    """Continue the run in the folder as if it had never stopped, also on another machine; one that has ended goes on if
    its budget is larger now."""
    trackers: tuple[str, ...] = ("auto",)
    """Where progress is logged: auto (TensorBoard if it is installed), none, or trackers of accelerate, e.g. wandb;
    files go to logs/ in the run folder."""
    estimate: bool = False
    """Print what the search and the paper's would cost, from the model's configuration alone, and stop."""
    sustained_tflops: float = 400.0
    """Teraflops per second that the estimate reckons with: 400 is about two fifths of an H200's bfloat16 peak."""
    price_per_hour: float | None = None
    """Price of an hour of the device, in any currency: the estimate then tells what the search costs."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, or auto-shard to spread the layers over all devices."""
    dtype: str = "auto"
    """auto (bfloat16 on CUDA, float32 on CPU) or a torch dtype; `longrope doctor --measure` finds the fastest here."""
    attn_implementation: str = "auto"
    """auto (flash_attention_2 if it can run, else sdpa) or a name Transformers knows."""
    executor: Literal["auto", "inline", "processes", "ray"] = "auto"
    """Where candidates are scored: inline (this process), processes (of this machine, each with a model of its own),
    ray (machines of a Ray cluster, which may join and leave; needs pip install ray), or auto: processes for
    --workers above 1 or several CUDA devices, else inline."""
    workers: int | None = None
    """Models that score at once (default: one per CUDA device; on Ray as many as it has room for now)."""
    devices_per_worker: int = 1
    """CUDA devices that share one model which is too large for one."""
    ray_address: str | None = None
    """Ray cluster, e.g. auto or ray://HOST:10001 (default: one on this machine)."""


@dataclass(frozen=True)
class ReportConfig:
    """Write the report of one or many run folders: one page, figures, and the numbers behind them.

    Example: longrope report runs/128k runs/128k-sweep --output-dir report
    """

    runs: tuple[str, ...]
    """Folders of evaluations, sweeps and searches; they stand in one table where they were measured alike."""
    output_dir: str
    """Folder for report.html, report.md, results.csv, differences.csv and figures/."""


@dataclass(frozen=True)
class ExportConfig:
    """Write factors in a form that other programs load without longrope.

    Example: longrope export --model M --factors runs/128k --output-dir exported
    """

    model: str
    """Model the factors belong to: local folder or hub id; for the format gguf also an existing GGUF file."""
    factors: str
    """Factors: a file (.json, or the official .csv), a run or model folder, published:NAME, or hf://OWNER/NAME."""
    output_dir: str
    """Folder (for gguf: file) to write; an earlier export in it is replaced, anything else is refused."""
    format: Literal["hf", "gguf", "vllm", "sglang"] = "hf"
    """hf: a folder for Transformers; vllm, sglang: the same and the command line to serve it; gguf: for llama.cpp."""
    weights: Literal["copy", "link", "none"] = "copy"
    """Copy the weights into the folder, link to them, or leave them out."""
    target_length: int | None = None
    """Context length of factors from a CSV, which holds none, in tokens."""
    short_factors: str | None = None
    """Factors for inputs up to the original length, any source that factors have; they take the attention factor of
    the others (default: the same factors for all lengths, safe with a cache)."""
    results: str | None = None
    """results.json whose table goes on the model card."""
    tokenized: str | None = None
    """Documents to score again without start tokens, which no export format can express."""
    samples: int | None = None
    """Documents of that score (default: 5, or all there are if they are fewer, at least 2)."""
    outtype: Literal["auto", "f32", "f16", "bf16", "q8_0"] = "auto"
    """For gguf: type of the weights (auto: 16 bits)."""
    converter: str | None = None
    """For gguf: checkout of llama.cpp, or its convert_hf_to_gguf.py (default: LLAMA_CPP, else found on PATH)."""


@dataclass(frozen=True)
class DoctorConfig:
    """Say which device, dtype and attention kernel will be used, and what the RoPE of a model looks like.

    With --plan: what an extension needs, from the model's config alone: documents, memory, disk, hours and money.

    Example: longrope doctor --model meta-llama/Meta-Llama-3-8B

    Example: longrope doctor --plan --model meta-llama/Meta-Llama-3-8B --target-length 131072 --device-gib 80

    Example: longrope doctor --measure --model examples/tiny/model --tokenized DATA --target-length 2048
    """

    model: str | None = None
    """Model to look at and to run the canary on: local folder, GGUF file or hub id."""
    original_length: int | None = None
    """Context length of the pre-training, in tokens (default: the model's max_position_embeddings)."""
    plan: bool = False
    """Plan a search to --target-length and its evaluation, and exit with 2 if they can't be done."""
    measure: bool = False
    """Score candidates at --target-length on a document of --tokenized: which dtype and how many candidates per forward
    are fastest here, and whether bfloat16 keeps their order."""
    target_length: int | None = None
    """plan, measure: context length to extend to, in tokens."""
    tokenized: str | None = None
    """plan, measure: search documents, a folder written by `longrope tokenize`; are there enough long ones?"""
    evaluation_tokenized: str | None = None
    """plan: evaluation documents (default: those of --tokenized that the search leaves)."""
    hyper_params: str = "hybrid"
    """plan: settings of the search, a preset or a file."""
    samples: int | None = None
    """plan: search documents (default: as the hyper-parameters say, or all there are if they are fewer)."""
    output_dir: str = "runs"
    """plan: folder that results will go to, whose disk is looked at."""
    device_gib: float | None = None
    """plan: memory in GiB of a CUDA card that is not here, e.g. 80 (default: plan for the device that is here)."""
    sustained_tflops: float = 400.0
    """plan: teraflops per second, about two fifths of the card's bfloat16 peak."""
    price_per_hour: float | None = None
    """plan: price of an hour of the device, in any currency."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: str = "auto"
    """auto (bfloat16 on CUDA, float32 on CPU) or a torch dtype."""
    attn_implementation: str = "auto"
    """auto (flash_attention_2 if it can run, else sdpa) or a name Transformers knows."""
