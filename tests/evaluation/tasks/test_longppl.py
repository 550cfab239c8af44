import json
import math
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from longrope.evaluation.data.tokenized import TokenDocument
from longrope.evaluation.scoring.key_tokens import KeyTokenRule, find_key_tokens, model_losses
from longrope.evaluation.scoring.loss import token_nats
from longrope.evaluation.tasks import longppl as longppl_module
from longrope.evaluation.tasks.longppl import Evaluator, KeyTokens, LongPPL, load_key_tokens

from ..scoring.test_key_tokens import RULE, Oracle

LOW = KeyTokenRule(alpha=0.4, beta=-6.0, trunc_len=16, sliding_window=4)


@contextmanager
def opened(evaluator):
    yield evaluator


def never():
    raise AssertionError("the evaluator was asked again")


def planted(data, *places):
    """Key tokens at given places of the documents."""
    found = {d.digest: tuple(own) for d, own in zip(data.documents, places, strict=True)}
    return KeyTokens(50, {"rule": {"trunc_len": 16}, "evaluator": {"name": "hand"}}, found)


def test_longppl_is_exp_of_the_nats_of_all_key_tokens_over_their_number(llama, random_data):
    places = [[16, 20, 45], [], [30], [17, 18, 19, 20, 21]]
    task = LongPPL(random_data, planted(random_data, *places), batch_size=3)
    task.check(llama, [20, 50])
    cell = task.run(llama, [20, 50], lambda tokens: None)
    for length in (20, 50):
        own = [[place for place in row if place < length] for row in places]
        nats = [token_nats(llama, torch.from_numpy(d.ids[None, :length]))[0] for d in random_data.documents]
        total = sum(row[place - 1].item() for row, kept in zip(nats, own, strict=True) for place in kept)
        longppl, share = [m for m in cell.measurements if m.length == length]
        assert (longppl.metric, share.metric) == ("longppl", "key_token_share")
        assert longppl.estimate.value == pytest.approx(math.exp(total / sum(map(len, own))), rel=1e-5)
        assert longppl.estimate.n == sum(map(bool, own))
        assert share.estimate.value == pytest.approx(sum(map(len, own)) / (4 * (length - 1)), rel=1e-12)
        assert share.estimate.n == 4
        assert [r["tokens"] for r in cell.records if r["length"] == length] == [len(kept) for kept in own]


def test_batches_and_lengths_in_one_forward_change_nothing(llama, random_data):
    key_tokens = planted(random_data, [16, 20, 45], [22], [30], [17, 18])
    alone = [LongPPL(random_data, key_tokens).run(llama, [length], lambda tokens: None) for length in (32, 50)]
    together = LongPPL(random_data, key_tokens, batch_size=4).run(llama, [32, 50], lambda tokens: None)
    for one, other in zip(together.measurements, [m for cell in alone for m in cell.measurements], strict=True):
        assert one[:2] == other[:2]
        assert one.estimate.value == pytest.approx(other.estimate.value, rel=1e-5)


def test_a_failed_document_with_key_tokens_is_listed_and_one_without_is_not(llama, make_data, monkeypatch):
    data = make_data([40] * 12)
    forwards = iter(range(1000))

    def poisoned(model, ids):
        nats = token_nats(model, ids).clone()
        nats[:, 19] = math.inf if next(forwards) in (3, 4) else 1.0
        return nats

    monkeypatch.setattr(longppl_module, "token_nats", poisoned)
    places = [[20, 25]] * 4 + [[]] + [[20]] * 7
    cell = LongPPL(data, planted(data, *places)).run(llama, [40], lambda tokens: None)
    assert [(f.length, f.item) for f in cell.failures] == [(40, "doc3")]
    assert cell.measurements[0].estimate.n == 10


def test_lengths_without_key_tokens_or_beyond_the_known_ones_are_refused(llama, random_data):
    task = LongPPL(random_data, planted(random_data, [30], [], [], []))
    with pytest.raises(ValueError, match="got none in the first 30 tokens of 4 documents; the first 16 tokens"):
        task.check(llama, [30])
    task.check(llama, [31])
    with pytest.raises(ValueError, match="at most the 50 tokens whose key tokens are known, got 51"):
        task.check(llama, [51])


