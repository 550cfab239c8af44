"""The benchmark of searches, with models and budgets so small that it runs in a test."""

import importlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from longrope.cli.main import main
from longrope.evolution import load_settings
from longrope.rope import RescaleFactors

ROOT = Path(__file__).parents[2]
PAPER = {"population_size": 16, "num_iterations": 2, "num_mutations": 4, "num_crossovers": 4, "num_parents": 4}
PAPER_SCORES = (16 + 2 * 8) * 5


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def module(name: str) -> Any:
    return importlib.import_module(f"benchmarks.search_efficiency.{name}")


@pytest.fixture(scope="module")
def source(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the option that names a tiny model and its documents."""
    folder = tmp_path_factory.mktemp("documents")
    for part, words in (("search", "alpha beta gamma delta epsilon zeta eta"), ("heldout", "theta iota kappa")):
        (folder / part).mkdir()
        for word in words.split():
            text = "".join(f"{word} {i * len(word)} " for i in range(40))
            (folder / part / f"{word}.txt").write_text(text)
        options = {"model": model_folder, "dataset": folder / part, "save_tokenized": folder / f"{part}-tokens"}
        main(["tokenize", *(f"--{name.replace('_', '-')}={value}" for name, value in options.items())])
    return f"tiny={model_folder}:{folder / 'search-tokens'}:{folder / 'heldout-tokens'}"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, source: str, tmp_path: Path) -> Callable[..., Path]:
    """Run the benchmark; options by name, values in a list."""
    settings = tmp_path / "paper.yaml"
    settings.write_text("\n".join([f"{name}: {value}" for name, value in PAPER.items()] + ["strategy: paper"]))

    def run(journal: str = "runs.jsonl", **options: Any) -> Path:
        given = {"models": source, "ratios": "2", "seeds": "0", "compared": 2, "shares": "", "paper": settings}
        given |= {"eval_samples": 3, "workers": 1, "batch_tokens": 512, "device": "cpu", **options}
        command = ["run", "--journal", str(tmp_path / journal)]
        for name, value in given.items():
            command += [f"--{name.replace('_', '-')}", *(str(value).split("|") if value != "" else [])]
        monkeypatch.setattr(sys, "argv", ["search_efficiency", *command])
        module("__main__").main()
        return tmp_path / journal

    return run


def test_every_row_runs_within_its_budget_and_is_judged_on_the_same_documents(
    bench: Callable[..., Path], tmp_path: Path
) -> None:
    journal = module("journal").read([bench(report=tmp_path / "report", shares="4")])
    terms = module("rows").Terms((4,), 2, paper=str(tmp_path / "paper.yaml"))
    assert terms.paper_scores == PAPER_SCORES
    assert {key.row for key in journal.records} == set(module("rows").build_rows(terms))
    assert not journal.failures
    assert not journal.missing
    for key, record in journal.records.items():
        assert len(record.losses) == 3
        assert len(record.lambdas) == 8
        share = 2 if "1/4" not in key.row else 4
        paper = 1.2 * PAPER_SCORES if "fresh" in key.row else PAPER_SCORES  # a reference on each window on top
        most = paper if key.row.startswith("paper") else PAPER_SCORES / share
        assert record.tokens <= 64 * most, key
        if module("rows").is_seedless(key.row):
            assert record.tokens == 0
        for tokens, losses in record.trajectory:
            assert tokens <= record.tokens
            assert len(losses) == 3
    full = journal.records["tiny", 2, "paper", 0]
    assert full.tokens == 64 * PAPER_SCORES
    assert full.trajectory[-1] == [full.tokens, full.losses]  # the best after the last generation is the result
    report = json.loads((tmp_path / "report.json").read_text())
    (result,) = report["results"]
    assert list(result["rows"]) == list(module("rows").build_rows(terms))
    assert result["bars"]["gain_over_zero_search_seed"]["over"] == "zero-search seed"
    assert (tmp_path / "report.png").stat().st_size > 0


def test_finished_runs_are_not_run_again_and_journals_are_merged(
    bench: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench("one.jsonl", rows="plain yarn|zero*")
    lines = first.read_text()
    again = bench("one.jsonl", rows="plain yarn|zero*|plain linear").read_text()
    added = [json.loads(line) for line in again.removeprefix(lines).splitlines()]
    assert [one["run"]["row"] for one in added if "run" in one] == ["plain linear"]
    second = bench("two.jsonl", rows="swept yarn", seeds="0|1")
    command = ["report", "--journals", str(first), str(second), "--report", str(tmp_path / "both"), "--compared", "2"]
    monkeypatch.setattr(sys, "argv", ["search_efficiency", *command])
    module("__main__").main()
    (result,) = json.loads((tmp_path / "both.json").read_text())["results"]
    assert set(result["rows"]) == {"plain yarn", "zero-search seed", "plain linear", "swept yarn"}
    assert result["rows"]["swept yarn"]["seeds"] == [0, 1]


def test_what_there_was_no_time_for_is_named(bench: Callable[..., Path], tmp_path: Path) -> None:
    bench(rows="plain yarn")
    bench(rows="plain yarn|paper", minutes=0, report=tmp_path / "report")
    assert "Planned and missing: 1 runs over all models and ratios: paper (1)." in (tmp_path / "report.md").read_text()


def test_a_run_that_fails_is_reported_and_run_again(bench: Callable[..., Path], tmp_path: Path) -> None:
    journal = module("journal").read([bench(rows="default 1/160|plain yarn", shares="160", report=tmp_path / "r")])
    (key,) = journal.failures
    assert key.row == "default 1/160"
    assert "num_scores must be at least" in (tmp_path / "r.md").read_text()
    assert key in journal.missing


def test_several_processes_give_what_one_gives(bench: Callable[..., Path]) -> None:
    rows = "plain yarn|plain linear|random perturbation"
    one, two = (module("journal").read([bench(f"{n}.jsonl", rows=rows, workers=n)]).records for n in (1, 2))
    assert one.keys() == two.keys()
    for key in one:
        assert two[key].losses == pytest.approx(one[key].losses, abs=1e-4)


def test_an_unknown_row_is_refused(bench: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="rows must be among plain none, .* got 'planar'"):
        bench(rows="planar")


class Noiseless:
    """Scores the first rescale factor, the same on all windows."""

    def __init__(self) -> None:
        self.windows: list[int] = []

    def score(self, candidates: Sequence[RescaleFactors], document: int) -> list[Any]:
        self.windows += [document] * len(candidates)
        return [SimpleNamespace(nats=float(one.lambdas[0]), tokens=1, forwarded=7) for one in candidates]


@pytest.mark.parametrize(("count", "scores"), [(5, 30), (40, 30), (1, 10), (12, 56)])
def test_halving_finds_the_best_of_those_it_looks_at_within_its_scores(count: int, scores: int) -> None:
    numbers = np.random.default_rng(0).permutation(count) + 1.0
    candidates = [RescaleFactors(np.full(4, number), 32, 64 * count, 1e4, 8) for number in numbers]
    objective = Noiseless()
    outcome = module("choosing").halve(objective, candidates, list(range(9)), scores, seed=0)
    looked_at = min(count, max(2, scores // 3))
    assert outcome.scores == len(objective.windows) <= scores
    assert outcome.tokens == 7 * outcome.scores
    if looked_at == count:
        assert outcome.factors.lambdas[0] == 1
    assert outcome.factors.lambdas[0] <= numbers[0]  # the first one is never left out


def record(row: str, seed: int, level: float, tokens: int, trajectory: Sequence[tuple[int, float]] = ()) -> Any:
    """Return a run whose loss on document d is `level + d`."""
    losses = [[each + document for document in range(4)] for each in (level, *(value for _, value in trajectory))]
    points = [(spent, one) for (spent, _), one in zip(trajectory, losses[1:], strict=True)]
    journal = module("journal")
    return journal.Record("m", 8, row, seed, "a", "b", 1.0, tokens, 1, [1.0], 1.0, 0, losses[0], points)


def test_gains_are_shares_of_perplexity_paired_by_seed_and_document() -> None:
    better = {seed: record("x", seed, 1.0 + seed, 5).losses for seed in (0, 1)}
    other = {seed: record("y", seed, 1.1 + seed, 5).losses for seed in (0, 1, 2)}
    found = module("measures").gain(better, other)
    assert found["share"] == pytest.approx(1 - math.exp(-0.1))
    assert found["low"] == pytest.approx(found["high"])  # each pair differs alike: nothing is by chance
    assert (found["seeds"], found["seeds_below"]) == (2, 2)
    assert module("measures").gain(better, {0: other[0]}, seedless=True)["nats"] == pytest.approx((0.1 - 0.9) / 2)
    assert module("measures").gain(better, {5: other[0]}) is None


def test_when_the_default_matches_the_paper_is_read_from_incumbents_and_budgets() -> None:
    rows = module("rows")
    paper = {seed: record(rows.PAPER_ATTENTION, seed, 2.0, 1000, [(100, 2.5), (500, 2.2)]) for seed in (0, 1, 2)}
    long = {
        0: record("default 1/10", 0, 1.9, 100, [(20, 2.1), (60, 2.0), (90, 1.95)]),
        1: record("default 1/10", 1, 1.9, 100, [(30, 1.99)]),
        2: record("default 1/10", 2, 2.1, 100, [(50, 2.2)]),
    }
    short = {seed: record("default 1/20", seed, level, 50) for seed, level in enumerate((2.05, 1.9, 2.3))}
    cell = {rows.PAPER_ATTENTION: paper, "default 1/10": long, "default 1/20": short}
    found = module("measures").matching(cell)
    incumbents, budgets = (found[f"{name}_to_match_paper_same_seeds"] for name in ("tokens", "budget"))
    assert incumbents["by_seed"] == {0: 60, 1: 30, 2: None}
    assert (incumbents["median"], incumbents["share_of_paper"]) == (60, 0.06)
    assert (incumbents["low"], incumbents["high"]) == (30, None)
    assert incumbents["seeds_that_match"] == 2
    assert budgets["by_seed"] == {0: 100, 1: 50, 2: None}
    equal = module("measures").at_equal_tokens(long, paper)
    assert equal[0] == paper[0].trajectory[0][1]
    bars = module("measures").bars({**cell, "plain yarn": {0: record("plain yarn", 0, 2.4, 0)}}, 20)
    assert bars["gain_over_best_baseline"]["nats"] == pytest.approx(2.4 - np.mean([2.05, 1.9, 2.3]))
    assert bars["gain_at_equal_tokens"]["nats"] == pytest.approx(2.5 - np.mean([2.05, 1.9, 2.3]))


def test_what_a_search_promised_is_held_against_documents_it_never_saw() -> None:
    def told(seed: int, level: float, gain: dict[str, float] | None, over: float | None) -> Any:
        return replace(
            record("default 1/20", seed, level, 50),
            device="cpu (x)",
            gain=gain,
            over=None if over is None else record("", 0, over, 0).losses,
        )

    sure, unsure = ({"mean": 0.2, "low": low, "high": 0.3, "confidence": 0.8} for low in (0.1, -0.1))
    runs = {
        0: told(0, 1.0, sure, 1.2),
        1: told(1, 1.15, sure, 1.2),
        2: told(2, 1.2, unsure, 1.2),
        3: told(3, 1.4, {}, 1.4),
        4: record("default 1/20", 4, 1.0, 50),  # of a journal that did not keep it
    }
    found = module("measures").bounds({"default 1/20": runs, "plain yarn": {0: record("plain yarn", 0, 1.3, 0)}}, 20)
    assert [one["seed"] for one in found] == [0, 1, 2, 3]
    assert [one["bound"] for one in found] == [0.1, 0.1, 0, 0]
    assert [one["missed"] for one in found] == [False, True, False, False]
    assert [one["heldout_gain"]["mean"] for one in found] == pytest.approx([0.2, 0.05, 0, 0])
    assert [one["heldout_gain_over_plain"]["high"] for one in found] == pytest.approx([0.3, 0.15, 0.1, -0.1])


def test_runs_of_a_journal_that_do_not_name_their_device_have_that_of_its_header(tmp_path: Path) -> None:
    journal, path = module("journal"), tmp_path / "runs.jsonl"
    journal.append(path, {"device": "cuda (card)", "planned": []})
    line = {key: value for key, value in vars(record("plain yarn", 0, 1.0, 0)).items() if key != "device"}
    path.write_text(path.read_text() + json.dumps({"run": line}) + "\n")
    journal.append(path, replace(record("plain ntk", 0, 1.0, 0), device="cpu (x)"))
    devices = [one.device for one in journal.read([path]).records.values()]
    assert devices == ["cuda (card)", "cpu (x)"]


def test_journals_of_different_models_are_not_mixed(tmp_path: Path) -> None:
    journal = module("journal")
    path = tmp_path / "runs.jsonl"
    one = record("plain yarn", 0, 1.0, 0)
    journal.append(path, one)
    journal.append(path, journal.Record(**{**vars(one), "row": "plain ntk", "model_digest": "other"}))
    with pytest.raises(ValueError, match="one model and one set of held-out documents, got other"):
        journal.read([path])


def test_the_zero_search_seed_is_among_those_of_the_default(bench: Callable[..., Path], source: str) -> None:
    benches, searching, rows = module("bench"), module("searching"), module("rows")
    made = benches.Bench(benches.Source.parse(source), 4, benches.Machine(device="cpu"))
    settings = load_settings(ROOT / "hyperparams" / "hybrid.yaml")
    search = searching.Search(made, settings, 0)
    zero = rows.zero_search_factors(made)
    seeds = [search.build(genome) for genome in search.seeds().values()]
    near = [np.abs(one.lambdas - zero.lambdas).max() for one in seeds]
    assert min(near) <= 0.005 + 1e-9  # half a step of the grid
    assert seeds[int(np.argmin(near))].attention_factor == pytest.approx(zero.attention_factor, abs=5e-4)


def test_a_row_without_an_attention_gene_begins_at_the_rescale_factors_of_the_row_with_one(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    benches, searching, rows = module("bench"), module("searching"), module("rows")
    made = benches.Bench(benches.Source.parse(source), 4, benches.Machine(device="cpu"))
    monkeypatch.setattr(
        searching.Search, "run", lambda self, seeds, scores: [self.build(one) for one in seeds.values()]
    )
    built = rows.build_rows(rows.Terms())
    own, fixed = (built[name](made, 0) for name in ("default 1/20", "default 1/20, attention factor fixed (su)"))
    assert {tuple(one.lambdas) for one in fixed} == {tuple(one.lambdas) for one in own}
    assert len({one.attention_factor for one in fixed}) == 1 < len({one.attention_factor for one in own})


def test_the_queue_begins_with_what_the_claims_are_about(source: str) -> None:
    rows, workers, benches = module("rows"), module("workers"), module("bench")
    terms = rows.Terms((10,), 20)
    plan = workers.Plan((benches.Source.parse(source),), benches.Machine(), terms)
    args = SimpleNamespace(seeds=[0, 1], rows=["*"], ratios=[8, 2], models=plan.sources)
    keys = module("__main__").plan_keys(args, plan)
    assert len(keys) == len(set(keys))
    central = [key.row for key in keys if rows.is_central(key.row)]
    assert [key.row for key in keys[: len(central)]] == central
    assert {"default 1/20", "default 1/10", "plain yarn", rows.ZERO, rows.PAPER_ATTENTION} <= set(central)
    assert {key.seed for key in keys if rows.is_seedless(key.row)} == {0}
    assert [key.seed for key in keys if key.row == "swept yarn"] == [0, 0, 1, 1]
