import json
from pathlib import Path

import pytest

from longrope.evaluation.report.runs import combine, only, read_evaluation

from .synthetic import answers, losses, write_run


def perplexity_of(*methods: str, mean: float = 1.0) -> dict[str, list]:
    return {"perplexity": [record for method in methods for record in losses(method, "perplexity", 512, mean)]}


def test_a_run_has_its_rows_and_the_records_behind_them(tmp_path: Path):
    one = read_evaluation(write_run(tmp_path, perplexity_of("none", "yarn")))
    assert {row.method for row in one.rows} == set(one.factors) == {"none", "yarn"}
    assert len(one.records["perplexity"]) == 24
    assert one.protocols == {"perplexity": {"name": "perplexity", "version": "one"}}


def test_records_that_another_protocol_measured_are_left_out(tmp_path: Path):
    write_run(tmp_path, perplexity_of("none"), protocol="earlier")
    assert len(read_evaluation(write_run(tmp_path, perplexity_of("none"))).records["perplexity"]) == 12


def test_records_whose_cell_says_something_else_than_the_results_are_left_out(tmp_path: Path):
    write_run(tmp_path, perplexity_of("none", "yarn"))
    results = json.loads((tmp_path / "results.json").read_text())
    results["rows"][0]["value"] += 0.5
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert {record["method"] for record in read_evaluation(tmp_path).records["perplexity"]} == {"yarn"}


def test_runs_that_were_measured_alike_stand_together(tmp_path: Path):
    first = read_evaluation(write_run(tmp_path / "a", perplexity_of("none")))
    second = read_evaluation(
        write_run(tmp_path / "b", perplexity_of("none") | {"passkey": answers("none", "passkey", 512, 0.5)})
    )
    (both,) = combine([first, second])
    assert [(row.method, row.task) for row in both.rows] == [("none", "perplexity"), ("none", "passkey")]
    assert len(both.records["perplexity"]) == 12 and len(both.records["passkey"]) == 20
    assert len(both.sources) == len(both.provenances) == 2


def test_methods_of_one_name_with_other_factors_keep_apart(tmp_path: Path):
    first = read_evaluation(write_run(tmp_path / "a", perplexity_of("longrope")))
    second = read_evaluation(write_run(tmp_path / "b", perplexity_of("longrope", mean=0.9), ratio=4.0))
    (both,) = combine([first, second])
    assert [row.method for row in both.rows] == ["longrope", "longrope (b)"]
    assert both.factors["longrope"] != both.factors["longrope (b)"]
    assert {record["method"] for record in both.records["perplexity"]} == {"longrope", "longrope (b)"}


@pytest.mark.parametrize(
    "other", [{"protocol": "other"}, {"dtype": "bfloat16"}, {"model": {"id": "models/made-up", "sha256": "0" * 64}}]
)
def test_runs_that_were_measured_differently_are_never_put_together(tmp_path: Path, other: dict):
    first = read_evaluation(write_run(tmp_path / "a", perplexity_of("none")))
    second = read_evaluation(write_run(tmp_path / "b", perplexity_of("yarn"), **other))
    assert combine([first, second]) == [first, second]


def test_the_place_of_a_model_does_not_matter(tmp_path: Path):
    moved = {"id": "elsewhere/model", "sha256": "f" * 64}
    first = read_evaluation(write_run(tmp_path / "a", perplexity_of("none")))
    second = read_evaluation(write_run(tmp_path / "b", perplexity_of("none"), model=moved))
    assert len(combine([first, second])) == 1


def test_some_methods_can_be_picked(tmp_path: Path):
    picked = only(read_evaluation(write_run(tmp_path, perplexity_of("none", "yarn"))), ["yarn"])
    assert {row.method for row in picked.rows} == {"yarn"}
    assert {record["method"] for record in picked.records["perplexity"]} == {"yarn"}


def test_a_folder_without_results_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="results must be a file that exists"):
        read_evaluation(tmp_path)
