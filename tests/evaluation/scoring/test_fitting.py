"""Where memory runs out in a pass over one window or prompt, it runs again in smaller chunks, and gives the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from longrope.evaluation.objectives.gradients import GradientObjective
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring import batching, generation
from longrope.evaluation.scoring.batching import fitting_rows, in_fitting_chunks
from longrope.evaluation.scoring.generation import greedy
from longrope.evaluation.scoring.loss import token_nats
from longrope.rope import install
from longrope.rope.methods import YaRN


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batching, generation):
        monkeypatch.setattr(module, "ROWS", 64)
    monkeypatch.setattr(batching, "LEAST_ROWS", 4)


@pytest.fixture
def starve(llama: Any) -> Callable[[int], None]:
    """Let the feed-forward layers of the model hold so many tokens only."""

    def limit(tokens: int) -> None:
        def hook(module: torch.nn.Module, args: Any) -> None:
            if args[0].shape[:-1].numel() > tokens:
                raise torch.OutOfMemoryError("tried to allocate 2 TiB")

        for layer in llama.model.layers:
            layer.mlp.gate_proj.register_forward_pre_hook(hook)

    return limit


def ids(rows: int = 1) -> torch.Tensor:
    return torch.randint(0, 64, (rows, 40), generator=torch.Generator().manual_seed(0))


def test_a_window_is_scored_in_smaller_chunks_and_what_fitted_is_remembered(llama: Any, starve: Any) -> None:
    expected = token_nats(llama, ids())
    starve(20)
    assert fitting_rows(llama) == 64
    with pytest.warns(UserWarning, match="memory ran out in a pass; it runs again in chunks of 16 tokens"):
        found = token_nats(llama, ids())
    torch.testing.assert_close(found, expected)
    assert fitting_rows(llama) == 16
    torch.testing.assert_close(token_nats(llama, ids(2))[:1], expected)


def test_several_windows_are_first_divided(llama: Any, starve: Any) -> None:
    starve(50)
    with pytest.raises(torch.OutOfMemoryError):
        token_nats(llama, ids(2))
    assert fitting_rows(llama) == 64
    assert token_nats(llama, ids()).shape == (1, 39)


def test_a_prompt_is_read_in_smaller_chunks(llama: Any, starve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "PREFILL_CHUNK", 32)
    expected = greedy(llama, ids(), 5)
    starve(20)
    with pytest.warns(UserWarning, match="chunks of 16 tokens"):
        assert torch.equal(greedy(llama, ids(), 5), expected)


def test_derivatives_are_made_in_smaller_chunks(llama: Any, starve: Any, make_data: Any) -> None:
    with install(llama) as installation:
        documents = make_data([40]).documents
        objective = GradientObjective(PerplexityObjective(llama, installation, documents, 40, 1))
        factors = YaRN(2.0).factors(installation.geometry)
        expected = objective.gradient(factors, 0)
        starve(20)
        with pytest.warns(UserWarning, match="chunks of 16 tokens"):
            found = objective.gradient(factors, 0)
    assert found.error is None and found.nats == pytest.approx(expected.nats)
    assert found.d_log_lambda == pytest.approx(expected.d_log_lambda, rel=1e-3, abs=1e-3)


def test_what_does_not_fit_in_the_smallest_chunks_raises(llama: Any, starve: Any) -> None:
    starve(2)
    with pytest.warns(UserWarning), pytest.raises(torch.OutOfMemoryError):
        token_nats(llama, ids())
    assert fitting_rows(llama) == 64  # a shorter window may fit


def test_other_errors_are_not_tried_again(llama: Any) -> None:
    calls = []

    def broken(rows: int) -> None:
        calls.append(rows)
        raise RuntimeError("shapes disagree")

    with pytest.raises(RuntimeError, match="shapes disagree"):
        in_fitting_chunks(llama, broken)
    assert calls == [64]


def test_candidates_keep_their_losses_where_memory_runs_out(llama: Any, starve: Any, make_data: Any) -> None:
    with install(llama) as installation:
        objective = PerplexityObjective(llama, installation, make_data([40]).documents, 40, 4)
        candidates = [YaRN(scale).factors(installation.geometry) for scale in (2.0, 3.0, 4.0, 8.0)]
        expected = objective.score(candidates, 0)
        starve(20)
        with pytest.warns(UserWarning) as told:
            found = objective.score(candidates, 0)
    assert [one.error for one in found] == [None] * 4
    assert [one.nats for one in found] == pytest.approx([one.nats for one in expected], rel=1e-5)
    words = [str(one.message) for one in told]
    assert any("in a pass of 4; it goes on by 2" in one for one in words)
    assert any("runs again in chunks of 16 tokens" in one for one in words)
