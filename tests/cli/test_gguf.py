"""Every command that takes a model takes a GGUF file."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from longrope.cli.main import main
from longrope.evaluation.comparison.results import model_fingerprint, read_results
from longrope.rope import RescaleFactors

from .small import tokenize_words


@pytest.fixture(scope="module")
def tokens(gguf_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenize_words(gguf_model, tmp_path_factory.mktemp("texts") / "tokens", count=30)


def test_search_and_evaluate_run_on_a_gguf_and_name_it(gguf_model: Path, tokens: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    common = ["--model", str(gguf_model), "--tokenized", str(tokens)]
    search = [*common, "--target-length", "64", "--samples", "2", "--max-scored-tokens", "6400"]
    search += ["--max-scored-tokens", "4000", "--output-dir", str(tmp_path / "run"), "--trackers", "none"]
    assert main(["search", *search, "--estimate"]) == 0
    assert main(["search", *search]) == 0
    evaluate = [*common, "--factors", str(tmp_path / "run"), "--methods", "none", "yarn", "--lengths", "64"]
    evaluate += ["--samples", "2", "--tasks", "perplexity", "--output-dir", str(tmp_path / "run")]
    assert main(["evaluate", *evaluate]) == 0
    results = read_results(tmp_path / "run" / "results.json")
    digest = model_fingerprint(AutoModelForCausalLM.from_pretrained, str(gguf_model))["sha256"]  # type: ignore[arg-type]
    assert results.provenance["model"] == {"id": str(gguf_model), "sha256": digest}
    factors = json.loads((tmp_path / "run" / "factors.json").read_text())
    assert factors["provenance"]["model"]["sha256"] == digest


def test_doctor_runs_the_canary_on_the_weights_of_a_gguf(gguf_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", str(gguf_model), "--device", "cpu"]) == 0
    assert "passed on the model" in capsys.readouterr().out


def test_a_folder_is_not_exported_from_a_gguf_but_the_remedy_named(
    gguf_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    factors = tmp_path / "factors.csv"
    factors.write_text("2.0\n" * 8)
    command = ["export", "--model", str(gguf_model), "--factors", str(factors), "--target-length", "64"]
    assert main([*command, "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "--format gguf" in error and "save_pretrained" in error
    assert not (tmp_path / "out").exists()


def test_a_gguf_takes_factors_from_a_csv_and_says_what_start_tokens_were_worth(
    gguf_model: Path, tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gguf = pytest.importorskip("gguf")
    (tmp_path / "factors.csv").write_text("2.0\n" * 8)
    plain = RescaleFactors(np.full(8, 2.0), 32, 64, 1e4, 16, 1.0, start_tokens=4)
    plain.save(tmp_path / "factors.json")
    common = ["export", "--model", str(gguf_model), "--format", "gguf", "--tokenized", str(tokens)]
    for source, options in (("factors.csv", ["--target-length", "64"]), ("factors.json", [])):
        output = tmp_path / f"{source}.gguf"
        command = [*common, "--factors", str(tmp_path / source), "--output-dir", str(output), *options]
        assert main(command) == 0, capsys.readouterr().err
        tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(output).tensors}
        np.testing.assert_allclose(tensors["rope_factors_long.weight"], np.full(8, 2.0))
    assert "n_hat = 4) can't be expressed in the export" in capsys.readouterr().out
