import pytest
import torch

from longrope.evaluation.scoring.loss import token_nats
from longrope.evaluation.tasks.tail import TailPerplexity


def test_the_same_tokens_are_scored_under_every_context(llama, make_data):
    data = make_data([60, 70, 50])
    task = TailPerplexity(data, end=48, tail_tokens=8, leading_tokens=1, batch_size=2)
    task.check(llama, [16, 32, 48])
    for length in (16, 32, 48):
        cell = task.run(llama, [length], lambda tokens: None)
        for record, document in zip(cell.records, data.documents, strict=True):
            window = [document.ids[0], *document.ids[48 - length + 1 : 48]]
            nats = token_nats(llama, torch.tensor([window]))[0]
            assert record["tokens"] == 8
            assert record["nats"] == pytest.approx(nats[-8:].double().sum().item(), rel=1e-5)
    assert task.tokens([48]) == 3 * 48


@pytest.mark.parametrize(
    ("end", "length", "message"), [(48, 8, "at least 10 tokens"), (64, 16, "documents of 50 or more")]
)
def test_lengths_and_documents_that_do_not_fit_are_refused(llama, make_data, end, length, message):
    with pytest.raises(ValueError, match=message):
        TailPerplexity(make_data([60, 70, 50]), end, 8, 1).check(llama, [length])
