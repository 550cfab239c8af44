"""The benchmark of fine-tuning: what is compared was read on the same documents, and how differences are written."""

import runpy
from argparse import Namespace
from pathlib import Path

import pytest

from longrope.cli.comparison_configs import EvaluateConfig
from longrope.evaluation.comparison.statistics import PairedDifference
from longrope.evaluation.report.ranking import Contrast

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/fine_tuning.py"))
LENGTHS = SCRIPT["LENGTHS"]


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, EvaluateConfig]:
    """What YaRN's tuned weights are evaluated with, by the folder of the reading."""
    configs: list[EvaluateConfig] = []
    monkeypatch.setattr(SCRIPT["finetune"], "run", lambda config: None)
    monkeypatch.setattr(SCRIPT["evaluate"], "run", configs.append)
    args = Namespace(output_dir=tmp_path, name="name", model="model", steps=None, samples=4)
    args.lengths, args.tasks = list(LENGTHS), list(SCRIPT["METRICS"])
    SCRIPT["tune"]("YaRN", SCRIPT["VARIANTS"]["YaRN, mixed windows"], 0, args)
    return {Path(config.output_dir).name: config for config in configs}


def test_every_reading_is_of_the_same_documents(readings: dict[str, EvaluateConfig]) -> None:
    chosen = {(one.tokenized, one.samples, max(one.lengths), one.seed) for one in readings.values()}
    assert len(readings) == 3
    assert len(chosen) == 1  # the longest length decides on the documents, and on where their tails end


def test_the_rival_is_read_under_a_longer_extension_past_its_tuning(readings: dict[str, EvaluateConfig]) -> None:
    beyond = readings["beyond"]
    assert beyond.methods == ("yarn:factor=32",)
    assert min(beyond.lengths) > SCRIPT["TUNED"]
    assert 32 * LENGTHS[0] == max(beyond.lengths)


def test_differences_are_written_by_length_with_their_intervals() -> None:
    def contrast(length: int, value: float, low: float | None, high: float | None) -> Contrast:
        return Contrast(length, "readjusted", "PI", PairedDifference(0, 1, value, low, high, None, 3))

    text = SCRIPT["render_contrasts"](
        {"passkey": {"PI": [contrast(256, 0.5, 0.25, 0.75), contrast(512, 0.0, None, None)]}}
    )
    heading, _, row = (line.split("|")[1:-1] for line in text.splitlines()[-3:])
    assert [cell.strip() for cell in heading] == ["passkey", "256", "512"]
    assert [cell.strip() for cell in row] == ["PI", "+50.0 points [+25.0 to +75.0]", "+0.0 points"]
