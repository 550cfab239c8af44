"""Searching lengths that an extended model has already."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from longrope.cli.main import main
from longrope.rope import RescaleFactors, load_factor_sets, load_factors
from longrope.rope.export import export_hf

from .small import PAPER, tokenize_words

EXTENSION = RescaleFactors(np.linspace(1, 8, 8), 32, 128, 10000.0, 16, 1.2)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> list[str]:
    folder = tmp_path_factory.mktemp("data")
    tokenize_words(model_folder, folder / "tokens")
    (folder / "paper.yaml").write_text(yaml.safe_dump(PAPER))
    return ["search", "--tokenized", f"{folder}/tokens", "--hyper-params", f"{folder}/paper.yaml", "--samples", "3"]


def test_an_extended_model_is_readjusted_relative_to_its_pretrained_rope(arguments, model_folder, tmp_path, capsys):
    export_hf(model_folder, EXTENSION, tmp_path / "extended")
    EXTENSION.save(tmp_path / "extension.json")
    found = {}
    for name, model, more in (
        ("extended", tmp_path / "extended", []),
        ("tuned", model_folder, ["--readjust", str(tmp_path / "extension.json")]),
    ):
        run = [*arguments, "--model", str(model), "--target-length", "32", "--output-dir", str(tmp_path / name), *more]
        assert main([*run, "--estimate"]) == 0, capsys.readouterr().err  # printed before each search on CUDA
        assert "paper" in capsys.readouterr().out
        assert main(run) == 0, capsys.readouterr().err
        found[name] = load_factors(tmp_path / name)
    for one in found.values():
        assert (one.original_length, one.target_length, one.start_attention_factor) == (32, 32, 1.0)
        assert np.all((one.lambdas >= 1) & (one.lambdas <= 1.25 * EXTENSION.scale))
    assert np.array_equal(found["extended"].lambdas, found["tuned"].lambdas)  # the same weights and documents


def test_sets_grow_by_one_length_with_each_search(arguments, model_folder, tmp_path, capsys):
    EXTENSION.save(tmp_path / "extension.json")
    source = tmp_path / "extension.json"
    for length in (32, 64):
        folder = tmp_path / str(length)
        more = ["--readjust", str(source), "--target-length", str(length), "--output-dir", str(folder)]
        assert main([*arguments, "--model", str(model_folder), *more]) == 0, capsys.readouterr().err
        source = folder / "factor_sets.json"
    sets = load_factor_sets(source)
    assert [one.target_length for one in sets.sets] == [32, 64, 128]
    assert sets.longest == EXTENSION
    assert sets.at(64) == load_factors(tmp_path / "64")


def test_without_an_extension_there_is_nothing_to_search(arguments, model_folder, tmp_path, capsys):
    run = [*arguments, "--model", str(model_folder), "--target-length", "32", "--output-dir", str(tmp_path / "none")]
    assert main(run) == 2
    assert "for weights that were tuned with factors --readjust FACTORS" in capsys.readouterr().err


def test_a_target_beyond_the_extension_is_no_readjustment(arguments, model_folder, tmp_path, capsys):
    EXTENSION.save(tmp_path / "extension.json")
    more = ["--readjust", str(tmp_path / "extension.json"), "--target-length", "256"]
    assert main([*arguments, "--model", str(model_folder), "--output-dir", str(tmp_path / "far"), *more]) == 2
    assert "at most that of the factors to readjust (128 tokens)" in capsys.readouterr().err
