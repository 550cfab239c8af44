"""The options of every command: one frozen dataclass each, read from YAML files and flags alike.

The docstring under a field is its help text. Flags are the field names with dashes; names that the official LongRoPE
scripts use are kept where they mean the same.
"""

from dataclasses import dataclass
from typing import Literal

from .task_options import TaskOptions


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
    pareto, piecewise, needle, tiny) or a file: YAML, or the official JSON."""
    max_scored_tokens: int | None = None
    """Stop in time to have sent at most this many tokens through the model (default: as the hyper-parameters say)."""
    max_hours: float | None = None
    """Stop in time to have scored for at most this many hours (default: no limit)."""
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
    """Candidates per forward; halved by itself when memory runs out."""
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
    """auto (bfloat16 on CUDA, float32 on CPU) or a torch dtype."""
    attn_implementation: str = "auto"
    """auto (flash_attention_2 if it can run, else sdpa) or a name Transformers knows."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(TaskOptions):
    """Compare RoPE methods and factor files on tasks by length, with intervals, a table and plots; ends and resumes.

    Example: longrope evaluate --model M --tokenized data/eval --factors runs/128k/factors.json --lengths 8192 131072
    --output-dir runs/128k
    """

    tokenized: str | None = None
    """Evaluation documents: a folder written by `longrope tokenize`. Those that factors were searched on are left
    out. Needed by perplexity, perplexity_sliding and longppl, and wherever a haystack is to be documents."""
    output_dir: str = "runs/evaluation"
    """Folder for results.json, table.md, predictions and plots. Finished cells are kept in cells.jsonl and not run
    again; another call with other methods, tasks or lengths adds to them."""
    methods: tuple[str, ...] = ("none", "linear", "ntk", "yarn", "llama3")
    """Baselines, e.g. yarn or yarn:beta_fast=16,beta_slow=2, or @FILE for those of a sweep's best.yaml."""
    factors: tuple[str, ...] = ()
    """Factors, as SOURCE or NAME=SOURCE (default name: longrope): files (.json, or the official .csv), run or model
    folders, published:NAME, or hf://OWNER/NAME."""
    csv_attention_factor: float | str = "su"
    """Attention factor of factors from a CSV, which holds none: su, yarn, or a number."""
    target_length: int | None = None
    """Length the baselines are built for, in tokens (default: the longest length, or the target of the factors if that
    is longer). Give it to add shorter lengths to a folder later."""
    samples: int | None = None
    """Evaluation documents (default: 10, or all there are if they are fewer, at least 2)."""
    search_run: str | None = None
    """Run folder of a search, for the plot of its curve."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig(TaskOptions):
    """Try the baselines' own parameters, so that found factors are compared with each baseline at its best.

    Every point of every method is measured on a few tuning documents; the best of each method is then tested on other
    documents and prompts, which chose nothing. report.html and report.md say which method to take at each length, or
    that there is no clear winner; methods/ has one CSV per method.

    Give the documents of the search, not those of the evaluation: what is tuned on the evaluation documents is favoured
    there. best.yaml names the documents it was tuned on, and `longrope evaluate --methods @best.yaml` leaves them out.

    Several processes may sweep into one folder: start the same command again, also on other machines that share the
    disk; each cell is run by one of them.

    Example: longrope sweep --model M --tokenized data/search --target-length 131072 --output-dir runs/sweep

    Example: longrope sweep --model M --tokenized data/search --tasks perplexity longppl passkey --num-samples 50
    --target-length 131072 --lengths 8192 32768 --output-dir runs/sweep
    """

    target_length: int
    """Context length that the points are ranked at, in tokens; ratios in sweeps are relative to it."""
    tokenized: str | None = None
    """Tuning documents, and others to test the choice on: a folder written by `longrope tokenize`, such as the search
    split. Never those of the evaluation. Needed by tasks that read documents."""
    lengths: tuple[int, ...] = ()
    """Further context lengths to measure, in tokens."""
    output_dir: str
    """Folder for report.html, report.md, methods/, sweep.json, sweep.csv, best.yaml and results.json; finished points
    are kept in cells.jsonl and not run again."""
    tasks: tuple[str, ...] = ("perplexity",)
    """Tasks, by the names and groups that `longrope evaluate` has."""
    rank_by: str | None = None
    """Task that points are ranked by, or TASK/METRIC, e.g. passkey or perplexity/document_weighted (default: the first
    task); a task without metric is ranked by its headline metric."""
    sweeps: tuple[str, ...] = ("linear", "ntk", "dynamic", "ntk-by-parts", "yarn", "llama3")
    """What to sweep: shipped sweeps by method, or YAML files of your own."""
    num_samples: int | None = None
    """Random points per method (default: the whole grid)."""
    best: int = 1
    """Points per method in best.yaml."""
    samples: int | None = None
    """Tuning documents (default: 5, or all there are if they are fewer, at least 2)."""
    held_out: int = 2
    """Test the best of each method on this many times as many other documents, and prompts of passkey, niah, nolima and
    ruler, as it was chosen on; as many documents as are left. 0: no test, so no advice."""
    dry_run: bool = False
    """Print the points and stop."""


@dataclass(frozen=True)
class ReportConfig:
    """Write the report of one or many run folders: one page, figures, and the numbers behind them.

    Example: longrope report runs/128k runs/128k-sweep --output-dir report
    """

    runs: tuple[str, ...]
    """Folders of evaluations, sweeps and searches; evaluations stand in one table where they were measured alike."""
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

    Example: longrope doctor --plan --model meta-llama/Meta-Llama-3-8B --target-length 131072 --device-memory-gb 80
    """

    model: str | None = None
    """Model to look at and to run the canary on: local folder, GGUF file or hub id."""
    original_length: int | None = None
    """Context length of the pre-training, in tokens (default: the model's max_position_embeddings)."""
    plan: bool = False
    """Plan a search to --target-length and its evaluation, and exit with 2 if they can't be done."""
    target_length: int | None = None
    """plan: context length to extend to, in tokens."""
    tokenized: str | None = None
    """plan: search documents, a folder written by `longrope tokenize`; are there enough long ones?"""
    evaluation_tokenized: str | None = None
    """plan: evaluation documents (default: those of --tokenized that the search leaves)."""
    hyper_params: str = "hybrid"
    """plan: settings of the search, a preset or a file."""
    samples: int | None = None
    """plan: search documents (default: as the hyper-parameters say, or all there are if they are fewer)."""
    output_dir: str = "runs"
    """plan: folder that results will go to, whose disk is looked at."""
    device_memory_gb: float | None = None
    """plan: memory of a CUDA card that is not here, e.g. 80 (default: plan for the device that is here)."""
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
