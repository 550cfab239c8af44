"""Which tasks an evaluation runs, from its options: names, groups of names, and what each task is built from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation.data.chat import frame
from ..evaluation.data.tokenized import TokenizedDocuments, leading_special_tokens
from ..evaluation.tasks.base import Task
from ..evaluation.tasks.longbench.build import TASKS as LONGBENCH
from ..evaluation.tasks.longbench.build import build_longbench, check_checkout
from ..evaluation.tasks.longbench.registry import DATASETS
from ..evaluation.tasks.needle import MultiNeedle, SingleNeedle
from ..evaluation.tasks.needle_checkout import Checkout as NeedleCheckout
from ..evaluation.tasks.needle_official import OfficialNeedle
from ..evaluation.tasks.nolima import NoLiMa
from ..evaluation.tasks.nolima_checkout import Checkout as NoLiMaCheckout
from ..evaluation.tasks.nolima_official import OfficialNoLiMa
from ..evaluation.tasks.passkey import Passkey, PasskeyHard
from ..evaluation.tasks.passkey_official import Checkout as LongRoPECheckout
from ..evaluation.tasks.passkey_official import OfficialPasskey
from ..evaluation.tasks.perplexity import Perplexity
from ..evaluation.tasks.ruler.checkout import Checkout
from ..evaluation.tasks.ruler.official import OFFICIAL, OfficialRuler
from ..evaluation.tasks.ruler.tasks import RULER, build_ruler, reads_essays
from ..evaluation.tasks.sliding import SlidingPerplexity
from ..evaluation.tasks.tail import TailPerplexity
from ..rope.names import unknown_name
from .longppl import build_longppl
from .task_options import TaskOptions

LM_EVAL = "lm_eval:"
STANDARD = {"arc_challenge": 25, "hellaswag": 10, "mmlu": 5, "truthfulqa_mc2": 0}
"""The standard benchmarks and their examples per prompt, as LongRoPE's and YaRN's tables have them."""
READ_DOCUMENTS = ("perplexity", "perplexity_sliding", "longppl")
"""Tasks whose prompts are the evaluation documents."""
QUESTIONS = {"ruler_qa_1": "ruler_squad", "ruler_qa_2": "ruler_hotpotqa"}
"""Tasks of RULER that need a file, and the option that names it."""


@dataclass(frozen=True)
class Sources:
    """What tasks are built from."""

    config: TaskOptions
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    data: TokenizedDocuments | None
    """Evaluation documents; None: none were given, and no task needs them."""

    @property
    def documents(self) -> TokenizedDocuments:
        """The evaluation documents, for tasks of `needs_documents`."""
        if self.data is None:
            raise ValueError("tokenized must name documents for this task, got none; give --tokenized")
        return self.data

    @property
    def common(self) -> dict[str, Any]:
        """Options of every task."""
        return {"batch_size": self.config.batch_size, "seed": self.config.seed}

    @property
    def prompted(self) -> dict[str, Any]:
        """Options of every task that puts prompts to the model, except lm-eval's."""
        return {**self.common, "chat": self.config.chat_template}


Builder = Callable[[Sources], Task]


def _haystack(sources: Sources, where: str) -> dict[str, Any]:
    data = None if where == "filler" or (where == "auto" and sources.data is None) else sources.documents
    return {"tokenizer": sources.tokenizer, "data": data, "style": sources.config.passkey_style, **sources.prompted}


def _passkey(sources: Sources) -> dict[str, Any]:
    config = sources.config
    grid = {"depths": config.passkey_depths, "trials": config.passkey_trials}
    return {**_haystack(sources, config.passkey_haystack), **grid}


def _needle(sources: Sources) -> dict[str, Any]:
    config = sources.config
    grid = {"depths": config.needle_depths, "trials": config.needle_trials}
    return {**_haystack(sources, config.needle_haystack), **grid}


def _sliding(sources: Sources) -> Task:
    config = sources.config
    return SlidingPerplexity(sources.documents, config.sliding_stride, config.sliding_tokens, **sources.common)


def _tail(sources: Sources) -> Task:
    config = sources.config
    end = max(*config.lengths, config.dataset_min_tokens or 0)
    leading = len(leading_special_tokens(sources.tokenizer))
    return TailPerplexity(sources.documents, end, config.tail_tokens, leading, **sources.common)


