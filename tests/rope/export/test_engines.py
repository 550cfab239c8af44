"""What an engine was measured to get wrong is said, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from longrope.rope import RescaleFactors
from longrope.rope.attention_factor import su
from longrope.rope.export.engines import departure

FACTORS = RescaleFactors(np.linspace(1, 8, 4), 256, 2048, 1e4, 8, 1.25)


def test_version_4_takes_phi3_with_su_only() -> None:
    said = departure("transformers4", "phi3", FACTORS)
    assert said is not None
    assert "attention factor 1.25" in said
    assert "1.17" in said
    assert departure("transformers4", "phi3", replace(FACTORS, attention_factor=su(8, 256))) is None


@pytest.mark.parametrize(("engine", "model_type"), [("transformers4", "llama"), ("vllm", "phi3"), ("vllm", "gemma3")])
def test_engines_that_agree_are_not_warned_of(engine: str, model_type: str) -> None:
    assert departure(engine, model_type, FACTORS) is None
