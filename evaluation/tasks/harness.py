"""Standard benchmarks through lm-eval (EleutherAI) on the model as it is installed: ARC, HellaSwag, MMLU, any other.

Needs the extra `lm-eval`. What lm-eval does silently is an error or a fact here: it would cut long prompts on the left,
average placeholders of -1, score NaN logits, take log-probabilities in bfloat16 and change the tokenizer it is given.
"""

import copy
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any, ClassVar, NamedTuple

import lm_eval  # pyright: ignore[reportMissingImports]
import torch
from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]
from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.tokenized import tokenizer_fingerprint
from ..scoring.batching import Batcher
from ..scoring.estimates import Estimate, mean_score
from .base import Advance, Cell, Measurement

SEED = 1234
"""Of the examples in the prompts: lm-eval's own, so that its published numbers compare."""
HEADLINES = ("acc_norm", "acc")
"""Metrics that come first where a task has them."""

logging.getLogger("lm_eval").setLevel(logging.ERROR)


class Requests(NamedTuple):
    """What a task asks a model."""

    fingerprint: str
    """Sha256 of all prompts, answers and generation settings."""
    tokens: int
    longest: int
    """Tokens of the longest prompt with its answer."""


@dataclass(frozen=True)
class LmEval:
    """One lm-eval task or group.

    Prompts have the benchmark's own length, so with static factors one run measures every context length in which the
    longest prompt has room.
    """

    one_forward: ClassVar[bool] = True

    tokenizer: PreTrainedTokenizerBase
    name: str
    """Name of the task or group in lm-eval."""
    shots: int | None = None
    """Examples in each prompt; None: as the task is configured."""
    samples: int | None = None
    """The first items of each subtask only; None: all."""
    include_path: str | None = None
    """Folder of task files of one's own."""
    batch_size: int = 1
    """Prompts per forward; halved by itself when memory runs out."""
    seed: int = 0
    """Seed of the bootstrap."""

    @cached_property
    def requests(self) -> Requests:
        """What the task asks, found without a model.

        Raises:
            ValueError: lm-eval has no such task, or the task measures rolling perplexity.
        """
        listener = _Listener(self.tokenizer)
        self._evaluate(listener, predict_only=True)
        return listener.heard()

    def protocol(self) -> dict[str, Any]:
        return {
            "lm_eval": version("lm_eval"),
            "shots": "as configured" if self.shots is None else self.shots,
            "samples": "all" if self.samples is None else f"first {self.samples} of each subtask",
            "requests": self.requests.fingerprint,
            "longest_prompt": self.requests.longest,
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "template": "none",
            "log_probabilities": "float32",
            "length": "prompts have their own lengths; none is cut",
            "interval": "95 %, Wilson for shares, percentile bootstrap over items otherwise",
            "seed": self.seed,
        }

    def check(self, model: PreTrainedModel, lengths: Sequence[int]) -> None:
        if self.requests.longest > min(lengths):
            raise ValueError(
                f"lengths must be at least {self.requests.longest} tokens for the prompts of {self.name}, got "
                f"{min(lengths)}; leave the shorter lengths out or take fewer shots"
            )

    def tokens(self, lengths: Sequence[int]) -> int:
        return self.requests.tokens

    def run(self, model: PreTrainedModel, lengths: Sequence[int], advance: Advance) -> Cell:
        results = self._evaluate(_Harness(model, self.tokenizer, max(lengths), self.batch_size, advance))
        scores = _scores(results["samples"])
        if not scores:
            raise ValueError(f"task must have a metric that is a share from 0 to 1, got none in {self.name}")
        ordered = sorted(scores, key=lambda m: HEADLINES.index(m) if m in HEADLINES else len(HEADLINES))
        reported = results["results"].get(self.name, {})
        estimates = {metric: self._estimate(metric, list(scores[metric].values()), reported) for metric in ordered}
        records = _records(results["samples"], scores)
        return Cell(
            [Measurement(metric, length, estimates[metric]) for length in lengths for metric in ordered],
            [{"length": length, **record} for length in lengths for record in records],
        )

    def _estimate(self, metric: str, values: list[float], reported: Mapping[str, Any]) -> Estimate:
        """Return lm-eval's own value; with our interval where it is the mean over the items."""
        estimate = mean_score(values, self.seed)
        value = next((v for key, v in reported.items() if _metric_name(*_split(key)) == metric), estimate.value)
        if math.isclose(value, estimate.value, abs_tol=1e-9):
            return estimate
        return Estimate(float(value), None, None, len(values))

    def _evaluate(self, lm: Any, **settings: Any) -> dict[str, Any]:
        try:
            return lm_eval.simple_evaluate(
                model=lm,
                tasks=[self.name],
                num_fewshot=self.shots,
                limit=self.samples,
                bootstrap_iters=0,
                task_manager=_task_manager(self.include_path),
                fewshot_random_seed=SEED,
                **settings,
            )
        except KeyError as error:
            raise ValueError(
                f"task must be one that lm-eval has, got {self.name!r}: {error}; see lm_eval ls"
            ) from error


