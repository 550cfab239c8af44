import numpy as np
import pytest
import torch

from longrope.evaluation.data.windows import window_pool
from longrope.evaluation.objectives import base, key_tokens
from longrope.evaluation.objectives.key_tokens import KeyTokenObjective
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring.batching import Batcher
from longrope.evaluation.scoring.key_tokens import KeyTokenRule, find_key_tokens, model_losses
from longrope.evaluation.scoring.loss import token_nats
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
            assert (score.tokens, score.forwarded) == (47, 48)
            assert score.nats == pytest.approx(token_nats(llama, ids).sum().item(), rel=1e-5)
    assert len({score.nats for score in scores}) == 5


def test_the_identity_scores_the_pretrained_model(llama, random_data):
    ids = torch.from_numpy(random_data.documents[0].ids[None, :40])
    expected = token_nats(llama, ids).sum().item()
    with install(llama) as installation:
        scorer = PerplexityObjective(llama, installation, random_data.documents, 40, 4)
        assert scorer.score(candidates(1), 0)[0].nats == pytest.approx(expected, rel=1e-6)


def test_a_failing_candidate_leaves_the_others_their_scores(llama, random_data, monkeypatch):
    def poisoned(model, ids, chunk, scored):
        nats = token_nats(model, ids, chunk, scored).clone()
        nats[1, 3] = float("nan")
        return nats

    with install(llama) as installation:
        scorer = PerplexityObjective(llama, installation, random_data.documents, 48, 3)
        good = scorer.score(candidates(3), 0)
        monkeypatch.setattr(base, "token_nats", poisoned)
        bad = scorer.score(candidates(3), 0)
    assert bad[1].nats is None and bad[1].forwarded == 48
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


RULE = KeyTokenRule(alpha=0.4, beta=-6.0, trunc_len=8, sliding_window=4, long_len=32)
"""Random weights tell little, so the thresholds are low."""


def key_token_objective(installation, documents, batch_size=2, windows=2, rule=RULE):
    whole = PerplexityObjective(installation.model, installation, documents, 48, batch_size, windows, opening=1)
    return KeyTokenObjective(whole, rule)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_only_tokens_that_are_key_to_the_evaluator_are_scored(llama, random_data, batch_size):
    with install(llama) as installation:
        objective = key_token_objective(installation, random_data.documents, batch_size)
        pool = window_pool(random_data.documents, 48, 2, 1)
        for index in (0, 5):
            installation.reset()  # the unmodified model, whatever was scored before
            key = find_key_tokens(model_losses(llama), pool[index], RULE)
            assert 0 < len(key) < 40
            for candidate, score in zip(candidates(3), objective.score(candidates(3), index), strict=True):
                installation.set([candidate])
                expected = token_nats(llama, pool[index][None])[0][key - 1].sum().item()
                assert (score.tokens, score.forwarded) == (len(key), 48)
                assert score.nats == pytest.approx(expected, rel=1e-5)


def test_another_window_of_the_document_stands_in_for_one_without_key_tokens(llama, random_data, monkeypatch):
    barren = window_pool(random_data.documents, 48, 3, 1)[[0, 4]].tolist()  # windows 0 and 1 of document 0
    found = find_key_tokens

    def find(losses, ids, rule):
        return torch.empty(0, dtype=torch.long) if ids.tolist() in barren else found(losses, ids, rule)

    monkeypatch.setattr(key_tokens, "find_key_tokens", find)
    with install(llama) as installation:
        objective = key_token_objective(installation, random_data.documents, windows=3)
        third = objective.score(candidates(2), 8)
        assert objective.score(candidates(2), 0) == third == objective.score(candidates(2), 4)
        assert objective.score(candidates(2), 1) != third


def test_documents_without_key_tokens_are_refused_by_name_before_the_search(llama, random_data):
    with install(llama) as installation, pytest.raises(ValueError, match="got none in doc0; .*lower alpha"):
        key_token_objective(installation, random_data.documents, rule=KeyTokenRule(50.0, -6.0, 8, 4, 32))


def limited_memory(limit, sizes):
    def double(batch):
        sizes.append(len(batch))
        if len(batch) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * item for item in batch]

    return double


def test_batches_halve_until_they_fit_and_stay_small():
    batcher, sizes = Batcher(8), []
    with pytest.warns(UserWarning, match="memory ran out in a pass of 6; it goes on by 3"):
        assert batcher.map(limited_memory(3, sizes), range(6)) == [0, 2, 4, 6, 8, 10]
    assert sizes == [6, 3, 3]
    assert batcher.map(limited_memory(3, sizes), range(4)) == [0, 2, 4, 6]
    assert max(sizes[3:]) <= 3


def test_a_single_item_that_does_not_fit_raises():
    with pytest.raises(torch.OutOfMemoryError):
        Batcher(4).map(limited_memory(0, []), range(4))
