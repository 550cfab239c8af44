import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from longrope.evolution import CurvePoint, search_curve

from .conftest import ToyObjective, run_toy


def written(tmp_path: Path, rows: Sequence[tuple[int, int, int, float | None, int]]) -> Path:
    """Rows of (generation, candidate, document, nats, tokens); candidate 1 is the seed."""
    with open(tmp_path / "history.jsonl", "w") as file:
        for generation, candidate, document, nats, tokens in rows:
            origin = "seed:yarn" if candidate == 1 else "mutation"
            row = {"generation": generation, "origin": origin, "steps": [candidate, candidate], "start_tokens": 0}
            row |= {"document": document, "nats": nats, "tokens": tokens, "seconds": 0.0, "rows_left": 0}
            file.write(json.dumps(row | {"error": "nan" if nats is None else None}) + "\n")
    return tmp_path


def test_losses_are_summed_over_documents_and_the_best_is_kept_over_generations(tmp_path: Path):
    rows = [
        (0, 1, 0, 10.0, 10), (0, 2, 0, 5.0, 10), (0, 3, 0, None, 0),
        (0, 1, 1, 70.0, 30), (0, 2, 1, 55.0, 30), (0, 3, 1, 1.0, 30),
        (1, 4, 0, 40.0, 10), (1, 4, 1, 60.0, 30),
    ]  # fmt: skip
    assert search_curve(written(tmp_path, rows)) == [
        CurvePoint(generation=0, scored_tokens=110, best_gain=-0.5, median_gain=-0.25),
        CurvePoint(generation=1, scored_tokens=150, best_gain=-0.5, median_gain=0.5),
    ]


def test_a_generation_is_compared_with_the_seed_on_its_own_documents(tmp_path: Path):
    rows = [(0, 1, 0, 5.0, 1), (1, 2, 1, 5.0, 1), (1, 1, 1, 7.0, 1), (2, 3, 0, 6.0, 1)]
    assert [point.best_gain for point in search_curve(written(tmp_path, rows))] == [0.0, -2.0, 0.0]


def test_a_generation_without_the_seed_has_no_point(tmp_path: Path):
    rows = [(0, 1, 0, 5.0, 1), (1, 2, 1, 5.0, 1), (2, 3, 0, 3.0, 1)]
    assert [point.generation for point in search_curve(written(tmp_path, rows))] == [0, 2]


def test_a_generation_is_summed_up_by_its_candidates_with_the_most_documents(tmp_path: Path):
    rows = [(0, 1, 0, 9.0, 1), (0, 2, 0, 1.0, 1), (0, 1, 1, 5.0, 1)]
    assert search_curve(written(tmp_path, rows)) == [CurvePoint(0, 3, best_gain=0.0, median_gain=0.0)]


def test_a_generation_of_failures_has_no_point(tmp_path: Path):
    assert search_curve(written(tmp_path, [(0, 1, 0, None, 0)])) == []


def test_the_last_best_of_the_paper_s_search_is_its_result(tmp_path: Path):
    result = run_toy("paper", tmp_path, ToyObjective())
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    seeds: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        if row["origin"].startswith("seed:"):
            seeds.setdefault(row["origin"], []).append(row)
    best = min(sum(r["nats"] for r in seed) / sum(r["tokens"] for r in seed) for seed in seeds.values())
    assert search_curve(tmp_path)[-1].best_gain == pytest.approx(result.best.loss - best, rel=1e-12)
    assert search_curve(tmp_path)[-1].scored_tokens == result.scored_tokens
