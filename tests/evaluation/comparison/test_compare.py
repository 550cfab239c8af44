import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from longrope.evaluation.comparison.cells import CELLS_JSONL, collect, method_key, read_cells
from longrope.evaluation.comparison.compare import compare
from longrope.evaluation.comparison.progress import ComparisonBar, Work
from longrope.evaluation.comparison.results import provenance
from longrope.evaluation.scoring.batching import Batcher
from longrope.evaluation.scoring.loss import token_nats
from longrope.evaluation.tasks.passkey import Passkey
from longrope.evaluation.tasks.perplexity import Perplexity
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

    def collected(self, **changes):
        """What the folder holds for a call with these settings."""
        settings = {"methods": self.methods, "tasks": self.tasks} | changes
        protocols = {task.name: task.protocol() for task in settings["tasks"]}
        facts = provenance(self.model, "tiny", protocols)
        keys = {name: method_key(method) for name, method in settings["methods"].items()}
        return collect(read_cells(self.folder), facts, protocols, keys)

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
    assert (resumed.rows, resumed.failures) == (whole.rows, whole.failures)


def test_a_torn_last_line_is_a_cell_that_runs_again(bench):
    first, _ = bench.run()
    journal = bench.folder / CELLS_JSONL
    journal.write_text(journal.read_text()[:-100])
    again, _ = bench.run()
    assert again.rows == first.rows
    third, repeated = bench.run()
    assert third == again
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


@pytest.mark.parametrize(
    ("length", "task", "reason"),
    [(501, "perplexity", "at least 501 tokens"), (60, "passkey", "tokens for .*, got 60")],
)
def test_a_length_that_a_task_has_no_room_in_is_left_out_with_its_reason(bench, length, task, reason):
    comparison, _ = bench.run(lengths=[length, 500])
    assert [(entry.task, entry.length) for entry in comparison.left_out] == [(task, length)]
    assert re.search(reason, comparison.left_out[0].reason)
    assert not comparison.failures
    measured = {(row.task, row.length) for row in comparison.rows}
    other = {"perplexity": "passkey", "passkey": "perplexity"}[task]
    assert measured == {(other, length), ("perplexity", 500), ("passkey", 500)}


def test_what_no_task_can_measure_is_refused_before_anything_is_written(bench, make_data):
    for task in (Perplexity(make_data([500], vocab_size=999)), replace(bench.tasks[1], data=make_data([999], 999))):
        with pytest.raises(ValueError, match="another tokenizer"):
            bench.run(tasks=[task])
    with pytest.raises(ValueError, match="tokens for .*, got 50"):
        bench.run(tasks=bench.tasks[1:], lengths=[50, 60])
    assert not bench.folder.exists()


def test_the_results_of_a_folder_are_those_of_all_calls_together(bench):
    perplexity, _ = bench.run(tasks=bench.tasks[:1])
    passkey, _ = bench.run(tasks=bench.tasks[1:])
    more, _ = bench.run(methods={"ntk": NTK(factor=4.0)})
    collected = bench.collected(methods={"ntk": NTK(factor=4.0)})
    key = lambda row: (row.task, row.method, row.metric, row.length)  # noqa: E731
    assert sorted(collected.results.rows, key=key) == sorted(perplexity.rows + passkey.rows + more.rows, key=key)
    assert not collected.set_aside
    assert list(collected.results.provenance["protocols"]) == ["perplexity", "passkey"]
    assert set(collected.results.provenance["factors"]) == {"none", "linear", "ntk"}
    assert [row.method for row in collected.results.rows][:6] == ["none"] * 4 + ["linear"] * 2


def test_what_was_measured_otherwise_is_never_reported_together(bench):
    bench.run()
    changed = {"methods": {"linear": Linear(factor=2.0)}, "tasks": [replace(bench.tasks[0], seed=1)]}
    now, _ = bench.run(**changed)
    collected = bench.collected(**changed)
    # perplexity: only the new protocol; passkey: only `none`, since `linear` is another method now
    assert [row for row in collected.results.rows if row.task == "perplexity"] == now.rows
    assert {row.method for row in collected.results.rows if row.task == "passkey"} == {"none"}
    assert collected.set_aside == {("none", "perplexity"): 1, ("linear", "perplexity"): 1, ("linear", "passkey"): 2}
    before = bench.collected()
    assert {row.method for row in before.results.rows} == {"none", "linear"}
    assert before.set_aside == {("linear", "perplexity"): 1}


