import pytest
import torch

from longrope.evaluation.scoring.generation import NOT_FINITE, end_tokens, greedy
from longrope.rope import install
from longrope.rope.methods import NTK


def prompts(rows=3, tokens=40):
    return torch.randint(0, 64, (rows, tokens), generator=torch.Generator().manual_seed(0))


def test_greedy_decoding_with_a_cache_equals_rereading_everything(llama):
    ids = prompts()
    with install(llama) as installation:
        installation.set([NTK(factor=2.0).factors(installation.geometry)])
        tokens = greedy(llama, ids, 6)
        whole = ids
        with torch.no_grad():
            for _ in range(6):
                following = llama(input_ids=whole, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
                whole = torch.cat([whole, following], dim=1)
    assert torch.equal(tokens, whole[:, 40:])


class Lengths:
    """Remembers how many tokens each forward of a model read."""

    def __init__(self, model):
        self.read = []
        model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module, args, kwargs):
        self.read.append(kwargs["input_ids"].shape[1])


@pytest.mark.parametrize("chunk", [1, 7, 13, 39, 40, 41])
@pytest.mark.parametrize("start_tokens", [0, 10])
def test_reading_the_prompt_in_chunks_changes_no_answer(llama, chunk, start_tokens):
    from dataclasses import replace

    ids = prompts()
    with install(llama) as installation:
        factors = NTK(factor=4.0).factors(installation.geometry)
        installation.set([replace(factors, start_tokens=start_tokens)])
        expected = greedy(llama, ids, 6, prefill_chunk=1000)
        lengths = Lengths(llama)
        assert torch.equal(greedy(llama, ids, 6, prefill_chunk=chunk), expected)
    assert max(lengths.read) == min(chunk, 40)
    assert sum(lengths.read) == 40 + 5


def test_logits_that_are_not_finite_are_marked_and_no_guess(llama):
    with torch.no_grad():
        llama.lm_head.weight[3] = float("nan")
    assert greedy(llama, torch.zeros(1, 5, dtype=torch.long), 2).tolist() == [[NOT_FINITE, NOT_FINITE]]


def test_a_row_that_ended_repeats_its_end_while_others_go_on(llama):
    ids = prompts(8)
    free = greedy(llama, ids, 6)
    end = int(free[0, 1])
    tokens = greedy(llama, ids, 6, ends={end})
    assert not torch.equal(tokens, free[:, : tokens.shape[1]])
    for row, expected in zip(tokens.tolist(), free.tolist(), strict=True):
        stop = expected.index(end) + 1 if end in expected else 6
        assert row[:stop] == expected[:stop]
        assert set(row[stop:]) <= {end}


def test_decoding_stops_when_all_rows_have_ended(llama):
    ids = prompts(1)
    free = greedy(llama, ids, 6)[0].tolist()
    end = free[2]
    tokens = greedy(llama, ids, 6, ends={end})[0].tolist()
    assert tokens == free[: free.index(end) + 1]


def test_the_first_tokens_are_no_end_as_in_transformers(llama):
    ids = prompts(1)
    end = int(greedy(llama, ids, 1)[0, 0])
    options = {"min_length": ids.shape[1] + 1, "eos_token_id": end, "pad_token_id": 0, "do_sample": False}
    options["attention_mask"] = torch.ones_like(ids)
    expected = llama.generate(ids, max_new_tokens=6, **options)[:, ids.shape[1] :]
    assert torch.equal(greedy(llama, ids, 6, ends={end}, min_tokens=1), expected)
    assert greedy(llama, ids, 6, ends={end}).tolist() == [[end]]
    assert expected[0, 0] != end


def test_end_tokens_are_the_generation_configs_else_the_tokenizers(llama, tokenizer):
    llama.generation_config.eos_token_id = [5, 9]
    assert end_tokens(llama, tokenizer) == {5, 9}
    llama.generation_config.eos_token_id = 7
    assert end_tokens(llama, tokenizer) == {7}
    llama.generation_config.eos_token_id = None
    assert end_tokens(llama, tokenizer) == frozenset()  # this tokenizer has none
