"""Packs against brute force: every token once, exact lengths, and packed documents that don't see each other."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evaluation.scoring.loss import IGNORED, target_nats, token_nats
from longrope.rope import install
from longrope.rope.methods import YaRN
from longrope.training import Packer

LEADING, CLOSING = [0], [1]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.lists(st.integers(2, 30), min_size=1, max_size=12), min_size=1, max_size=5),
    length=st.integers(3, 9),
    mask=st.booleans(),
    closing=st.sampled_from([[], CLOSING]),
    seed=st.integers(0, 3),
)
def test_packs_hold_every_token_of_a_pass_once_in_order(texts, length, mask, closing, seed, listed):
    documents = listed([[*range(100 * i, 100 * i + len(text))] for i, text in enumerate(texts, 1)])
    packer = Packer(documents, length, LEADING, closing, mask)
    per_pass = sum(len(text) + len(closing) for text in texts)
    plan = packer.plan(per_pass, seed)  # each pack holds at least one token of text: more than a pass
    packs = [packer.pack(pieces) for pieces in plan]
    assert all(len(array) == length for pack in packs for array in (pack.ids, pack.positions, pack.targets))
    assert all(pack.ids[0] == 0 for pack in packs)
    stream = [token for pieces in islice(packer.cut(seed), per_pass) for token in packer.pack(pieces).ids if token != 0]
    seen = [[t for t in stream[:per_pass] if t // 100 == i] for i in range(1, len(texts) + 1)]
    assert seen == [[*range(100 * i, 100 * i + len(text))] for i, text in enumerate(texts, 1)]
    assert stream[:per_pass].count(1) == len(closing) * len(texts)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=12), num_packs=st.integers(1, 80), seed=st.integers(0, 9)
)
def test_the_packs_of_a_plan_are_drawn_without_replacement(lengths, num_packs, seed, listed):
    packer = Packer(listed([[7] * length for length in lengths]), 6, LEADING, CLOSING)
    plan = packer.plan(num_packs, seed)
    assert len(plan) == num_packs and plan == packer.plan(num_packs, seed)
    texts = sum(length + 1 for length in lengths)
    stream = packer.cut(seed)
    pool = list(islice(stream, num_packs))
    assert set(plan) <= {*pool, *islice(stream, texts)}
    if sum(piece.stop - piece.start for pieces in pool for piece in pieces) >= texts:
        assert Counter(plan) == Counter(pool), "a pass and more: all packs that there are"
    else:
        assert max(Counter(plan).values()) == 1


def test_a_batch_is_of_many_documents(make_documents):
    packer = Packer(make_documents([1000] * 100), 16, LEADING)
    batches = np.array([[pieces[0].document for pieces in packer.plan(64, seed)] for seed in range(20)])
    assert min(len(set(batch)) for batch in batches) > 30, "64 packs of a pass in order would be of one or two"
    packer = Packer(make_documents([100_000] * 3), 16, LEADING)
    assert len({pieces[0].document for pieces in packer.plan(10, 0)}) == 1, "SPREAD times 10 packs are of one document"


def test_windows_of_long_documents_leave_out_the_short_ones(make_documents):
    documents = make_documents([5, 40, 6, 50])
    plan = Packer(documents, 16, LEADING, CLOSING, min_tokens=20).plan(12, seed=0)
    assert {piece.document for pieces in plan for piece in pieces} == {1, 3}
    with pytest.raises(ValueError, match="min_tokens = 51 tokens, got at most 50"):
        Packer(documents, 16, LEADING, min_tokens=51).plan(1, seed=0)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("rescaled", [False, True])
def test_the_loss_of_packed_short_documents_is_that_of_each_alone(llama, make_documents, attention, rescaled):
    llama.set_attn_implementation(attention)
    documents = make_documents([9, 13, 7, 11, 24])
    packer = Packer(documents, 32, LEADING, CLOSING, mask_documents=True)
    plan = packer.plan(2, seed=3)
    packs = [packer.pack(pieces) for pieces in plan]
    ids, positions, targets = (
        torch.from_numpy(np.stack([getattr(pack, name) for pack in packs])) for name in ("ids", "positions", "targets")
    )
    with install(llama) as installation, torch.no_grad():
        if rescaled:
            installation.set([YaRN(4.0).factors(installation.geometry)])
        states = llama.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        packed = target_nats(llama, states, targets, chunk=10)
        assert len(plan[0]) > 1, "the test needs several documents in a pack"
        for row, pieces in enumerate(plan):
            at = 0
            for piece in pieces:
                size = min(len(LEADING) + piece.stop - piece.start, 32 - at)
                alone = token_nats(llama, ids[row : row + 1, at : at + size])[0]
                assert torch.allclose(packed[row, at : at + size - 1], alone, atol=1e-5)
                if at + size <= 32:
                    assert targets[row, at + size - 1] == IGNORED
                at += size


def test_without_a_mask_tokens_see_the_documents_before(llama, make_documents):
    packer = Packer(make_documents([9, 13, 7, 11]), 32, LEADING, CLOSING)
    pack = packer.pack(packer.plan(1, seed=3)[0])
    assert pack.positions.tolist() == list(range(32))
    assert pack.targets.tolist() == [*pack.ids[1:].tolist(), IGNORED]
    ids = torch.from_numpy(pack.ids)[None]
    with torch.no_grad():
        states = llama.base_model(input_ids=ids, use_cache=False).last_hidden_state
        nats = target_nats(llama, states, torch.from_numpy(pack.targets)[None])
    assert torch.allclose(nats[0, :-1], token_nats(llama, ids)[0], atol=1e-5)
    assert nats[0, -1] == 0
