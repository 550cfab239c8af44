"""The machinery that all prompted tasks share, with a task that asks to repeat a digit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from longrope.evaluation.data.seeding import seeded
from longrope.evaluation.scoring.generation import NOT_FINITE
from longrope.evaluation.tasks import prompted
from longrope.evaluation.tasks.prompted import PromptedTask, Sample
from longrope.rope import install
from longrope.rope.methods import NTK

PROMPTS = ["ab1", "abcdef2", "xy3", "abcdeg4", "zz5", "qqqqqq6"]


@dataclass(frozen=True)
class LastDigit(PromptedTask):
    name: ClassVar[str] = "last_digit"

    @property
    def max_new_tokens(self) -> int:
        return 3

    def samples(self, length: int) -> list[Sample]:
        encode = self.tokenizer.encode
        return [Sample(f"item {t}", np.array(encode(t)), (t[-1],), {"asked": t[:2]}) for t in PROMPTS]

    def score(self, predicted: str, sample: Sample) -> Mapping[str, float]:
        return {"accuracy": float(predicted.startswith(sample.references[0])), "half": 0.25}

    def describe(self) -> dict[str, Any]:
        return {"prompts": PROMPTS}


def repeating(tokenizer, seen=None, broken=()):
    """A model that repeats the last character; prompts with a character of `broken` make it fail."""

    def generate(ids, num_tokens):
        if seen is not None:
            seen.append(tuple(ids.shape))
        rows = ids[:, -1:].repeat(1, num_tokens)
        for row, prompt in zip(rows, ids, strict=True):
            if set(tokenizer.decode(prompt)) & set(broken):
                row[1] = NOT_FINITE
        return rows

    return generate


def test_records_come_in_the_order_of_the_samples_with_their_labels(tokenizer):
    records = LastDigit(tokenizer, batch_size=4).ask(repeating(tokenizer), 20)
    assert [record.item for record in records] == [f"item {text}" for text in PROMPTS]
    assert [record.predicted for record in records] == [text[-1] * 3 for text in PROMPTS]
    assert [record.labels["asked"] for record in records] == [text[:2] for text in PROMPTS]
    entry = records[1].to_dict()
    assert entry["references"] == ["2"]
    assert entry["asked"] == "ab"
    assert entry["scores"] == {"accuracy": 1.0, "half": 0.25}
    json.dumps(entry, allow_nan=False)


def test_only_prompts_of_one_length_share_a_forward(tokenizer):
    seen = []
    LastDigit(tokenizer, batch_size=2).ask(repeating(tokenizer, seen), 20)
    assert seen == [(2, 4), (1, 4), (2, 8), (1, 8)]  # one token per byte, and <s>


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_answers_do_not_depend_on_the_batch_size(make_llama, tokenizer, batch_size):
    model = make_llama(vocab_size=len(tokenizer))

    def answers(size):
        cell = LastDigit(tokenizer, batch_size=size).run(model, [20], lambda tokens: None)
        return [record["predicted"] for record in cell.records]

    with install(model) as installation:
        installation.set([NTK(factor=2.0).factors(installation.geometry)])
        assert answers(batch_size) == answers(1)


def test_every_token_is_counted(tokenizer, make_llama):
    model, counted = make_llama(vocab_size=len(tokenizer)), []
    task = LastDigit(tokenizer, batch_size=2)
    task.run(model, [20, 30], counted.append)
    assert sum(counted) == task.tokens([20, 30]) == 2 * (3 * (4 + 3) + 3 * (8 + 3))


def test_the_models_end_token_ends_answers_and_is_no_part_of_them(llama, tokenizer, monkeypatch):
    llama.generation_config.eos_token_id = tokenizer.bos_token_id
    seen = set()

    def ending(model, ids, num_tokens, ends, least):
        seen.update(ends)
        return torch.cat([ids[:, -1:], *[torch.full((len(ids), 1), end) for end in ends]], dim=1)

    monkeypatch.setattr(prompted, "greedy", ending)
    cell = LastDigit(tokenizer, batch_size=6).run(llama, [20], lambda tokens: None)
    assert seen == {tokenizer.bos_token_id}
    assert [record["predicted"] for record in cell.records] == [text[-1] for text in PROMPTS]


def test_failed_samples_are_neither_right_nor_wrong(tokenizer, llama, monkeypatch):
    monkeypatch.setattr("longrope.evaluation.tasks.base.FAILURE_LIMIT", 0.5)
    generate = repeating(tokenizer, broken="3")
    monkeypatch.setattr(prompted, "greedy", lambda model, ids, n, ends, least: generate(ids, n))
    cell = LastDigit(tokenizer).run(llama, [20], lambda tokens: None)
    accuracy, half = cell.measurements
    assert (accuracy.metric, accuracy.estimate.value, accuracy.estimate.n) == ("accuracy", 1.0, 5)
    assert (half.metric, half.estimate.value, half.estimate.n) == ("half", 0.25, 5)
    (failure,) = cell.failures
    assert (failure.length, failure.item, failure.error) == (20, "item xy3", "logits are not finite")
    failed = next(record for record in cell.records if record["item"] == "item xy3")
    assert failed["scores"] == {}
    assert failed["predicted"] == ""


def test_too_many_failed_samples_fail_the_whole_cell(tokenizer, llama, monkeypatch):
    generate = repeating(tokenizer, broken="3")
    monkeypatch.setattr(prompted, "greedy", lambda model, ids, n, ends, least: generate(ids, n))
    with pytest.raises(RuntimeError, match="1 of 6 failed, first: item xy3"):
        LastDigit(tokenizer).run(llama, [20], lambda tokens: None)


def test_the_protocol_says_how_answers_were_made(tokenizer):
    protocol = LastDigit(tokenizer, seed=7).protocol()
    assert protocol["decoding"] == "greedy"
    assert (protocol["seed"], protocol["max_new_tokens"], protocol["prompts"]) == (7, 3, PROMPTS)


def test_seeds_differ_by_every_part_and_are_the_same_in_any_process():
    parts = [("a", 0, 500, 0.5), ("b", 0, 500, 0.5), ("a", 1, 500, 0.5), ("a", 0, 501, 0.5), ("a", 0, 500, 0.25)]
    assert len({seeded(*part) for part in parts}) == len(parts)
    assert seeded("a", 0, 500, 0.5) == int(sha256(b'["a", 0, 500, 0.5]').hexdigest()[:16], 16)


def test_the_prompt_hash_is_of_the_tokens(tokenizer):
    sample = LastDigit(tokenizer).samples(20)[0]
    assert sample.prompt_hash == sha256(b"".join(int(i).to_bytes(8, "little") for i in sample.ids)).hexdigest()
    assert torch.from_numpy(sample.ids).dtype == torch.int64
