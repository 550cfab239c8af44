"""One model at one target length: what searches run on, and what judges them."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple, Self

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from longrope.cli.configs import SearchConfig
from longrope.cli.documents import load_documents
from longrope.cli.objectives import build_objective
from longrope.evaluation.comparison.results import model_fingerprint
from longrope.evaluation.data.tokenized import TokenizedDocuments, check_tokenizer, load_tokenized
from longrope.evaluation.objectives.gradients import GradientObjective
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring.model import load_model, pick_device, pick_dtype
from longrope.evolution import Settings
from longrope.rope import Installation, RescaleFactors, RopeGeometry, install

DIGEST = 16
"""Characters of a sha256 that tell models and documents apart."""
BATCH_TOKENS, BATCH_TOKENS_ON_CUDA = 16_384, 131_072
"""Tokens per forward of a small model: as many as fill a card, fewer where caches are what counts."""
DIGITS = 6
"""Decimals of a stored loss, in nats per token."""


class Source(NamedTuple):
    """A model and its documents."""

    name: str
    model: str
    search: str
    """Folder of `longrope tokenize` for searches."""
    heldout: str
    """Folder of `longrope tokenize` for judging."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read NAME=MODEL:SEARCH:EVAL.

        Raises:
            ValueError: it is something else.
        """
        name, _, rest = text.partition("=")
        parts = rest.split(":")
        if not name or len(parts) != 3 or not all(parts):
            raise ValueError(f"models must be NAME=MODEL:SEARCH:EVAL, got {text!r}; SEARCH and EVAL are token folders")
        return cls(name, *parts)


@dataclass(frozen=True)
class Machine:
    """Where and how models run."""

    device: str = "auto"
    dtype: str = "auto"
    """Of the searches; judges are in float32."""
    batch_tokens: int | None = None
    """Tokens per forward, all candidates together; None: as the device likes."""
    eval_samples: int = 32
    """Documents that results are judged on."""


def device_name(device: str) -> str:
    """Return what a device is called in reports."""
    found = pick_device(device)
    return f"{found} ({torch.cuda.get_device_name() if found.startswith('cuda') else platform.machine()})"


class Loaded(NamedTuple):
    """A model with our rotary module in place."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    installation: Installation


@lru_cache(maxsize=8)
def loaded(model: str, dtype: str, device: str) -> Loaded:
    """Load a model once per process, dtype and device."""
    found, tokenizer = load_model(model, dtype, device)
    return Loaded(found, tokenizer, install(found))


@lru_cache(maxsize=64)
def documents(folder: str, length: int, default: int, seed: int) -> TokenizedDocuments:
    """Read the documents that `longrope search` takes, once per process."""
    return load_documents(folder, length, None, default, seed)


@dataclass
class Bench:
    """A model at a ratio."""

    source: Source
    ratio: int
    machine: Machine
    known: dict[str, list[float]] = field(default_factory=dict)
    """Held-out losses by factors."""

    def _load(self, dtype: str) -> Loaded:
        device = pick_device(self.machine.device)
        return loaded(self.source.model, str(pick_dtype(dtype, device)).removeprefix("torch."), device)

    @cached_property
    def searched(self) -> Loaded:
        """The model that searches run on."""
        return self._load(self.machine.dtype)

    @property
    def geometry(self) -> RopeGeometry:
        """RoPE of the model."""
        return self.searched.installation.geometry

    @property
    def target_length(self) -> int:
        """Tokens of a window."""
        return self.ratio * self.geometry.original_length

    @property
    def batch_size(self) -> int:
        """Candidates per forward."""
        on_cuda = pick_device(self.machine.device).startswith("cuda")
        tokens = self.machine.batch_tokens or (BATCH_TOKENS_ON_CUDA if on_cuda else BATCH_TOKENS)
        return max(1, tokens // self.target_length)

    def config(self, seed: int) -> SearchConfig:
        """Return the options of `longrope search` that a run stands for."""
        return SearchConfig(
            self.source.model, self.source.search, self.target_length, "", seed=seed, batch_size=self.batch_size
        )

    def search_documents(self, settings: Settings, seed: int) -> TokenizedDocuments:
        """Return the documents that a search with these settings and this seed takes.

        Raises:
            ValueError: one of them is among those that judge.
        """
        found = documents(self.source.search, self.target_length, settings.num_documents, seed)
        judges = {one.digest for one in self.heldout.documents}
        if both := [one.name for one in found.documents if one.digest in judges]:
            raise ValueError(
                f"search documents must not be among the held-out ones, got {len(both)} that are, such as {both[0]}; "
                f"{self.source.search} and {self.source.heldout} must be of different texts"
            )
        return found

    def objective(self, settings: Settings, seed: int) -> GradientObjective:
        """Return the objective of `longrope search` on these documents."""
        data = self.search_documents(settings, seed)
        objective = build_objective(self.config(seed), settings, *self.searched, data)
        assert isinstance(objective, GradientObjective), "pareto has no place here"
        return objective

    @cached_property
    def model_digest(self) -> str:
        """What tells the model from others."""
        found = model_fingerprint(self.searched.model, self.source.model)
        return str(next(iter(found.values())))[:DIGEST]

    @cached_property
    def heldout(self) -> TokenizedDocuments:
        """The documents that judge."""
        data = load_tokenized(self.source.heldout, self.target_length, self.machine.eval_samples)
        check_tokenizer(data, self.searched.tokenizer)
        return data

    @cached_property
    def _judge(self) -> PerplexityObjective:
        model, _, installation = self._load("float32")
        return PerplexityObjective(
            model, installation, self.heldout.documents, self.target_length, max(1, self.batch_size // 2)
        )

    def judge(self, candidates: Sequence[RescaleFactors]) -> list[list[float]]:
        """Return the loss of each candidate on each held-out document, in nats per token.

        Raises:
            RuntimeError: a candidate has no loss on one of them.
        """
        keys = [json.dumps([one.lambdas.tolist(), one.attention_factor, one.start_tokens]) for one in candidates]
        new = {key: one for key, one in zip(keys, candidates, strict=True) if key not in self.known}
        columns = [self._judge.score(list(new.values()), place) for place in range(len(self.heldout.documents))]
        for key, scores in zip(new, zip(*columns, strict=True), strict=True):
            if errors := [score.error for score in scores if score.nats is None]:
                raise RuntimeError(f"held-out documents must have a loss, got: {errors[0]}")
            self.known[key] = [round((score.nats or 0.0) / score.tokens, DIGITS) for score in scores]
        return [self.known[key] for key in keys]
