import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longrope.evolution import CurvePoint, Genome, HistoryRow, read_history, search_curve
from longrope.evolution.curve import (
    OriginSummary,
    best_seed_on,
    generation_summaries,
    incumbents_curve,
    origin_summaries,
)
from longrope.evolution.strategies import Proposal, Request

from .conftest import ToyObjective, run_toy


def written(tmp_path: Path, rows: Sequence[tuple[int, int, int, float | None, int]]) -> Path:
    """Rows of (generation, candidate, document, nats, tokens), 100 tokens forwarded each; candidate 1 is the seed."""
    with open(tmp_path / "history.jsonl", "w") as file:
        for generation, candidate, document, nats, tokens in rows:
            origin = "seed:yarn" if candidate == 1 else "mutation"
            row = {"generation": generation, "origin": origin, "steps": [candidate, candidate], "start_tokens": 0}
            row |= {
                "document": document,
                "nats": nats,
                "tokens": tokens,
                "forwarded": 100,
                "seconds": 0.0,
                "rows_left": 0,
            }
            file.write(json.dumps(row | {"error": "nan" if nats is None else None}) + "\n")
    return tmp_path


def test_where_all_share_their_documents_the_incumbent_is_the_best_so_far(tmp_path: Path):
    rows = [
        (0, 1, 0, 10.0, 10), (0, 2, 0, 5.0, 10), (0, 3, 0, None, 0),
        (0, 1, 1, 70.0, 30), (0, 2, 1, 55.0, 30), (0, 3, 1, 1.0, 30),
        (1, 4, 0, 40.0, 10), (1, 4, 1, 60.0, 30), (2, 5, 0, 5.0, 10), (2, 5, 1, 35.0, 30),
    ]  # fmt: skip
    assert search_curve(written(tmp_path, rows)) == [
        CurvePoint(scored_tokens=600, gain=0.0),
        CurvePoint(scored_tokens=500, gain=-0.5),
        CurvePoint(scored_tokens=1000, gain=-1.0),
        CurvePoint(scored_tokens=1000, gain=-1.0),
    ]


def test_with_probes_the_curve_is_that_of_the_incumbents_on_the_probe_windows_alone():
    rows = [
        row(0, 1, 0, 4.0, 1, "seed:yarn"), row(0, 4, 0, 5.0, 1, "seed:ntk"),
        row(1, 1, 8, 7.0, 1, "probe"), row(1, 1, 9, 9.0, 1, "probe"),
        row(2, 2, 1, 0.1, 1, "mutation"), row(2, 3, 1, 0.2, 1, "mutation"),
        row(3, 2, 8, 6.0, 1, "probe"), row(3, 2, 9, 8.0, 1, "probe"),
        row(4, 3, 8, 6.5, 1, "probe"), row(4, 3, 9, 8.5, 1, "probe"),
        row(5, 1, 10, 6.0, 1, "seed:yarn"), row(5, 3, 10, 5.5, 1, "incumbent"),
    ]  # fmt: skip
    points = [CurvePoint(2, 0.0), CurvePoint(8, -1.0), CurvePoint(10, -0.5)]
    assert incumbents_curve(rows) == [*points, CurvePoint(12, -0.5)]


@pytest.mark.parametrize(
    ("level", "num_documents", "end"),
    [(0.45, 100, -0.7), (0.1, 100, 0.0), (0.45, 2, 0.0)],
    ids=["sure", "not at the run's level", "not by the run's documents"],
)
def test_the_curve_ends_at_what_the_run_s_own_test_chose(level: float, num_documents: int, end: float):
    seed, find, windows = {8: 7.0, 9: 9.0, 10: 6.0}, {8: 6.0, 9: 8.9, 10: 5.0}, (8, 9, 10)
    rows = [row(0, 1, 0, 4.0, 1, "seed:yarn")]
    rows += [row(1, 1, window, seed[window], 1, "probe") for window in windows]
    rows += [row(2, 2, window, find[window], 1, "probe") for window in windows]
    requests = [Request(rows[place].genome, windows, origin) for place, origin in ((0, "seed:yarn"), (-1, "incumbent"))]
    state = {"selection": {"level": level, "num_documents": num_documents}}
    assert incumbents_curve(rows, Proposal(3, True, tuple(requests), state))[-1].gain == pytest.approx(end)
    assert incumbents_curve(rows, Proposal(3, False, tuple(requests), state))[-1].gain == pytest.approx(-0.7)


