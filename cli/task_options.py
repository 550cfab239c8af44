"""What every command that measures tasks takes: the model, its documents, and the options of each task."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Base of the commands that measure tasks; what a command says of an option itself goes before this."""

    model: str
    """Model: local folder, GGUF file or hub id."""
    tokenized: str | None = None
    """Documents: a folder written by `longrope tokenize`. Needed by perplexity, perplexity_sliding and longppl, and
    wherever a haystack is to be documents."""
    lengths: tuple[int, ...]
    """Context lengths, in tokens; a task leaves out those that are too short for it."""
    output_dir: str
    """Folder for the results."""
    tasks: tuple[str, ...] = ("perplexity", "passkey")
    """Tasks: perplexity, perplexity_sliding, perplexity_tail, longppl; passkey, passkey_hard, niah, niah_multi, nolima,
    ruler for its 13 or one such as ruler_vt; longbench for the 21 of v1, or one such as longbench_qasper
    (longbench_qasper_e of LongBench-E), longbench2, longbench2_cot; official_passkey, official_niah, official_nolima,
    official_ruler, official_longbench, official_longbench2 and official_longbench2_cot for those with the prompts of an
    official checkout; standard for ARC-C, HellaSwag, MMLU and TruthfulQA, or any lm_eval:NAME (both need pip install
    'lm-eval[hf]')."""
    original_length: int | None = None
    """Context length of the pre-training, in tokens (default: the model's max_position_embeddings)."""
    samples: int | None = None
    """Documents (default: as many as the command says, or all there are if they are fewer, at least 2)."""
    dataset_min_tokens: int | None = None
    """Take documents of at least this many tokens (default: the longest length)."""
    sliding_stride: int = 256
    """perplexity_sliding: tokens that each window after the first scores."""
    sliding_tokens: int | None = None
    """perplexity_sliding: tokens of each document that are scored (default: all)."""
    tail_tokens: int = 128
    """perplexity_tail: tokens that are scored at the end of each document, under every context length."""
    longppl_evaluator: str | None = None
    """longppl: model that finds the key tokens, reading whole documents (default: the evaluated model without factors,
    inside its own window, which favours no method; never give a model that is extended like a compared method)."""
    chat_template: bool = False
    """Put prompts into the tokenizer's chat template, for instruct models: all tasks but perplexities and lm_eval, and
    but for the datasets of longbench that officially get none. The stem of an answer follows the generation prompt."""
    passkey_style: Literal["landmark", "comment"] = "landmark"
    """passkey, niah, nolima: wording, the paper's sentences, or Python comments for models of code."""
    passkey_haystack: Literal["filler", "documents"] = "filler"
    """passkey: what keys are hidden in, the paper's filler sentences, or the evaluation documents."""
    passkey_depths: int = 10
    """passkey: depths per length."""
    passkey_trials: int = 1
    """passkey: prompts per depth."""
    passkey_keys: int = 4
    """passkey_hard: keys per prompt, of which one is asked for."""
    passkey_told_by: Literal["name", "ordinal"] = "name"
    """passkey_hard: what tells the keys apart."""
    longrope_checkout: str | None = None
    """official_passkey: checkout of github.com/microsoft/LongRoPE."""
    passkey_samples: int = 10
    """official_passkey: prompts per length."""
    needle_haystack: Literal["auto", "filler", "documents"] = "auto"
    """niah, nolima: what needles are hidden in, the evaluation documents, or the pass key's filler sentences (auto:
    documents, or filler where --tokenized names none)."""
    needle_depths: int = 10
    """niah, nolima: depths per length."""
    needle_trials: int = 1
    """niah, nolima: prompts per depth (and pair)."""
    needle_count: int = 3
    """niah_multi: needles per prompt."""
    niah_checkout: str | None = None
    """official_niah: checkout of github.com/gkamradt/LLMTest_NeedleInAHaystack; published scores are a judge model's
    marks, which are not given here."""
    niah_depths: int | None = None
    """official_niah: depths per length (default: the official 35)."""
    nolima_pairs: int | None = None
    """nolima: pairs of needle and question (default: all)."""
    nolima_checkout: str | None = None
    """official_nolima: checkout of github.com/adobe-research/NoLiMa with its data; its licence excludes commercial
    use."""
    nolima_samples: int = 500
    """official_nolima: prompts per length, a seeded selection (officially all there are)."""
    ruler_samples: int = 100
    """ruler, official_ruler: samples per task and length (the paper: 500). Tasks of ruler that hide needles in essays
    take the evaluation documents for them."""
    ruler_checkout: str | None = None
    """official_ruler: checkout of github.com/NVIDIA/RULER, whose own scripts make the prompts (needs pip install nltk
    tenacity wonderwords, and the data files that its README names); docs/comparable.md tells what differs from
    ruler."""
    ruler_squad: str | None = None
    """ruler_qa_1: SQuAD 2.0 JSON file, or `hub` for rajpurkar/squad_v2 (default: the task is left out of ruler)."""
    ruler_hotpotqa: str | None = None
    """ruler_qa_2: HotpotQA JSON file, or `hub` for hotpotqa/hotpot_qa (default: the task is left out of ruler)."""
    longbench_source: str | None = None
    """longbench: folder or file in the official format, or a hub id (default: the official one)."""
    longbench_checkout: str | None = None
    """official_longbench: checkout of github.com/THUDM/LongBench; its prompts and lengths are taken."""
    longbench_samples: int | None = None
    """longbench: rows per dataset, a seeded selection (default: all)."""
    lm_eval_samples: int | None = None
    """lm_eval: the first items of each subtask only (default: all)."""
    lm_eval_shots: int | None = None
    """lm_eval: examples per prompt of tasks beyond the standard ones (default: as the task says)."""
    lm_eval_path: str | None = None
    """lm_eval: folder with task files of your own."""
    batch_size: int = 1
    """Documents or prompts per forward; halved by itself when memory runs out."""
    seed: int = 0
    """Seed of prompts and bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, or auto-shard to spread the layers over all devices."""
    dtype: str = "auto"
    """auto (bfloat16 on CUDA, float32 on CPU) or a torch dtype."""
    attn_implementation: str = "auto"
    """auto (flash_attention_2 if it can run, else sdpa) or a name Transformers knows."""
    executor: Literal["auto", "inline", "processes", "ray"] = "auto"
    """Where cells run: inline (this process), processes (of this machine, each with a model of its own), ray (machines
    of a Ray cluster, which may join and leave; needs pip install ray), or auto: processes for --workers
    above 1 or several CUDA devices, else inline."""
    workers: int | None = None
    """Models that run cells at once (default: one per CUDA device; on Ray as many as it has room for now)."""
    devices_per_worker: int = 1
    """CUDA devices that share one model which is too large for one."""
    ray_address: str | None = None
    """Ray cluster, e.g. auto or ray://HOST:10001 (default: one on this machine)."""