def _passkey_hard(sources: Sources) -> Task:
    config = sources.config
    return PasskeyHard(**_passkey(sources), keys=config.passkey_keys, told_by=config.passkey_told_by)


def _ruler(name: str) -> Builder:
    def build(sources: Sources) -> Task:
        config = sources.config
        file = getattr(config, QUESTIONS[name]) if name in QUESTIONS else None
        return build_ruler(
            name,
            sources.tokenizer,
            samples=config.ruler_samples,
            essays=sources.data,
            qa_file=file if file in (None, "hub") else Path(file),
            **sources.prompted,
        )

    return build


def _official_ruler(name: str) -> Builder:
    def build(sources: Sources) -> Task:
        config = sources.config
        assert config.ruler_checkout is not None  # check_data
        task = OfficialRuler(
            sources.tokenizer,
            checkout=Checkout(config.ruler_checkout),
            task=OFFICIAL[name],
            folder=Path(config.output_dir) / "official_ruler",
            num_samples=config.ruler_samples,
            **sources.prompted,
        )
        return cast(Task, task)

    return build


def _longbench(name: str) -> Builder:
    def build(sources: Sources) -> Task:
        config = sources.config
        source, samples = config.longbench_source, config.longbench_samples
        options = {"source": source, "samples": samples, "checkout": config.longbench_checkout}
        return cast(Task, build_longbench(name, sources.tokenizer, **options, **sources.prompted))

    return build


def _official_passkey(sources: Sources) -> Task:
    checkout, samples = _longrope_checkout(sources.config), sources.config.passkey_samples
    return cast(Task, OfficialPasskey(sources.tokenizer, checkout=checkout, num_samples=samples, **sources.prompted))


def _longrope_checkout(config: TaskOptions) -> LongRoPECheckout:
    if config.longrope_checkout is None:
        raise ValueError(
            "longrope_checkout must be a checkout of the official LongRoPE for official_passkey, got none; git clone "
            "https://github.com/microsoft/LongRoPE and give --longrope-checkout, or choose the task passkey"
        )
    return LongRoPECheckout(config.longrope_checkout)


def _official_niah(sources: Sources) -> Task:
    checkout, depths = _needle_checkout(sources.config), sources.config.niah_depths
    return cast(Task, OfficialNeedle(sources.tokenizer, checkout=checkout, depths=depths, **sources.prompted))


def _needle_checkout(config: TaskOptions) -> NeedleCheckout:
    if config.niah_checkout is None:
        raise ValueError(
            "niah_checkout must be a checkout of the official needle test for official_niah, got none; git clone "
            "https://github.com/gkamradt/LLMTest_NeedleInAHaystack and give --niah-checkout, or choose the task niah"
        )
    return NeedleCheckout(config.niah_checkout)


def _official_nolima(sources: Sources) -> Task:
    config = sources.config
    checkout = _nolima_checkout(config)
    task = OfficialNoLiMa(sources.tokenizer, checkout=checkout, num_samples=config.nolima_samples, **sources.prompted)
    return cast(Task, task)


def _nolima_checkout(config: TaskOptions) -> NoLiMaCheckout:
    if config.nolima_checkout is None:
        raise ValueError(
            "nolima_checkout must be a checkout of the official NoLiMa for official_nolima, got none; git clone "
            "https://github.com/adobe-research/NoLiMa and give --nolima-checkout, or choose the task nolima"
        )
    return NoLiMaCheckout(config.nolima_checkout)


def _lm_eval(name: str) -> Builder:
    def build(sources: Sources) -> Task:
        try:
            from ..evaluation.tasks.harness import LmEval
        except ImportError as error:
            raise ValueError(
                f"tasks {LM_EVAL}NAME need the package lm-eval, got {error}; pip install 'lm-eval[hf]'"
            ) from error
        config = sources.config
        shots = STANDARD.get(name, config.lm_eval_shots)
        options = (shots, config.lm_eval_samples, config.lm_eval_path)
        return cast(Task, LmEval(sources.tokenizer, name, *options, **sources.common))

    return build


