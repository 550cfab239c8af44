import json
import os
import subprocess
from importlib.metadata import version
from typing import Any

import pytest
import torch

from longrope.evaluation.comparison.results import (
    DECISIVE_VERSIONS,
    PROVENANCE,
    LeftOut,
    ResultRow,
    model_fingerprint,
    provenance,
    read_results,
    write_results,
)
from longrope.evaluation.data.commit import checkout_commit

ROWS = [
    ResultRow("yarn", "perplexity", "token_weighted", 2048, 8.27, 7.9, 8.6, 20),
    ResultRow("yarn", "passkey", "accuracy", 2048, 0.2, None, None, 1),
]
COMPLETE: dict[str, Any] = dict.fromkeys(PROVENANCE, "x") | {"versions": dict.fromkeys(DECISIVE_VERSIONS, "1")}
FAILURES = [{"method": "none", "task": "passkey", "length": 2048, "item": "cell", "error": "RuntimeError: x"}]


def test_results_come_back_as_written(tmp_path):
    costs = [{"method": "yarn", "task": "passkey", "lengths": [2048], "seconds": 2.5, "tokens_per_second": 819.2}]
    left_out = [LeftOut("niah", 64, "no room")]
    write_results(tmp_path / "results.json", ROWS, COMPLETE, FAILURES, costs, left_out)
    assert read_results(tmp_path / "results.json") == (ROWS, COMPLETE, FAILURES, costs, left_out)
    raw = json.loads((tmp_path / "results.json").read_text())
    assert set(raw["rows"][0]) == {"method", "task", "metric", "length", "value", "low", "high", "n"}


@pytest.mark.parametrize("missing", [*PROVENANCE, None])
def test_results_without_provenance_are_neither_written_nor_read(tmp_path, missing):
    incomplete = {} if missing is None else {k: v for k, v in COMPLETE.items() if k != missing}
    path = tmp_path / "results.json"
    with pytest.raises(ValueError, match=f"must carry provenance, got none for .*{missing or 'versions'}"):
        write_results(path, ROWS, incomplete, [])
    assert not path.exists()
    write_results(path, ROWS, COMPLETE, [])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"provenance": incomplete}))
    with pytest.raises(ValueError, match="must carry provenance"):
        read_results(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_value_that_is_no_number_is_refused_and_the_old_file_kept(tmp_path, value):
    path = tmp_path / "results.json"
    write_results(path, ROWS, COMPLETE, [])
    before = path.read_text()
    with pytest.raises(ValueError, match="value must be a finite number"):
        write_results(path, [ResultRow("none", "perplexity", "token_weighted", 9, value, None, None, 3)], COMPLETE, [])
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "readable JSON"),
        ("[]", "must be of format"),
        ('{"format": "longrope-results", "version": 2}', "must be of format longrope-results 1"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_results(tmp_path / "results.json")
    with pytest.raises(ValueError, match="must be a file that exists"):
        read_results(tmp_path / "none.json")


def test_results_of_earlier_versions_have_no_costs(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, ROWS, COMPLETE, FAILURES)
    payload = json.loads(path.read_text())
    del payload["costs"], payload["left_out"]
    path.write_text(json.dumps(payload))
    assert read_results(path) == (ROWS, COMPLETE, FAILURES, [], [])


def test_rows_with_other_fields_are_refused(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, ROWS, COMPLETE, [])
    payload = json.loads(path.read_text())
    payload["rows"][0]["score"] = payload["rows"][0].pop("value")
    path.write_text(json.dumps(payload))
    with pytest.raises(ValueError, match="must have the fields"):
        read_results(path)


def test_provenance_says_what_ran_and_on_what(llama, tmp_path):
    llama.save_pretrained(tmp_path)
    found = provenance(llama, str(tmp_path), {"perplexity": {"seed": 3}}, seconds=1.5)
    assert set(PROVENANCE) <= set(found)
    assert found["versions"]["torch"] == version("torch")
    assert (found["device"], found["dtype"], found["attention"]) == ("cpu", "float32", "sdpa")
    assert found["seconds"] == 1.5
    assert len(found["model"]["sha256"]) == 64
    json.dumps(found)


def test_the_model_fingerprint_changes_with_one_weight(llama, tmp_path):
    llama.save_pretrained(tmp_path)
    before = model_fingerprint(llama, str(tmp_path))
    assert model_fingerprint(llama, str(tmp_path)) == before
    with torch.no_grad():
        llama.lm_head.weight[0, 0] += 1
    llama.save_pretrained(tmp_path)
    assert model_fingerprint(llama, str(tmp_path)) != before


def test_the_commit_is_read_without_writing_into_the_repository(tmp_path):
    def git(*command: str) -> str:
        named = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *command]
        return subprocess.run(named, cwd=tmp_path, capture_output=True, check=True, text=True).stdout.strip()

    source, index = tmp_path / "results.py", tmp_path / ".git" / "index"
    source.write_text("x")
    git("init")
    git("add", ".")
    git("commit", "--message", "x")
    os.utime(source, (0, 0))  # git would note the new time in its index, under a lock
    before = index.stat()
    assert checkout_commit(source) == git("rev-parse", "HEAD")
    assert (index.stat().st_ino, index.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    source.write_text("y")
    assert checkout_commit(source) == git("rev-parse", "HEAD") + "-dirty"