def own(llama):
    return lambda: opened(Evaluator(model_losses(llama)))


def test_key_tokens_of_a_model_are_found_in_every_document_and_cut_with_it(llama, random_data, tokenizer, tmp_path):
    found = load_key_tokens(random_data, 48, LOW, own(llama), {"name": "tiny"}, tokenizer, tmp_path)
    for document in random_data.documents:
        ids = torch.from_numpy(document.ids[:48])
        assert found.of(document, 48) == find_key_tokens(model_losses(llama), ids, LOW).tolist()
        assert found.of(document, 30) == [place for place in found.of(document, 48) if place < 30]
    assert any(found.places.values())


def test_key_tokens_are_found_once_per_evaluator_rule_and_data(llama, random_data, tokenizer, tmp_path):
    def load(data=random_data, length=48, rule=LOW, identity="one", evaluator=None):
        return load_key_tokens(
            data, length, rule, evaluator or own(llama), {"evaluator": identity}, tokenizer, tmp_path
        )

    first = load()
    assert load(evaluator=never) == first
    changed = replace(random_data, documents=random_data.documents[:3])
    others: list[dict[str, Any]] = [
        {"data": changed}, {"length": 40}, {"rule": replace(LOW, alpha=0.5)}, {"identity": "another"},
    ]  # fmt: skip
    for other in others:
        with pytest.raises(AssertionError, match="asked again"):
            load(**other, evaluator=never)
    (path,) = tmp_path.glob("key_tokens-*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 0}))
    with pytest.raises(ValueError, match="as longrope wrote it, .*delete it"):
        load()


@pytest.fixture
def words():
    """Forty different words, and a tokenizer that knows each, with a special token in front."""
    words = [chr(97 + i // 26) + chr(97 + i % 26) * 3 for i in range(40)]
    inner = Tokenizer(models.WordLevel({"<w>": 0, "?": 1} | {word: i + 2 for i, word in enumerate(words)}, "?"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<w> $A", special_tokens=[("<w>", 0)])
    return words, PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<w>", unk_token="?")


def test_key_tokens_of_another_tokenizer_are_mapped_by_their_characters(words, tokenizer, make_data, tmp_path):
    words, word_tokenizer = words
    text = " ".join(words)
    data = replace(make_data([1]), documents=[TokenDocument("text", np.array(tokenizer.encode(text)))])
    oracle = Oracle({27: 3, 28: 3, 38: 2})  # of the evaluator's ids: word i has the id i + 2
    evaluator = Evaluator(oracle, word_tokenizer)
    found = load_key_tokens(data, 150, RULE, lambda: opened(evaluator), {"model": "oracle"}, tokenizer, tmp_path)
    document = data.documents[0]
    assert tokenizer.decode(document.ids[found.of(document, 150)]) == words[25] + words[26]
    assert oracle.calls[0] == (1, 31)  # what is left of the text: 29 words and a cut one, behind the special token


def test_documents_that_their_tokenizer_does_not_give_again_are_refused(words, tokenizer, make_data, tmp_path):
    _, word_tokenizer = words
    data = make_data([60], vocab_size=200)
    evaluator = Evaluator(Oracle({}), word_tokenizer)
    with pytest.raises(ValueError, match="got other tokens for doc0; use an evaluator with the tokenizer"):
        load_key_tokens(data, 60, RULE, lambda: opened(evaluator), {}, tokenizer, tmp_path)


def test_the_protocol_names_evaluator_rule_and_documents(random_data):
    protocol = LongPPL(random_data, planted(random_data, [], [], [], [20])).protocol()
    assert json.loads(json.dumps(protocol))["key_tokens"]["rule"] == {"trunc_len": 16}
    assert protocol["note"] == "Key tokens were chosen by hand."
    assert protocol["documents"] == [f"doc{i}" for i in range(4)]
