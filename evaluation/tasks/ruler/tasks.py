"""The thirteen tasks by name."""

from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from ...data.tokenized import TokenizedDocuments
from .base import RulerTask
from .needles import (
    NeedleTask,
    NiahMultikey1,
    NiahMultikey2,
    NiahMultikey3,
    NiahMultiquery,
    NiahMultivalue,
    NiahSingle1,
    NiahSingle2,
    NiahSingle3,
)
from .questions import HotpotQuestions, QuestionTask, SquadQuestions
from .variables import VariableTracking
from .words import CommonWords, FrequentWords

RULER: dict[str, type[RulerTask]] = {
    task.name: task
    for task in (
        NiahSingle1,
        NiahSingle2,
        NiahSingle3,
        NiahMultikey1,
        NiahMultikey2,
        NiahMultikey3,
        NiahMultivalue,
        NiahMultiquery,
        VariableTracking,
        CommonWords,
        FrequentWords,
        SquadQuestions,
        HotpotQuestions,
    )
}


def reads_essays(name: str) -> bool:
    """Tell whether a task of `RULER` hides its needles in documents."""
    task = RULER[name]
    return issubclass(task, NeedleTask) and task.needles.haystack == "essays"


def build_ruler(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    samples: int = 500,
    essays: TokenizedDocuments | None = None,
    qa_file: Path | Literal["hub"] | None = None,
    batch_size: int = 1,
    seed: int = 0,
    chat: bool = False,
) -> RulerTask:
    """Return a task by its name.

    Args:
        name: one of `RULER`, e.g. `ruler_vt`.
        tokenizer: tokenizer of the model; lengths are counted in its tokens.
        samples: samples per length.
        essays: documents that the essay tasks hide needles in.
        qa_file: SQuAD 2.0 JSON for `ruler_qa_1`, HotpotQA JSON for `ruler_qa_2`, or `hub` for the hub's copy of it.
        batch_size: prompts per forward.
        seed: seed of the samples.
        chat: whether prompts are put into the tokenizer's chat template.

    Raises:
        ValueError: the name is unknown, there are no samples, or the task's data is missing.
    """
    if name not in RULER:
        guess = "".join(f"; did you mean {match}?" for match in get_close_matches(name, RULER, n=1))
        raise ValueError(f"name must be one of {', '.join(RULER)}, got {name!r}{guess}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1 per length, got {samples}; the paper takes 500")
    task = RULER[name]
    if issubclass(task, NeedleTask):
        return task(tokenizer, batch_size, seed, samples, essays if reads_essays(name) else None, chat=chat)
    if issubclass(task, QuestionTask):
        if qa_file is None:
            raise ValueError(
                f"qa_file must be a {task.data_format} JSON file or `hub` for {name}, got None; give one, or leave the "
                "task out"
            )
        return task(tokenizer, batch_size, seed, samples, source=qa_file, chat=chat)
    return task(tokenizer, batch_size, seed, samples, chat=chat)