TASKS: Mapping[str, Builder] = {
    "perplexity": lambda sources: Perplexity(sources.documents, **sources.common),
    "perplexity_sliding": _sliding,
    "perplexity_tail": _tail,
    "longppl": lambda sources: build_longppl(sources.config, sources.model, sources.tokenizer, sources.documents),
    "passkey": lambda sources: Passkey(**_passkey(sources)),
    "passkey_hard": _passkey_hard,
    "niah": lambda sources: SingleNeedle(**_needle(sources)),
    "niah_multi": lambda sources: MultiNeedle(**_needle(sources), needles=sources.config.needle_count),
    "nolima": lambda sources: NoLiMa(**_needle(sources), pairs=sources.config.nolima_pairs),
    "official_niah": _official_niah,
    "official_nolima": _official_nolima,
    "official_passkey": _official_passkey,
    **{name: _ruler(name) for name in RULER},
    **{name: _official_ruler(name) for name in OFFICIAL},
    **{name: _longbench(name) for name in LONGBENCH},
}
"""Tasks by name; beside them `lm_eval:NAME` is any task of lm-eval."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "ruler": tuple(RULER),
    "official_ruler": tuple(OFFICIAL),
    "longbench": tuple(f"longbench_{name}" for name in DATASETS),
    "official_longbench": tuple(f"official_longbench_{name}" for name in DATASETS),
    "standard": tuple(f"{LM_EVAL}{name}" for name in STANDARD),
}
"""Names that stand for several tasks."""


def needs_documents(name: str, config: TaskOptions) -> bool:
    """Tell whether a task reads evaluation documents with these options."""
    if name in RULER:
        return reads_essays(name)
    haystack = {"passkey": config.passkey_haystack, "niah": config.needle_haystack, "nolima": config.needle_haystack}
    return name in READ_DOCUMENTS or haystack.get(name.partition("_")[0]) == "documents"


def check_data(config: TaskOptions) -> None:
    """Raise ValueError if a task needs documents or an official checkout, and none are given."""
    needing = [name for name in task_names(config) if needs_documents(name, config)]
    if needing and config.tokenized is None:
        raise ValueError(
            f"tokenized must name documents for {', '.join(needing)}, got none; make them: longrope tokenize, and give "
            "--tokenized, or choose tasks that need none, such as passkey and niah"
        )
    official = [name for name in task_names(config) if name in OFFICIAL]
    if official and config.ruler_checkout is None:
        raise ValueError(
            f"ruler_checkout must be a checkout of the official RULER for {', '.join(official)}, got none; git clone "
            "https://github.com/NVIDIA/RULER and give --ruler-checkout, or choose the tasks of ruler, which need none"
        )
    if official:
        Checkout(str(config.ruler_checkout))
    for name in task_names(config):
        check_checkout(name, config.longbench_checkout)
    if "official_niah" in task_names(config):
        _needle_checkout(config)
    if "official_nolima" in task_names(config):
        _nolima_checkout(config)
    if "official_passkey" in task_names(config):
        _longrope_checkout(config)


def task_names(config: TaskOptions) -> list[str]:
    """Return the tasks that the names and groups of an evaluation stand for, each once.

    Raises:
        ValueError: there are none, or a name is unknown.
    """
    known = [*GROUPS, *TASKS, f"{LM_EVAL}NAME"]
    if not config.tasks:
        raise ValueError(f"tasks must be at least one of {', '.join(known)}, got none")
    spelled: list[str] = []
    for name in config.tasks:
        if name not in GROUPS and name not in TASKS and not name.startswith(LM_EVAL):
            raise unknown_name("task", name, known)
        without = missing_data(config) if name in GROUPS else {}
        spelled += [task for task in GROUPS.get(name, (name,)) if task not in without]
    return list(dict.fromkeys(spelled))


def missing_data(config: TaskOptions) -> dict[str, str]:
    """Return the tasks of the chosen groups whose data is not given, and what would give it."""
    chosen = {task for name in config.tasks for task in GROUPS.get(name, ()) if task not in config.tasks}
    return {
        task: f"it needs questions: give --{option.replace('_', '-')} a file, or `hub` to download them"
        for task, option in QUESTIONS.items()
        if task in chosen and getattr(config, option) is None
    }


def build_tasks(sources: Sources) -> list[Task]:
    """Return the tasks of an evaluation.

    Raises:
        ValueError: the data or a package of a task is missing, an option is out of range, or a chat template is asked
            for and the tokenizer has none.
    """
    frame(sources.tokenizer, sources.config.chat_template)
    names = task_names(sources.config)
    return [(TASKS.get(name) or _lm_eval(name.removeprefix(LM_EVAL)))(sources) for name in names]
