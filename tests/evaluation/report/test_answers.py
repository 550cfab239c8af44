"""What a report says of short context and of loading."""

from pathlib import Path

import numpy as np
import pytest

from longrope.evaluation.report.answers import loading, short_context
from longrope.evaluation.report.ranking import rank
from longrope.evaluation.report.runs import read_evaluation
from longrope.rope import RopeGeometry, build_method

from .synthetic import losses, write_run


@pytest.fixture
def make(tmp_path: Path):
    """Rank methods by their loss at 256 and 1024 tokens."""

    def build(**means: float):
        records = [
            record
            for name, mean in means.items()
            for at in (256, 1024)
            for record in losses(name, "perplexity", at, mean)
        ]
        run = read_evaluation(write_run(tmp_path / "-".join(means), {"perplexity": records}))
        return rank(run.rows, run.records, "perplexity", "token_weighted", 0)

    return build


def test_the_cost_at_short_context_is_against_the_unmodified_model_within_the_trained_length(make):
    ranking = make(none=2.0, yarn=2.0 + float(np.log(1.1)))
    told = short_context(ranking, "yarn", 256)
    assert told.startswith("At short context (256 of the trained 256 tokens) its perplexity is ")
    assert ": +10.0 % (" in told
    assert told.endswith(", significant, corrected p < 0.001.")
    assert short_context(ranking, "yarn", 1023).startswith("At short context (256 of the trained 1,023 tokens)")
    assert short_context(ranking, "yarn", 1024).startswith("At short context (1,024 of the trained 1,024 tokens)")
    assert short_context(ranking, "none", 256) == "At short context nothing changes: this is the unmodified model."


def test_what_was_not_measured_is_said(make):
    told = "What it costs at short context was not measured: evaluate a length within the trained "
    assert short_context(make(none=2.0, yarn=2.1), "yarn", 255) == f"{told}255 tokens, with the method none."
    assert short_context(make(linear=2.0, yarn=2.1), "yarn", 256) == f"{told}256 tokens, with the method none."
    assert short_context(make(none=2.0, yarn=2.1), "yarn", None) == f"{told}tokens, with the method none."


def test_factors_are_loaded_from_their_source_and_baselines_by_their_name():
    config = {"model": "M", "factors": ("runs/a", "mine=hf://me/b")}
    assert loading("longrope", None, config).startswith(
        'To load it: apply_factors(model, "runs/a") in Python; for other '
    )
    assert "export --model M --factors hf://me/b --output-dir exported" in loading("mine", None, config)
    assert loading("none", None, config) == "To load it: the model as it is."
    assert loading("lost", None, {}) == "To load it: apply_factors(model, ...) with the factors of lost."
    geometry = RopeGeometry(16, 10000.0, 256)
    factors = build_method("yarn:beta_fast=16", 8.0).factors(geometry)
    told = loading("yarn:beta_fast=16", vars(factors), config)
    assert 'build_method("yarn:beta_fast=16", 8).factors(rope_geometry(model))' in told
