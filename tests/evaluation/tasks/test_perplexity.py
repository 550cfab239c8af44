import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from longrope.evaluation.scoring.loss import token_nats
from longrope.evaluation.tasks import perplexity as perplexity_module
from longrope.evaluation.tasks.perplexity import Perplexity, by_position, position_edges
from longrope.rope import install
from longrope.rope.methods import YaRN


def test_one_forward_scores_every_length_as_separate_forwards_do(llama, random_data):
    lengths = [2, 16, 33, 50]
    with install(llama) as installation:
        installation.set([YaRN(factor=2.0).factors(installation.geometry)])
        cell = Perplexity(random_data, batch_size=3).run(llama, lengths, lambda tokens: None)
        found = {(r["document"], r["length"]): r for r in cell.records if "kind" not in r}
        for document in random_data.documents:
            for length in lengths:
                alone = token_nats(llama, torch.from_numpy(document.ids[None, :length]))
                record = found.pop((document.name, length))
                assert record["tokens"] == length - 1
                assert record["nats"] == pytest.approx(alone.double().sum().item(), rel=1e-5)
    assert not found


@pytest.mark.parametrize("length", [2, 3, 10, 33, 256, 4096, 131072])
def test_position_bins_cover_every_scored_position_once(length):
    edges = position_edges(length)
    assert (edges[0], edges[-1]) == (1, length)
    assert all(first < second for first, second in pairwise(edges))
    assert len(edges) <= 33
    if length > 10_000:
        ratios = [second / first for first, second in pairwise(edges) if first > 100]
        assert max(ratios) / min(ratios) < 1.02


def test_bins_sum_the_losses_of_their_positions():
    nats = torch.arange(1.0, 100.0)  # the token at position p has a loss of p nats
    curve = by_position(nats)
    for k, (first, after) in enumerate(pairwise(curve["edges"])):
        assert curve["tokens"][k] == after - first
        assert curve["nats"][k] == sum(range(first, after))


def test_the_curve_of_each_document_adds_up_to_its_loss_at_the_longest_length(llama, random_data):
    cell = Perplexity(random_data, batch_size=3).run(llama, [20, 50], lambda tokens: None)
    curves = {r["document"]: r for r in cell.records if r.get("kind") == "positions"}
    assert len(curves) == 4
    for record in cell.records:
        if record["length"] == 50 and "kind" not in record:
            curve = curves[record["document"]]
            assert curve["length"] == 50
            assert sum(curve["tokens"]) == 49
            assert sum(curve["nats"]) == pytest.approx(record["nats"], rel=1e-9)
    json.dumps(cell.records, allow_nan=False)


def test_perplexity_is_exp_of_all_nats_over_all_tokens(llama, random_data):
    cell = Perplexity(random_data).run(llama, [20, 40], lambda tokens: None)
    for length in (20, 40):
        nats = sum(
            token_nats(llama, torch.from_numpy(d.ids[None, :length])).sum().item() for d in random_data.documents
        )
        token, document = [m for m in cell.measurements if m.length == length]
        assert (token.metric, document.metric) == ("token_weighted", "document_weighted")
        assert token.estimate.value == pytest.approx(math.exp(nats / (4 * (length - 1))), rel=1e-5)
        low, high = token.estimate.low, token.estimate.high
        assert low is not None and high is not None and low < token.estimate.value < high
        assert token.estimate.n == 4


def poison(monkeypatch, rows):
    forwards = iter(range(1000))

    def poisoned(model, ids):
        nats = token_nats(model, ids).clone()
        if next(forwards) in rows:
            nats[:, 30] = math.inf
        return nats

    monkeypatch.setattr(perplexity_module, "token_nats", poisoned)


def test_a_failed_document_is_left_out_and_listed(llama, make_data, monkeypatch):
    data = make_data([40] * 12)
    poison(monkeypatch, {3})
    cell = Perplexity(data).run(llama, [20, 40], lambda tokens: None)
    assert [(f.length, f.item) for f in cell.failures] == [(40, "doc3")]
    good = replace(data, documents=[d for d in data.documents if d.name != "doc3"])
    expected = Perplexity(good).run(llama, [20, 40], lambda tokens: None)
    assert cell.measurements[2:] == expected.measurements[2:]
    assert cell.measurements[0].estimate.n == 12  # the prefix before the failure is sound
    assert "doc3" not in {r["document"] for r in cell.records if r.get("kind") == "positions"}
    json.dumps(cell.records, allow_nan=False)


def test_too_many_failed_documents_fail_the_whole_cell(llama, random_data, monkeypatch):
    poison(monkeypatch, {0})
    with pytest.raises(RuntimeError, match="1 of 4 failed, first: doc0: loss is inf"):
        Perplexity(random_data).run(llama, [40], lambda tokens: None)


@pytest.mark.parametrize(("lengths", "message"), [([1, 20], "at least 2 tokens"), ([20, 51], "doc0 with 50")])
def test_lengths_that_cannot_be_measured_are_refused_before_anything_runs(llama, random_data, lengths, message):
    with pytest.raises(ValueError, match=message):
        Perplexity(random_data).check(llama, lengths)