def test_a_generation_of_failures_has_no_curve(tmp_path: Path):
    assert search_curve(written(tmp_path, [(0, 1, 0, None, 0)])) == []
    assert incumbents_curve([]) == []


def test_the_last_best_of_the_paper_s_search_is_its_result(tmp_path: Path):
    result = run_toy("paper", tmp_path, ToyObjective())
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    seeds: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        if row["origin"].startswith("seed:"):
            seeds.setdefault(row["origin"], []).append(row)
    best = min(sum(r["nats"] for r in seed) / sum(r["tokens"] for r in seed) for seed in seeds.values())
    assert search_curve(tmp_path)[-1].gain == pytest.approx(result.best.loss - best, rel=1e-12)
    assert search_curve(tmp_path)[-1].scored_tokens == result.scored_tokens


def test_a_generation_of_the_best_seed_alone_is_no_generation_of_failures():
    """Seen in a healthy run: the first step of a descent is taken at the best seed."""
    rows = [row(0, 1, 0, 5.0, 1), replace(row(1, 1, 1, 6.0, 1, "descent"), differentiated=True)]
    (_, one) = generation_summaries(rows)
    assert (one.origins, one.best_loss, one.best_origin, one.seed_loss) == ({"descent": 1}, 5.5, "descent", 5.5)


def test_scores_that_were_made_again_later_are_counted_in_their_own_generation():
    rows = [row(0, 1, 0, 5.0, 1), row(1, 2, 0, 4.0, 1), row(0, 3, 0, 6.0, 1)]
    assert [one.generation for one in generation_summaries(rows)] == [0, 1]


@given(st.data())
def test_where_losses_are_additive_every_gain_that_can_be_known_is_exact(data: st.DataObject):
    candidates, documents = range(1, 7), range(5)
    skill = [0.0, *data.draw(st.lists(st.floats(-1, 1), min_size=6, max_size=6))]
    effect = data.draw(st.lists(st.floats(1, 9), min_size=5, max_size=5))
    tokens = data.draw(st.lists(st.integers(1, 99), min_size=5, max_size=5))
    cells = data.draw(st.sets(st.tuples(st.sampled_from(candidates), st.sampled_from(documents)), min_size=1))
    rows = [
        row(0 if candidate == 1 else candidate, candidate, document, (skill[candidate] + effect[document]) * t, t)
        for candidate, document in sorted({(1, 0), *cells})
        for t in [tokens[document]]
    ]
    linked, before = {1}, None
    while linked != before:
        before = set(linked)
        reached = {document for candidate, document in [*cells, (1, 0)] if candidate in linked}
        linked |= {candidate for candidate, document in cells if document in reached}
    for one in generation_summaries(rows)[1:]:
        (candidate,) = {row.steps[0] for row in rows if row.generation == one.generation}
        assert (one.seed_loss is not None) == (candidate in linked)
        if one.seed_loss is not None:
            assert one.best_loss is not None
            assert one.best_loss - one.seed_loss == pytest.approx(skill[candidate] - skill[1], abs=1e-6)


def test_the_default_scores_each_incumbent_on_the_same_windows(tmp_path: Path):
    result = run_toy("hybrid", tmp_path, ToyObjective())
    rows = read_history(tmp_path / "history.jsonl").rows
    probes: dict[Genome, set[int]] = {}
    for one in rows:
        if one.origin == "probe":
            probes.setdefault(one.genome, set()).add(one.document)
    assert len(probes) > 1 and len(set(map(frozenset, probes.values()))) == 1
    curve = search_curve(tmp_path)
    assert len(curve) >= len(probes) + 1 and curve[-1].scored_tokens == result.scored_tokens
    seed = best_seed_on(rows, result.best.request.documents)
    assert seed is not None and result.best.loss <= seed[1]