def test_a_longer_run_of_the_same_takes_over_and_its_failure_leaves_the_shorter(bench, monkeypatch):
    short, _ = bench.run(lengths=[450], tasks=bench.tasks[:1])
    monkeypatch.setattr(Perplexity, "run", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
    bench.run(tasks=bench.tasks[:1])
    collected = bench.collected(tasks=bench.tasks[:1])
    assert sorted(map(str, collected.results.rows)) == sorted(map(str, short.rows))
    assert {(f["method"], f["length"], f["error"]) for f in collected.results.failures} == {
        ("none", 500, "MemoryError: no room"),
        ("linear", 500, "MemoryError: no room"),
    }
    monkeypatch.undo()
    whole, _ = bench.run(tasks=bench.tasks[:1])
    collected = bench.collected(tasks=bench.tasks[:1])
    assert sorted(map(str, collected.results.rows)) == sorted(map(str, whole.rows))
    assert not collected.results.failures


def test_a_commit_or_another_folder_of_the_model_does_not_repeat_cells(bench):
    protocols = {task.name: task.protocol() for task in bench.tasks}
    facts = provenance(bench.model, "tiny", protocols) | {"model": {"id": "a", "sha256": "x"}}
    arguments = (bench.model, bench.methods, LENGTHS, bench.tasks, bench.folder)
    compare(*arguments, facts)
    cells = len(bench.cells())
    compare(*arguments, facts | {"commit": "another", "model": {"id": "b", "sha256": "x"}})
    assert len(bench.cells()) == cells
    compare(*arguments, facts | {"model": {"id": "a", "sha256": "y"}})
    assert len(bench.cells()) == 2 * cells
    compare(*arguments, facts | {"versions": facts["versions"] | {"torch": "0"}})
    assert len(bench.cells()) == 3 * cells


def test_each_cell_tells_what_it_took(bench):
    bench.run()
    for entry in read_cells(bench.folder):
        assert entry.seconds > 0
        assert entry.tokens == (4 * 500 if entry.task == "perplexity" else 4 * entry.lengths[0])
        assert entry.peak_memory_bytes is None or entry.peak_memory_bytes > 10**7
    costs = bench.collected().results.costs
    assert len(costs) == len(bench.cells())
    assert costs[0]["tokens_per_second"] == pytest.approx(costs[0]["tokens"] / costs[0]["seconds"], rel=0.01)


def test_two_tasks_of_one_name_are_refused(bench):
    with pytest.raises(ValueError, match="different names, got perplexity, perplexity"):
        bench.run(tasks=[bench.tasks[0], replace(bench.tasks[0], seed=3)])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_batches_shrink_until_they_fit_on_any_device(error):
    sizes = []

    def hungry(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise error
        return batch

    assert Batcher(8).map(hungry, range(11)) == list(range(11))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    with pytest.raises(type(error)):
        Batcher(1).map(lambda batch: hungry(list(batch) * 3), range(2))


def test_other_errors_do_not_shrink_batches():
    with pytest.raises(RuntimeError, match="shapes"):
        Batcher(8).map(lambda batch: (_ for _ in ()).throw(RuntimeError("shapes disagree")), range(3))


def test_the_time_left_is_learned_per_task_and_length(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("longrope.evaluation.comparison.progress.time.monotonic", lambda: clock[0])
    short, long = Work("perplexity", (100,)), Work("perplexity", (1000,))
    todo = [short, long, short, long]
    with ComparisonBar(todo, {short: 100, long: 1000}) as bar:
        bar.start("none", short)
        assert bar.left() is None
        clock[0] = 2.0
        bar.end("none", short, 2.0, True)
        bar.start("none", long)
        assert bar.left() == pytest.approx(20 + 2 + 20)  # by the token: nothing known of the long ones
        clock[0] = 102.0
        bar.end("none", long, 100.0, True)
        bar.start("yarn", short)
        clock[0] = 103.0
        assert bar.left() == pytest.approx(1 + 100)


def test_nothing_to_compare_is_an_error(bench):
    with pytest.raises(ValueError, match="must not be empty"):
        bench.run(methods={})