@cache
def _task_manager(include_path: str | None) -> Any:
    return TaskManager(include_path=include_path)  # it reads thousands of files, so once


class _Listener(LM):
    """Takes note of what is asked, and answers nothing."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.digests: list[str] = []
        self.lengths: list[int] = []

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        for request in requests:
            self._hear(request.args, "".join(request.args), 0)
        return [(0.0, False)] * len(requests)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        for request in requests:
            prompt, settings = request.args
            self._hear(request.args, prompt, settings.get("max_gen_toks", HFLM.max_gen_toks.fget(self)))
        return [""] * len(requests)

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        raise ValueError("task must be no rolling perplexity, got one; use the tasks perplexity or perplexity_sliding")

    def heard(self) -> Requests:
        """Return everything that was asked."""
        whole = hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()
        return Requests(whole, sum(self.lengths), max(self.lengths, default=0))

    def _hear(self, args: Any, text: str, answer: int) -> None:
        self.digests.append(hashlib.sha256(json.dumps(args, sort_keys=True, default=str).encode()).hexdigest())
        self.lengths.append(1 + len(self.tokenizer.encode(text)) + answer)  # a prefix token may be put in front


class _Harness(HFLM):
    """lm-eval's own class around our model: prompts are never cut, batches shrink, logits must be finite."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        length: int,
        batch_size: int,
        advance: Advance = lambda tokens: None,
    ) -> None:
        super().__init__(
            pretrained=model,
            tokenizer=copy.deepcopy(tokenizer),  # it may get a padding token
            backend="causal",
            max_length=length,
            batch_size=batch_size,
            softmax_dtype="float32",
        )
        self.batcher, self.advance = Batcher(batch_size), advance

    def tok_batch_encode(
        self, strings: list[str], padding_side: str = "left", left_truncate_len: int | None = None, **settings: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = super().tok_batch_encode(strings, padding_side, None, **settings)
        self._refuse_cut(ids.shape[1], self.max_length if left_truncate_len is None else left_truncate_len)
        return ids, mask

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = True, **settings: Any) -> Any:
        self._refuse_cut(max(len(context) + len(answer) for _, context, answer in requests), self.max_length + 1)
        return super()._loglikelihood_tokens(requests, disable_tqdm=True, **settings)

    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> list[str]:
        with _watched(self.model, lambda tokens: self.advance(tokens)):
            return super().generate_until(requests, disable_tqdm=True)

    def _model_call(self, inps: torch.Tensor, **settings: Any) -> torch.Tensor:
        forward = super()._model_call
        with _watched(self.model, lambda tokens: self.advance(tokens)):
            rows = self.batcher.map(lambda batch: list(forward(torch.stack(list(batch)), **settings)), list(inps))
        return torch.stack(rows)

    def _refuse_cut(self, tokens: int, room: int) -> None:
        if tokens > room:
            raise ValueError(f"prompts must have at most {room} tokens, got {tokens}; none is cut: use longer lengths")


@contextmanager
def _watched(model: PreTrainedModel, advance: Callable[[int], object]) -> Iterator[None]:
    """Count the tokens of each forward, and refuse logits that are not finite: they would be scored."""

    def look(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not bool(output.logits.isfinite().all()):
            raise ArithmeticError("logits are not finite")
        advance((args[0] if args else kwargs["input_ids"]).numel())

    handle = model.register_forward_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _scores(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """Return by metric the value of each item, of the metrics that are shares for every item they exist for."""
    scores: dict[str, dict[str, float]] = {}
    for subtask, entries in samples.items():
        for entry in entries:
            for metric in entry["metrics"]:
                values = scores.setdefault(_metric_name(metric, entry["filter"]), {})
                values[f"{subtask} {entry['doc_id']}"] = entry[metric]
    return {metric: evaluated for metric, values in scores.items() if (evaluated := _shares(values))}


def _shares(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values without placeholders (negative), nothing if any other is no share from 0 to 1."""
    numbers = {item: value for item, value in values.items() if isinstance(value, int | float)}
    evaluated = {item: float(value) for item, value in numbers.items() if value >= 0}
    usable = len(numbers) == len(values) and all(value <= 1 for value in evaluated.values())
    return evaluated if usable else {}


def _records(
    samples: Mapping[str, Sequence[Mapping[str, Any]]], scores: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {}
    for subtask, entries in samples.items():
        for entry in entries:
            item = f"{subtask} {entry['doc_id']}"
            records[item] = {
                "item": item,
                "prompt_hash": entry["prompt_hash"],
                "references": [str(entry["target"])],
                "predicted": str(entry["filtered_resps"]),
                "scores": {metric: values[item] for metric, values in scores.items() if item in values},
                "error": None,
            }
    return list(records.values())


def _split(key: str) -> tuple[str, str]:
    metric, _, chosen = key.partition(",")
    return metric, chosen


def _metric_name(metric: str, chosen: str) -> str:
    """Return lm-eval's `metric,filter` without the filter that is none."""
    return metric if chosen in ("none", "") else f"{metric},{chosen}"