def test_every_search_has_a_curve_and_all_its_cost_has_an_origin(name: str, tmp_path: Path):
    result = run_toy(name, tmp_path, ToyObjective())
    rows = read_history(tmp_path / "history.jsonl").rows
    assert search_curve(tmp_path)
    origins = origin_summaries(rows)
    assert sum(one.scored_tokens for one in origins) == result.scored_tokens
    assert sum(one.candidates for one in origins) == result.candidates
    generations = generation_summaries(rows)
    assert generations[-1].scored_tokens == result.scored_tokens
    assert [one.generation for one in generations] == sorted({row.generation for row in rows})


def test_a_candidate_belongs_to_whoever_proposed_it_first(tmp_path: Path):
    rows = [
        row(0, 1, 0, 5.0, 10, "seed:yarn"), row(0, 4, 0, 7.0, 10, "seed:ntk"),
        row(1, 2, 0, 4.0, 10, "mutation"), row(1, 3, 0, None, 10, "crossover"),
        row(2, 2, 1, 3.5, 10, "incumbent"), row(2, 1, 1, 5.0, 10, "seed:yarn"),
    ]  # fmt: skip
    assert origin_summaries(rows) == [
        OriginSummary("seed", candidates=2, scored_tokens=30, best_gain=0.0, documents=2),
        OriginSummary("mutation", candidates=1, scored_tokens=20, best_gain=-0.125, documents=2),
        OriginSummary("crossover", candidates=1, scored_tokens=10, best_gain=None, documents=0),
    ]
    assert [one.origins for one in generation_summaries(rows)] == [
        {"seed": 2}, {"mutation": 1, "crossover": 1}, {"incumbent": 1},
    ]  # fmt: skip


def test_the_winner_is_set_beside_the_best_seed_of_its_own_documents():
    rows = [
        row(0, 1, 0, 5.0, 1, "seed:yarn"), row(0, 4, 0, 7.0, 1, "seed:ntk"), row(0, 5, 0, None, 1, "seed:pi"),
        row(1, 1, 1, 6.0, 1, "seed:yarn"), row(1, 4, 1, 1.0, 1, "seed:ntk"), row(1, 2, 1, 0.5, 1, "mutation"),
    ]  # fmt: skip
    assert best_seed_on(rows, (0, 1)) == ("seed:ntk", 4.0)
    assert best_seed_on(rows, (0,)) == ("seed:yarn", 5.0)
    assert best_seed_on(rows, (0, 2)) is None


def test_after_a_race_of_seeds_its_winner_is_what_others_are_compared_with():
    rows = [
        row(0, 1, 0, 4.0, 1, "seed:yarn"), row(0, 4, 0, 5.0, 1, "seed:ntk"),
        row(1, 4, 1, 5.0, 1, "seed:ntk"), row(2, 2, 1, 4.5, 1, "mutation"),
    ]  # fmt: skip
    assert [one.seed_loss for one in generation_summaries(rows)] == [5.0, 5.0, 5.0]
    assert generation_summaries(rows)[0].best_loss == 4.0


def test_a_search_without_seeds_is_compared_with_the_best_of_its_first_generation():
    rows = [row(0, 2, 0, 5.0, 1, "initial"), row(0, 3, 0, 4.0, 1, "initial"), row(1, 4, 0, 3.5, 1, "mutation")]
    assert [one.seed_loss for one in generation_summaries(rows)] == [4.0, 4.0]


def row(
    generation: int, candidate: int, document: int, nats: float | None, tokens: int, origin: str | None = None
) -> HistoryRow:
    return HistoryRow(
        generation=generation,
        origin=origin or ("seed:yarn" if candidate == 1 else "mutation"),
        steps=(candidate, candidate),
        start_tokens=0,
        document=document,
        nats=nats,
        tokens=tokens,
        forwarded=tokens,
        error=None if nats is not None else "nan",
        seconds=0.0,
        rows_left=0,
    )
