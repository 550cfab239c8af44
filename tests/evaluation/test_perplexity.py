import math
from dataclasses import replace

import pytest
import torch

from longrope.evaluation import perplexity as perplexity_module
from longrope.evaluation.loss import token_nats
from longrope.evaluation.perplexity import Perplexity, prefix_scores
from longrope.rope import install
from longrope.rope.methods import YaRN


def test_one_forward_scores_every_length_as_separate_forwards_do(llama, random_data):
    lengths = [2, 16, 33, 50]
    with install(llama) as installation:
        installation.set([YaRN(factor=2.0).factors(installation.geometry)])
        together = prefix_scores(llama, random_data, lengths, batch_size=3)
        for document, scores in zip(random_data.documents, together, strict=True):
            for length in lengths:
                alone = token_nats(llama, torch.from_numpy(document.ids[None, :length]))
                assert scores[length].tokens == length - 1
                assert scores[length].nats == pytest.approx(alone.double().sum().item(), rel=1e-5)


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


def test_too_many_failed_documents_fail_the_whole_cell(llama, random_data, monkeypatch):
    poison(monkeypatch, {0})
    with pytest.raises(RuntimeError, match="1 of 4 failed, first: doc0: loss is inf"):
        Perplexity(random_data).run(llama, [40], lambda tokens: None)


@pytest.mark.parametrize(("lengths", "message"), [([1, 20], "at least 2 tokens"), ([20, 51], "doc0 with 50")])
def test_lengths_that_cannot_be_measured_are_refused_before_anything_runs(llama, random_data, lengths, message):
    with pytest.raises(ValueError, match=message):
        Perplexity(random_data).check(llama, lengths)
