"""Our perplexities are lm-eval's rolling log-likelihood of the same documents, with and without rescale factors.

The protocol that both share: BOS in front of a document and not scored, every other token scored once, one token of
context carried into each window after the first, the last window as far back as it reaches. Here that is
`perplexity_sliding` with stride = window - 1; in lm-eval `max_length = window - 1` (it counts what goes into the model,
we count the last target too) and `add_bos_token=False`, without which a tokenizer that adds BOS gets two. In float32:
lm-eval adds up log-probabilities in the model's dtype, which is off by 1e-3 in bfloat16, where ours are float32.
"""

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from longrope.evaluation.data.corpus import read_documents
from longrope.evaluation.data.tokenized import TokenDocument, TokenizedDocuments, TokensInfo
from longrope.evaluation.tasks.perplexity import Perplexity
from longrope.evaluation.tasks.sliding import SlidingPerplexity
from longrope.rope import install
from longrope.rope.methods import YaRN

pytest.importorskip("lm_eval")

EMBEDDED = Path(__file__).parents[3] / "examples" / "tiny" / "model"
METHODS = {"none": None, "yarn": YaRN(factor=4.0)}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(EMBEDDED)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype="float32").eval()


@pytest.fixture(scope="module")
def texts():
    found = (d.text for d in read_documents("python-packages", "eval") if 12_000 < len(d.text) < 14_000)
    return [text for text, _ in zip(found, range(3), strict=False)]


def tokenized(texts, tokenizer):
    documents = [TokenDocument(f"doc{i}", np.array(tokenizer.encode(text))) for i, text in enumerate(texts)]
    return TokenizedDocuments(documents, TokensInfo({}, "", len(tokenizer), "bos", len(texts), 0, ""))


def rolling_nats(model, tokenizer, texts, max_length):
    lm = pytest.importorskip("lm_eval.models.huggingface").HFLM(
        pretrained=model, tokenizer=tokenizer, max_length=max_length, add_bos_token=False, batch_size=1
    )
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    requests = [instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    return [-value for value in lm.loglikelihood_rolling(requests, disable_tqdm=True)]


def installed(model, method):
    installation = install(model)
    if method is not None:
        installation.set([method.factors(installation.geometry)])
    return installation


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("window", [100, 257])
def test_sliding_windows_by_all_but_one_token_are_lm_evals_rolling_windows(model, tokenizer, texts, window, method):
    data = tokenized(texts, tokenizer)
    with installed(model, METHODS[method]):
        ours = SlidingPerplexity(data, stride=window - 1, batch_size=4).run(model, [window], lambda tokens: None)
        theirs = rolling_nats(model, tokenizer, texts, window - 1)
    for record, document, nats in zip(ours.records, data.documents, theirs, strict=True):
        assert record["tokens"] == len(document.ids) - 1
        assert record["windows"] > 2
        assert record["nats"] == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_truncated_document_is_one_window_of_lm_eval(model, tokenizer, texts, method):
    for text in texts:
        data = tokenized([text], tokenizer)
        length = len(data.documents[0].ids)
        with installed(model, METHODS[method]):
            ours = Perplexity(data).run(model, [length], lambda tokens: None).records[0]
            (nats,) = rolling_nats(model, tokenizer, [text], length)
        assert ours["tokens"] == length - 1
        assert ours["nats"] == pytest.approx(nats, rel=1e-5)
