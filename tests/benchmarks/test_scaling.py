"""The simulation of a cluster against closed forms, and the benchmark in a small form."""

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("simpy", reason="the simulation needs simpy")

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def cluster() -> Any:
    return importlib.import_module("benchmarks.cluster")


@pytest.mark.parametrize(("workers", "width"), [(8, 8), (8, 9), (8, 64), (5, 64), (64, 20), (1, 3)])
def test_equal_passes_keep_the_share_of_workers_busy_that_division_says(workers: int, width: int) -> None:
    rounds = math.ceil(width / workers)
    outcome = cluster().simulate(cluster().Cluster(workers, mean=2.0), 3, width, synchronous=True)
    assert outcome == (pytest.approx(3 * rounds * 2.0), pytest.approx(width / (workers * rounds)), 0)
    together = math.ceil(3 * width / workers)
    outcome = cluster().simulate(cluster().Cluster(workers, mean=2.0), 3, width, synchronous=False)
    assert outcome == (pytest.approx(together * 2.0), pytest.approx(3 * width / (workers * together)), 0)


def test_a_generation_as_wide_as_the_workers_waits_for_its_slowest_pass() -> None:
    """With chance p a pass takes k times as long, so at least one of W does with chance 1 - (1 - p)^W."""
    share, slowdown, workers = 0.05, 4.0, 16
    slow = 1 - (1 - share) ** workers
    expected = 1 + slow * (slowdown - 1)
    stragglers = cluster().Cluster(workers, straggler_share=share, straggler_slowdown=slowdown)
    outcome = cluster().simulate(stragglers, 3000, workers, synchronous=True)
    assert outcome.seconds / 3000 == pytest.approx(expected, rel=0.03)
    assert outcome.utilisation == pytest.approx((1 + share * (slowdown - 1)) / expected, rel=0.04)
    assert cluster().simulate(stragglers, 300, workers, synchronous=False).utilisation > 0.98


def test_a_driver_that_takes_one_result_at_a_time_bounds_the_rate() -> None:
    slow = cluster().Cluster(50, mean=1.0, driver=0.1)
    assert cluster().simulate(slow, 1, 1000, synchronous=False).seconds == pytest.approx(101.0, rel=0.01)


def test_failures_repeat_passes_as_their_rate_says() -> None:
    """A pass of m seconds is lost with chance 1 - exp(-m r); a lost one is begun anew."""
    rate, workers, passes = 360.0, 4, 4000
    failing = cluster().Cluster(workers, mean=1.0, per_node=1, failures_per_hour=rate)
    outcome = cluster().simulate(failing, 1, passes, synchronous=False)
    lost = 1 - math.exp(-rate / 3600)
    assert outcome.repeated == pytest.approx(passes * lost / (1 - lost), rel=0.15)
    assert outcome.utilisation < 1


def test_a_node_that_leaves_takes_its_passes_and_its_share_of_the_rest() -> None:
    half = cluster().Cluster(4, per_node=2, lost_at=2.5)
    outcome = cluster().simulate(half, 1, 16, synchronous=False)
    # 8 end by 2 s, the two workers that stay need 4 rounds for the other 8; 2 that were under way are repeated
    assert outcome.seconds == pytest.approx(6.0) and outcome.repeated == 2
    everywhere = cluster().Cluster(4, per_node=4, lost_at=0.5, failures_per_hour=0.0)
    with pytest.raises(RuntimeError, match="No scheduled events left"):
        cluster().simulate(everywhere, 1, 16, synchronous=False)


def test_the_report_has_its_keys_and_says_how_wide_a_generation_must_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scaling = importlib.import_module("benchmarks.scaling")
    measured = scaling.Measured(0.5, 0.05, 4.0, 0.002, 1.9, 2.5, 6)
    monkeypatch.setattr(scaling, "measure", lambda _: measured)
    command = ["scaling", "--output-dir", str(tmp_path), "--workers", "8", "64", "--generations", "2"]
    monkeypatch.setattr(sys, "argv", command)
    scaling.main()
    report = json.loads((tmp_path / "scaling.json").read_text())
    assert report["speedup_2_workers"] == 1.9 and report["ray_overhead_ms"] == 2.5
    assert [one["pass_seconds"] for one in report["simulation"]] == [0.5, 30.0]
    rows = report["simulation"][0]["rows"]
    assert {(row["workers"], row["multiple"]) for row in rows} == {(w, m) for w in (8, 64) for m in scaling.MULTIPLES}
    by_multiple = [row["synchronous"]["utilisation"] for row in rows if row["workers"] == 64]
    assert by_multiple == sorted(by_multiple) and all(0 < value <= 1 for value in by_multiple)
    assert "asynchronous" in (tmp_path / "scaling.md").read_text()


def test_workers_are_called_busy_from_the_width_on_from_which_all_wider_ones_keep_them_so() -> None:
    verdict = importlib.import_module("benchmarks.scaling").verdict
    rows = [
        {
            "workers": 8,
            "width": width,
            "synchronous": {"utilisation": one},
            "asynchronous": {"utilisation": 0.95 - one / 9},
        }
        for width, one in ((8, 0.92), (16, 0.85), (32, 0.92), (64, 0.96))
    ]
    (line,) = verdict(rows)
    assert "synchronous from 32 passes of a generation on, asynchronous never" in line
