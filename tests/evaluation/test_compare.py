import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from longrope.evaluation.compare import CELLS_JSONL, compare
from longrope.evaluation.loss import token_nats
from longrope.evaluation.passkey import Passkey
from longrope.evaluation.perplexity import Perplexity
from longrope.evaluation.results import provenance
from longrope.rope import RescaleFactors, install
from longrope.rope.methods import NTK, DynamicNTK, Linear, NoScaling

LENGTHS = [450, 500]


class Bench:
    """A model that counts its forwards, and a comparison in a folder."""

    def __init__(self, model, tokenizer, data, folder):
        self.model, self.folder, self.forwards = model, folder, 0
        model.register_forward_hook(self.count)
        model.base_model.register_forward_hook(self.count)
        self.tasks = [Perplexity(data, batch_size=4), Passkey(tokenizer, depths=2, trials=2, batch_size=4)]
        self.methods = {"none": NoScaling(), "linear": Linear(factor=4.0)}

    def count(self, *_):
        self.forwards += 1

    def run(self, **changes):
        before = self.forwards
        settings = {"methods": self.methods, "lengths": LENGTHS, "tasks": self.tasks, "folder": self.folder} | changes
        tasks = settings["tasks"]
        facts = provenance(self.model, "tiny", {task.name: task.protocol() for task in tasks})
        comparison = compare(self.model, provenance=facts, **settings)
        return comparison, self.forwards - before

    def cells(self):
        return [json.loads(line) for line in (self.folder / CELLS_JSONL).read_text().splitlines()]


@pytest.fixture
def bench(make_llama, tokenizer, make_data, tmp_path):
    return Bench(make_llama(vocab_size=257), tokenizer, make_data([500] * 4, vocab_size=257), tmp_path / "run")


def canary_forwards(bench):
    before = bench.forwards
    with install(bench.model):
        pass
    return bench.forwards - before


def test_every_method_has_a_row_for_every_task_metric_and_length(bench):
    comparison, _ = bench.run()
    assert not comparison.failures
    found = [(row.method, row.task, row.metric, row.length) for row in comparison.rows]
    expected = {
        (method, task, metric, length)
        for method in ("none", "linear")
        for task, metric in [
            ("perplexity", "token_weighted"),
            ("perplexity", "document_weighted"),
            ("passkey", "accuracy"),
        ]
        for length in LENGTHS
    }
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert all(row.low <= row.value <= row.high and row.n == 4 for row in comparison.rows)


def test_the_model_is_given_back_as_it_was(bench):
    ids = torch.arange(40)[None]
    before = token_nats(bench.model, ids)
    bench.run()
    assert torch.equal(token_nats(bench.model, ids), before)


def test_finished_cells_are_read_and_not_run_again(bench):
    first, forwards = bench.run()
    canary = canary_forwards(bench)
    again, repeated = bench.run()
    assert forwards > canary
    assert repeated == canary
    assert again == first
    assert len(bench.cells()) == 2 * (1 + len(LENGTHS))


