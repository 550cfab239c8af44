"""The options of `longrope evaluate` and `longrope sweep`, as in `configs.py`."""

from dataclasses import dataclass

from .task_options import TaskOptions


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
