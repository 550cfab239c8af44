import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evaluation.scoring.loss import token_nats
from longrope.evaluation.tasks import sliding as sliding_module
from longrope.evaluation.tasks.perplexity import Perplexity
from longrope.evaluation.tasks.sliding import SlidingPerplexity, Window, sliding_windows
from longrope.rope import install
from longrope.rope.methods import YaRN


@settings(max_examples=300, deadline=None)
@given(num_tokens=st.integers(0, 300), window=st.integers(2, 80), data=st.data())
def test_every_token_is_scored_once_in_order_with_the_promised_context(num_tokens, window, data):
    stride = data.draw(st.integers(1, window - 1))
    windows = list(sliding_windows(num_tokens, window, stride))
    scored = [token for w in windows for token in range(w.scored, w.stop)]
    assert scored == list(range(1, num_tokens))
    for w in windows:
        assert 0 <= w.start < w.scored < w.stop <= num_tokens
        assert w.stop - w.start <= window
        for token in range(w.scored, w.stop):
            assert token - w.start >= min(token, window - stride)  # all there is, or window - stride
    assert all(w.stop - w.start == min(window, num_tokens) for w in windows)


def test_the_windows_of_the_drawing_are_these():
    assert list(sliding_windows(10, 6, 3)) == [Window(0, 6, 1), Window(3, 9, 6), Window(4, 10, 9)]


@pytest.mark.parametrize("stride", [0, -1, 8, 9])
def test_strides_that_leave_a_token_without_context_are_refused(stride):
    with pytest.raises(ValueError, match=f"from 1 to the window - 1 = 7 tokens, got {stride}"):
        next(sliding_windows(20, 8, stride))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_losses_are_those_of_each_tokens_own_window(llama, random_data, batch_size):
    task = SlidingPerplexity(random_data, stride=5, document_tokens=45, batch_size=batch_size)
    with install(llama) as installation:
        installation.set([YaRN(factor=2.0).factors(installation.geometry)])
        cell = task.run(llama, [16, 33], lambda tokens: None)
        for length in (16, 33):
            records = [record for record in cell.records if record["length"] == length]
            for document, record in zip(random_data.documents, records, strict=True):
                nats, means = 0.0, []
                for window in sliding_windows(45, length, 5):
                    whole = token_nats(llama, torch.from_numpy(document.ids[None, window.start : window.stop]))[0]
                    own = whole[window.scored - window.start - 1 :].double()
                    nats += own.sum().item()
                    means.append(own.mean().item())
                assert (record["tokens"], record["windows"]) == (44, len(means))
                assert record["nats"] == pytest.approx(nats, rel=1e-5)


def test_the_averages_weigh_tokens_documents_and_windows(llama, make_data, monkeypatch):
    data = make_data([6, 10])

    def by_token_id(model, ids, scored):
        return ids[:, scored].float() / 64

    monkeypatch.setattr(sliding_module, "token_nats", by_token_id)
    cell = SlidingPerplexity(data, stride=3).run(llama, [6], lambda tokens: None)
    values = {m.metric: m.estimate.value for m in cell.measurements}
    short, long = (document.ids / 64 for document in data.documents)
    assert values["token_weighted"] == pytest.approx(math.exp((short[1:].sum() + long[1:].sum()) / 14))
    assert values["document_weighted"] == pytest.approx(math.exp((short[1:].mean() + long[1:].mean()) / 2))
    means = [short[1:6].mean(), long[1:6].mean(), long[6:9].mean(), long[9:].mean()]
    assert values["window_weighted"] == pytest.approx(math.exp(sum(means) / 4))


def test_documents_cut_to_the_window_are_the_truncated_protocol(llama, random_data):
    sliding = SlidingPerplexity(random_data, stride=1, document_tokens=40).run(llama, [40], lambda tokens: None)
    truncated = Perplexity(random_data).run(llama, [40], lambda tokens: None)
    for ours, theirs in zip(sliding.measurements[:2], truncated.measurements, strict=True):
        assert ours.metric == theirs.metric
        assert ours.estimate.value == pytest.approx(theirs.estimate.value, rel=1e-6)


def test_all_lengths_score_the_same_tokens_and_every_forward_is_counted(llama, random_data):
    counted = []
    task = SlidingPerplexity(random_data, stride=7, batch_size=4)
    cell = task.run(llama, [16, 48], counted.append)
    tokens = [[r["tokens"] for r in cell.records if r["length"] == length] for length in (16, 48)]
    assert tokens[0] == tokens[1] == [49, 59, 69, 79]
    assert sum(counted) == task.tokens([16, 48])


def test_a_document_with_a_window_that_failed_is_left_out(llama, make_data, monkeypatch):
    data = make_data([40] * 12)

    def poisoned(model, ids, scored):
        nats = token_nats(model, ids, scored=scored).clone()
        nats[(ids == torch.from_numpy(data.documents[3].ids[-ids.shape[1] :])).all(dim=1)] = math.nan
        return nats

    monkeypatch.setattr(sliding_module, "token_nats", poisoned)
    cell = SlidingPerplexity(data, stride=8).run(llama, [16], lambda tokens: None)
    assert [(f.item, f.error) for f in cell.failures] == [("doc3", "loss is nan")]
    monkeypatch.undo()
    good = replace(data, documents=[d for d in data.documents if d.name != "doc3"])
    expected = SlidingPerplexity(good, stride=8).run(llama, [16], lambda tokens: None)
    assert cell.measurements == expected.measurements


@pytest.mark.parametrize(
    ("lengths", "document_tokens", "message"),
    [([8, 30], None, "= 7 tokens, got 8"), ([51], None, "doc0 with 50"), ([30], 51, "doc0 with 50")],
)
def test_lengths_that_cannot_be_measured_are_refused(llama, random_data, lengths, document_tokens, message):
    with pytest.raises(ValueError, match=message):
        SlidingPerplexity(random_data, stride=8, document_tokens=document_tokens).check(llama, lengths)


def test_the_protocol_names_window_stride_and_truncation(random_data):
    protocol = SlidingPerplexity(random_data, stride=8, document_tokens=30).protocol()
    assert (protocol["protocol"], protocol["stride"], protocol["truncation"]) == ("sliding", 8, "first 30 tokens")
    assert protocol["documents"] == ["doc0", "doc1", "doc2", "doc3"]
