"""`longrope doctor --measure` tells the fastest dtype and batch size, and whether the order of candidates survives."""

from pathlib import Path

import pytest
import torch
from scipy.stats import rankdata

from longrope.cli import measure as measure_module
from longrope.cli import search_worker
from longrope.cli.configs import DoctorConfig
from longrope.cli.main import main
from longrope.cli.measure import BATCHES, RAMPS, Measurement, measure, rank_correlation

from .small import tokenize_words


def test_the_command_measures_both_dtypes_and_names_options(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = tokenize_words(model_folder, tmp_path / "tokens")
    options = {"model": model_folder, "tokenized": tokens, "target-length": 64, "device": "cpu"}
    assert main(["doctor", "--measure", *(f"--{name}={value}" for name, value in options.items())]) == 0
    shown = capsys.readouterr().out
    for dtype in ("float32:", "bfloat16:"):
        (line,) = (line for line in shown.splitlines() if line.startswith(dtype))
        assert [f"by {batch}" in line for batch in BATCHES] == [True] * len(BATCHES)
    assert f"with float32 over {len(RAMPS)}" in shown and "--dtype " in shown and "--batch-size " in shown


@pytest.mark.parametrize(
    ("half", "rates", "expected"),
    [
        ([1.0, 2.0, 3.0], {1: 50.0, 2: 90.0, 4: 80.0}, "--dtype bfloat16 --batch-size 2"),
        ([1.0, 2.0, 3.0], {1: 5.0}, "--dtype float32 --batch-size 4"),
        ([2.0, 1.0, 3.0], {1: 50.0}, "--dtype float32 --batch-size 4"),
    ],
    ids=["faster", "slower", "another order"],
)
def test_bfloat16_is_recommended_where_it_is_faster_and_keeps_the_order(
    monkeypatch: pytest.MonkeyPatch, half: list[float], rates: dict[int, float], expected: str
) -> None:
    found = {"float32": Measurement([1.0, 2.0, 3.0], {1: 10.0, 4: 11.0}), "bfloat16": Measurement(half, rates)}
    monkeypatch.setattr(measure_module, "measure_dtype", lambda config, dtype: found[dtype])
    facts = measure(DoctorConfig(model="m", tokenized="t", target_length=64, measure=True))
    assert facts["fastest"] == expected


def test_the_rank_correlation_is_pearsons_of_the_ranks() -> None:
    left, right = [0.3, 0.1, 0.7, 0.5], [2.0, 1.0, 2.5, 9.0]
    a, b = rankdata(left), rankdata(right)
    expected = ((a - a.mean()) * (b - b.mean())).sum() / (len(a) * a.std() * b.std())
    assert rank_correlation(left, right) == pytest.approx(expected)


def test_without_documents_it_says_what_to_give() -> None:
    with pytest.raises(ValueError, match="give --model, --tokenized and --target-length"):
        measure(DoctorConfig(model="m", measure=True))


def test_compile_compiles_the_model_of_a_search(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compiled(model: torch.nn.Module) -> None:
        raise ValueError(f"{type(model).__name__} would be compiled")

    monkeypatch.setattr(search_worker, "compile_tokenwise", compiled)
    tokens = tokenize_words(model_folder, tmp_path / "tokens")
    options = {"model": model_folder, "tokenized": tokens, "target-length": 64, "output-dir": tmp_path / "run"}
    assert main(["search", "--compile=true", *(f"--{name}={value}" for name, value in options.items())]) == 2
    assert "LlamaForCausalLM would be compiled" in capsys.readouterr().err
