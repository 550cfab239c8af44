import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from longrope.evaluation.scoring import loss
from longrope.evaluation.scoring.loss import CHUNK, document_score, document_scores, positions_at_once, token_nats

TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.3,
}
FAMILIES = {
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**TINY, head_dim=16, final_logit_softcapping=2.0)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**TINY, logit_scale=0.25)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**TINY, logits_scaling=4.0)),
}


def random_ids(rows, tokens):
    return torch.randint(0, TINY["vocab_size"], (rows, tokens), generator=torch.Generator().manual_seed(1))


def reference_nats(model, ids):
    with torch.no_grad():
        log_probabilities = model(input_ids=ids).logits[:, :-1].float().log_softmax(-1)
    return -log_probabilities.gather(-1, ids[:, 1:, None])[..., 0]


@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_token_losses_equal_the_log_softmax_of_full_logits(llama, chunk):
    ids = random_ids(3, 40)
    assert torch.allclose(token_nats(llama, ids, chunk), reference_nats(llama, ids), atol=1e-5)


@pytest.mark.parametrize("in_cache", [1, 64 * 7, 64 * 1000])
def test_token_losses_and_their_gradient_are_the_same_in_pieces_that_stay_in_the_cache(llama, monkeypatch, in_cache):
    monkeypatch.setattr(loss, "IN_CACHE", in_cache)
    ids = random_ids(3, 40)
    assert torch.allclose(token_nats(llama, ids), reference_nats(llama, ids), atol=1e-5)
    weight = llama.model.layers[0].mlp.up_proj.weight
    (expected,) = torch.autograd.grad(llama(input_ids=ids, labels=ids).loss, weight)
    (found,) = torch.autograd.grad(loss.differentiable_token_nats(llama, ids).mean(), weight)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, 512])
def test_the_losses_of_some_tokens_are_those_of_all_at_their_places(llama, chunk):
    ids = random_ids(3, 40)
    places = torch.tensor([1, 2, 17, 30, 39])
    some = token_nats(llama, ids, chunk, scored=places)
    assert torch.allclose(some, reference_nats(llama, ids)[:, places - 1], atol=1e-5)


def test_mean_loss_equals_the_models_own_labels_loss(llama):
    ids = random_ids(2, 40)
    with torch.no_grad():
        expected = llama(input_ids=ids, labels=ids).loss.item()
    assert token_nats(llama, ids).mean().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_logit_scaling_and_capping_of_other_families_are_applied(family):
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    model.set_attn_implementation("eager")  # gemma2 refuses sdpa
    ids = random_ids(2, 24)
    assert torch.allclose(token_nats(model, ids, chunk=8), reference_nats(model, ids), atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_iter(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


def test_full_logits_never_exist(make_llama):
    vocab_size, tokens, chunk = 5000, 64, 32
    model = make_llama(vocab_size=vocab_size)
    ids = torch.zeros(2, tokens, dtype=torch.long)
    with LargestTensor() as chunked:
        token_nats(model, ids, chunk)
    with LargestTensor() as whole:
        token_nats(model, ids, chunk=2 * tokens)
    assert chunked.elements == chunk * vocab_size  # as large as the head's weight (hidden 32), which is unavoidable
    assert whole.elements >= 2 * (tokens - 1) * vocab_size > chunked.elements


def test_a_loss_that_is_not_finite_is_an_error_and_no_number():
    score = document_score(torch.tensor([1.0, math.nan]))
    assert score.nats is None
    assert score.tokens == 2
    assert "nan" in str(score.error)


def test_documents_are_scored_together_as_alone():
    nats = torch.rand(3, 50, generator=torch.Generator().manual_seed(0))
    nats[1, 7] = math.inf
    together = document_scores(nats)
    assert [one.nats for one in together[::2]] == pytest.approx([document_score(nats[row]).nats for row in (0, 2)])
    assert together[1] == document_score(nats[1])
    assert together[1].nats is None


def test_a_large_vocabulary_has_few_positions_at_once_and_a_small_one_no_more_logits():
    assert positions_at_once(128_256) == CHUNK
    for vocabulary in (64, 2048, 8192):
        assert CHUNK <= positions_at_once(vocabulary) < CHUNK * 128_256 / vocabulary


def test_a_document_score_sums_in_double_precision():
    nats = torch.full((1_000_000,), 0.1)
    assert document_score(nats).nats == pytest.approx(float(torch.tensor(0.1)) * 1_000_000, rel=1e-9)