def test_an_interrupted_comparison_runs_only_what_is_missing(bench, monkeypatch):
    whole, _ = bench.run(folder=bench.folder.parent / "whole")
    original = Passkey.run
    runs = []

    def interrupted(self, model, lengths, advance):
        runs.append(lengths)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return original(self, model, lengths, advance)

    monkeypatch.setattr(Passkey, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert len(bench.cells()) == 3
    resumed, _ = bench.run()
    assert len(runs) == 2 + 3  # one finished and one interrupted before; three of four afterwards
    assert resumed == whole


def test_a_torn_last_line_is_a_cell_that_runs_again(bench):
    first, _ = bench.run()
    journal = bench.folder / CELLS_JSONL
    journal.write_text(journal.read_text()[:-100])
    again, _ = bench.run()
    assert again == first
    third, repeated = bench.run()
    assert third == first
    assert repeated == canary_forwards(bench)


@pytest.mark.parametrize("change", ["factors", "seed", "data", "model"])
def test_cells_of_another_protocol_are_not_reused(bench, make_data, change):
    bench.tasks = bench.tasks[:1]
    bench.methods = {"linear": Linear(factor=4.0)}
    bench.run()
    if change == "factors":
        bench.methods = {"linear": Linear(factor=2.0)}
    elif change == "seed":
        bench.tasks = [replace(bench.tasks[0], seed=1)]
    elif change == "data":
        bench.tasks = [Perplexity(make_data([500] * 4, vocab_size=257, seed=1), batch_size=4)]
    else:
        bench.model.config._attn_implementation = "eager"
    bench.run()
    assert len(bench.cells()) == 2


def test_a_failing_cell_is_recorded_never_scored_and_tried_again(bench, monkeypatch):
    original = Passkey.run
    broken = [True]

    def failing(self, model, lengths, advance):
        if broken and lengths == (500,):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        return original(self, model, lengths, advance)

    monkeypatch.setattr(Passkey, "run", failing)
    comparison, _ = bench.run()
    assert {(f["method"], f["task"], f["length"]) for f in comparison.failures} == {
        ("none", "passkey", 500),
        ("linear", "passkey", 500),
    }
    assert comparison.failures[0]["error"] == "OutOfMemoryError: CUDA out of memory. Tried to allocate"
    assert not [row for row in comparison.rows if (row.task, row.length) == ("passkey", 500)]
    broken.clear()
    mended, _ = bench.run()
    assert not mended.failures
    assert len(mended.rows) == len(comparison.rows) + 2


def test_programming_errors_are_not_swallowed(bench, monkeypatch):
    monkeypatch.setattr(Passkey, "run", lambda *_: [].missing)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        bench.run()


def test_a_static_method_shows_the_factors_of_the_target_length_at_every_length(bench):
    comparison, _ = bench.run(methods={"linear": Linear(factor=4.0)}, tasks=bench.tasks[:1])
    ids = torch.from_numpy(np.stack([d.ids for d in bench.tasks[0].data.documents]))
    with install(bench.model) as installation:
        installation.set([Linear(factor=4.0).factors(installation.geometry)])
        for row in comparison.rows:
            expected = token_nats(bench.model, ids[:, : row.length]).double().mean().exp().item()
            assert row.value == pytest.approx(expected, rel=1e-5)


def test_a_method_that_depends_on_the_length_is_built_for_each(bench):
    comparison, _ = bench.run(methods={"dynamic": DynamicNTK(factor=1.0)}, tasks=bench.tasks[:1])
    explicit = {
        length: bench.run(methods={"ntk": NTK(factor=length / 32)}, lengths=[length], tasks=bench.tasks[:1])[0]
        for length in LENGTHS
    }
    for row in comparison.rows:
        same = [other for other in explicit[row.length].rows if other.metric == row.metric]
        assert row.value == pytest.approx(same[0].value, rel=1e-6)


def test_found_factors_are_compared_like_any_method(bench):
    factors = RescaleFactors(np.ones(8), 32, 128, 10000.0, 16)
    comparison, _ = bench.run(methods={"none": NoScaling(), "found": factors}, tasks=bench.tasks[:1])
    by_method = {m: [r.value for r in comparison.rows if r.method == m] for m in ("none", "found")}
    assert by_method["none"] == by_method["found"]


@pytest.mark.parametrize(("lengths", "message"), [([501], "at least 501 tokens"), ([60], "for a pass key, got 60")])
def test_lengths_that_no_cell_can_measure_are_refused_before_anything_is_written(bench, lengths, message):
    with pytest.raises(ValueError, match=message):
        bench.run(lengths=lengths)
    assert not bench.folder.exists()


def test_data_of_another_tokenizer_is_refused_before_anything_is_written(bench, make_data):
    for task in (Perplexity(make_data([500], vocab_size=999)), replace(bench.tasks[1], data=make_data([999], 999))):
        with pytest.raises(ValueError, match="another tokenizer"):
            bench.run(tasks=[task])
    assert not bench.folder.exists()


def test_nothing_to_compare_is_an_error(bench):
    with pytest.raises(ValueError, match="must not be empty"):
        bench.run(methods={})
