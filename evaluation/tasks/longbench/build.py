"""LongBench tasks by their names."""

import random
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ...data.seeding import seeded
from .checkout import Checkout
from .checkout_v2 import CheckoutV2
from .data import HUB, HUB_V2, AnyRow, load_questions, load_rows
from .metrics import CLASSIFICATION
from .official import OFFICIAL, OFFICIAL_V2, PREFIX, V2_TASKS, OfficialLongBench, OfficialLongBench2
from .registry import DATASETS, NAMES
from .v1 import LongBench
from .v2 import LongBench2

TASKS = (*(f"longbench_{name}" for name in NAMES), *V2_TASKS, *OFFICIAL, *OFFICIAL_V2)
"""Names of all tasks: 21 of v1, 13 of LongBench-E (`..._e`), v2 without and with chain of thought, and all of them
with the prompts of an official checkout."""


def build_longbench(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    source: Path | str | None = None,
    samples: int | None = None,
    checkout: Path | str | None = None,
    chat: bool = False,
    batch_size: int = 1,
    seed: int = 0,
) -> LongBench | LongBench2:
    """Return a LongBench task with its data.

    Args:
        name: one of `TASKS`, e.g. `longbench_qasper`.
        tokenizer: tokenizer of the model.
        source: file or folder in the official format (v1: `<dataset>.jsonl`; v2: `data.json`), or a hub id (None: the
            official one).
        samples: rows to take, a selection by the seed in the order of the data (None: all).
        checkout: folder of the official repository, for names that begin with `official_`.
        chat: whether prompts are put into the tokenizer's chat template, except where LongBench never does.
        batch_size: prompts per forward.
        seed: of the selection and of the bootstrap.

    Raises:
        ValueError: the name is unknown, the data is missing or not in the official format, there are fewer rows than
            asked for, the checkout is missing or none, or an optional package of the metric is missing.
    """
    if name not in TASKS:
        raise ValueError(f"LongBench task must be one of {', '.join(TASKS)}, got {name!r}")
    common = {"chat": chat, "batch_size": batch_size, "seed": seed}
    if name.removeprefix(PREFIX) in V2_TASKS:
        own = {} if name in V2_TASKS else {"checkout": CheckoutV2(_given(checkout))}
        questions = _select(load_questions(source or HUB_V2), samples, "longbench2", seed)
        task = LongBench2 if name in V2_TASKS else OfficialLongBench2
        return task(tokenizer, rows=questions, chain_of_thought=name.endswith("_cot"), **own, **common)
    file = name.removeprefix(PREFIX).removeprefix("longbench_")
    dataset = DATASETS[file.removesuffix("_e")]
    dataset.metric.check_packages()
    official = Checkout(_given(checkout)) if name in OFFICIAL else None
    rows = load_rows(file, source or HUB, dataset.metric is CLASSIFICATION)
    chosen = _select(rows, samples, name.removeprefix(PREFIX), seed)
    extended = file.endswith("_e")
    if official is None:
        return LongBench(tokenizer, dataset=dataset, rows=chosen, extended=extended, **common)
    dataset = official.dataset(dataset)
    return OfficialLongBench(tokenizer, checkout=official, dataset=dataset, rows=chosen, extended=extended, **common)


def check_checkout(name: str, path: Path | str | None) -> None:
    """Raise ValueError if a task needs an official checkout, and none is given, or the folder is another one."""
    if name in OFFICIAL:
        Checkout(_given(path))
    if name in OFFICIAL_V2:
        CheckoutV2(_given(path))


def _given(path: Path | str | None) -> Path | str:
    if path is None:
        raise ValueError(
            "longbench_checkout must be a checkout of the official LongBench, got none; git clone "
            "https://github.com/THUDM/LongBench and give --longbench-checkout, or choose the tasks of longbench"
        )
    return path


def _select(rows: tuple[AnyRow, ...], samples: int | None, name: str, seed: int) -> tuple[AnyRow, ...]:
    if samples is None:
        return rows
    if not 1 <= samples <= len(rows):
        raise ValueError(f"samples must be from 1 to the {len(rows)} rows of {name}, got {samples}; take fewer")
    chosen = random.Random(seeded(name, seed)).sample(range(len(rows)), samples)
    return tuple(rows[index] for index in sorted(chosen))
