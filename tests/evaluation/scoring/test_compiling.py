"""Compiled layers give the losses of plain ones; they are compiled for one row and for several, and never again."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from longrope.evaluation.objectives.gradients import GradientObjective
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.scoring.compiling import compile_tokenwise
from longrope.rope import install
from longrope.rope.methods import Linear, YaRN


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_candidates_and_lengths_share_what_is_compiled(make_llama: Any, make_data: Any) -> None:
    documents, plain, compiled = make_data([64]).documents, make_llama(), make_llama()
    counter = CompileCounterWithBackend("eager")
    compile_tokenwise(compiled, counter)
    counts = []
    with install(plain) as expected, install(compiled, canary=False) as found:
        both = [[YaRN(8.0), Linear(2.0)], [Linear(3.0), YaRN(2.0)]]
        for length, methods in ((48, [YaRN(2.0)]), (64, [Linear(4.0)]), (64, both[0]), (48, both[1])):
            factors = [method.factors(expected.geometry) for method in methods]
            pairs = [(plain, expected), (compiled, found)]
            ours, theirs = (
                PerplexityObjective(model, installation, documents, length, 2).score(factors, 0)
                for model, installation in pairs
            )
            assert [one.nats for one in theirs] == pytest.approx([one.nats for one in ours], rel=1e-5)
            counts.append(counter.frame_count)
    assert counts[0] > 0 and counts == [counts[0]] * 2 + [2 * counts[0]] * 2


def test_derivatives_go_through_compiled_layers(make_llama: Any, make_data: Any) -> None:
    documents, gradients = make_data([48]).documents, []
    for compiled in (False, True):
        model = make_llama()
        if compiled:
            compile_tokenwise(model, "eager")
        with install(model, canary=False) as installation:
            objective = GradientObjective(PerplexityObjective(model, installation, documents, 48, 1))
            gradients.append(objective.gradient(YaRN(2.0).factors(installation.geometry), 0))
    assert gradients[1].error is None
    assert gradients[1].d_log_lambda == pytest.approx(gradients[0].d_log_lambda, rel=1e-3, abs=1e-4)
