import numpy as np
import pytest
import torch

from longrope.evaluation import objective as objective_module
from longrope.evaluation.batching import Batcher
from longrope.evaluation.loss import token_nats
from longrope.evaluation.objective import PerplexityObjective, window_pool
from longrope.rope import RescaleFactors, install


def candidates(count):
    ramps = [np.linspace(1, 1 + 2 * c, 8) for c in range(count)]
    return [RescaleFactors(ramp, 32, 64, 10000.0, 16) for ramp in ramps]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batched_candidates_score_as_if_each_were_alone(llama, random_data, batch_size):
    with install(llama) as installation:
        scorer = PerplexityObjective(llama, installation, random_data.documents, 48, batch_size)
        scores = scorer.score(candidates(5), document=1)
        ids = torch.from_numpy(random_data.documents[1].ids[None, :48])
        for candidate, score in zip(candidates(5), scores, strict=True):
            installation.set([candidate])
            assert score.tokens == 47
            assert score.nats == pytest.approx(token_nats(llama, ids).sum().item(), rel=1e-5)
    assert len({score.nats for score in scores}) == 5


def test_the_identity_scores_the_pretrained_model(llama, random_data):
    ids = torch.from_numpy(random_data.documents[0].ids[None, :40])
    expected = token_nats(llama, ids).sum().item()
    with install(llama) as installation:
        scorer = PerplexityObjective(llama, installation, random_data.documents, 40, 4)
        assert scorer.score(candidates(1), 0)[0].nats == pytest.approx(expected, rel=1e-6)


def test_a_failing_candidate_leaves_the_others_their_scores(llama, random_data, monkeypatch):
    def poisoned(model, ids):
        nats = token_nats(model, ids).clone()
        nats[1, 3] = float("nan")
        return nats

    with install(llama) as installation:
        scorer = PerplexityObjective(llama, installation, random_data.documents, 48, 3)
        good = scorer.score(candidates(3), 0)
        monkeypatch.setattr(objective_module, "token_nats", poisoned)
        bad = scorer.score(candidates(3), 0)
    assert bad[1].nats is None
    assert "nan" in str(bad[1].error)
    assert [bad[0], bad[2]] == [good[0], good[2]]


def test_documents_shorter_than_the_target_are_refused_by_name(llama, make_data):
    with install(llama) as installation, pytest.raises(ValueError, match=r"at least 64 tokens, got doc1 with 63"):
        PerplexityObjective(llama, installation, make_data([64, 63]).documents, 64, 1)


def test_windows_are_spread_over_the_documents_behind_their_opening_and_first_windows_come_first(make_data):
    documents = make_data([20, 14]).documents
    pool = window_pool(documents, length=8, count=3, opening=1)
    first, second = (document.ids.tolist() for document in documents)
    starts = [(first, 0), (second, 0), (first, 6), (second, 3), (first, 12), (second, 6)]
    assert pool.tolist() == [ids[:1] + ids[start + 1 : start + 8] for ids, start in starts]


def limited_memory(limit, sizes):
    def double(batch):
        sizes.append(len(batch))
        if len(batch) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * item for item in batch]

    return double


def test_batches_halve_until_they_fit_and_stay_small():
    batcher, sizes = Batcher(8), []
    assert batcher.map(limited_memory(3, sizes), range(6)) == [0, 2, 4, 6, 8, 10]
    assert sizes == [6, 3, 3]
    assert batcher.map(limited_memory(3, sizes), range(4)) == [0, 2, 4, 6]
    assert max(sizes[3:]) <= 3


def test_a_single_item_that_does_not_fit_raises():
    with pytest.raises(torch.OutOfMemoryError):
        Batcher(4).map(limited_memory(0, []), range(4))
