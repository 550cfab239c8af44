"""Factor files: exact round trips, and one clear sentence for every way they can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longrope.rope import RescaleFactors, load_factors, write_atomically
from longrope.rope.factors import load_csv


def make(**changes: object) -> RescaleFactors:
    settings: dict[str, object] = {
        "lambdas": np.array([1.0, 1.5, 2.25, 8.0]),
        "original_length": 256,
        "target_length": 2048,
        "theta": 10000.0,
        "rotary_dim": 8,
        "attention_factor": 1.2,
        "start_tokens": 4,
        "provenance": {"seed": 3},
    }
    return RescaleFactors(**{**settings, **changes})  # type: ignore[arg-type]


@given(st.lists(st.floats(1, 1e4), min_size=4, max_size=4).map(sorted), st.floats(0.1, 10), st.integers(0, 1000))
def test_json_keeps_every_number_exactly(lambdas: list[float], attention_factor: float, start_tokens: int) -> None:
    import tempfile

    factors = make(lambdas=lambdas, attention_factor=attention_factor, start_tokens=start_tokens)
    with tempfile.TemporaryDirectory() as folder:
        factors.save(Path(folder) / "factors.json")
        loaded = load_factors(folder)
        assert loaded == factors
        assert loaded.provenance == factors.provenance
        factors.save(Path(folder) / "factors.csv")
        assert np.array_equal(load_csv(Path(folder) / "factors.csv"), factors.lambdas)


def test_per_layer_csv_has_a_row_per_layer(tmp_path: Path) -> None:
    factors = make(lambdas=np.arange(1, 13, dtype=float).reshape(3, 4))
    factors.save(tmp_path / "layers.csv")
    assert np.array_equal(load_csv(tmp_path / "layers.csv"), factors.lambdas)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lambdas": np.ones(5)}, r"lambdas must have length 4 \(rotary dim 8 / 2\), got shape \(5,\)"),
        ({"lambdas": np.array([1, np.nan, 2, 3])}, "lambdas must be finite and positive, got nan"),
        ({"lambdas": np.array([1, 2, 1.5, 3])}, "lambdas must be non-decreasing, got 1.5 after 2.0 at pair 2"),
        ({"lambdas": np.array([0.0, 1, 2, 3])}, "lambdas must be finite and positive, got 0.0"),
        ({"attention_factor": float("inf")}, "attention_factor must be a finite number above 0, got inf"),
        ({"start_tokens": -1}, "start_tokens must be 0 or more, got -1"),
        ({"rotary_dim": 7}, "rotary_dim must be an even number of at least 2, got 7"),
        ({"theta": 0.0}, "theta must be finite and above 1, got 0.0"),
        ({"original_length": 0}, "original_length and target_length must be at least 1 token"),
    ],
)
def test_bad_values_name_argument_rule_and_value(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_tables_that_fall_load_when_they_say_so() -> None:
    assert make(lambdas=np.array([1, 2, 1.99, 3]), allow_decreasing=True).lambdas[2] == 1.99


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "readable JSON"),
        ('{"lambdas": [1]}', "format"),
        ('{"format": "longrope-factors", "version": 99}', "version must be 1, got 99"),
        ('{"format": "longrope-factors", "version": 1, "lambda": [1]}', "may hold only"),
        ('{"format": "longrope-factors", "version": 1, "lambdas": [1]}', "missing"),
    ],
)
def test_a_corrupt_file_is_refused_with_its_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "factors.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        load_factors(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ValueError, match="file that exists"):
        load_factors("nowhere.json")
    with pytest.raises(ValueError, match="file that exists"):
        load_csv("nowhere.csv")


def test_a_csv_with_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1.0\ntwo\n")
    with pytest.raises(ValueError, match="numbers only"):
        load_csv(tmp_path / "x.csv")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "factors.json"
    make().save(path)
    before = path.read_text()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        make(start_tokens=0).save(path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_writing_makes_the_folder(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b.json", json.dumps(1))
    assert (tmp_path / "a" / "b.json").read_text() == "1"
