import hashlib
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import pytest

from longrope.evaluation.data import packages
from longrope.evaluation.data.packages import SPLITS, decode_source, read_manifest, read_packages

ROOT = Path(__file__).parents[3]
PROGRAM = """
import hashlib
from longrope.evaluation.data.packages import read_packages
documents = list(read_packages("eval"))
print([d.name for d in documents], hashlib.sha256("".join(d.text for d in documents).encode()).hexdigest())
"""


def test_every_document_is_of_a_version_that_the_lock_pins():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    assert {(row.package, row.version) for row in read_manifest()} <= set(pinned.items())


def test_no_file_is_in_two_splits_and_no_group_of_files_either():
    rows = read_manifest()
    assert {row.split for row in rows} == set(SPLITS)
    assert len({row.sha256 for row in rows}) == len({row.path for row in rows}) == len(rows)
    groups = {split: {"/".join(row.path.split("/")[:2]) for row in rows if row.split == split} for split in SPLITS}
    assert not groups["train"] & groups["search"]
    assert not groups["train"] & groups["eval"]
    assert not groups["search"] & groups["eval"]


def test_the_locked_environment_has_every_document_of_search_and_eval():
    for split in ("search", "eval"):
        assert len(list(read_packages(split))) == sum(row.split == split for row in read_manifest())


def test_documents_are_the_same_in_another_process_with_another_hash_seed():
    printed = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in "12"
    }
    assert len(printed) == 1


def test_a_document_is_the_file_that_is_installed():
    row = next(row for row in read_manifest() if row.split == "eval")
    path = Path(str(distribution(row.package).locate_file(row.path)))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256
    assert next(iter(read_packages("eval"))).text == path.read_text(encoding="utf-8")


def test_what_differs_is_left_out_with_a_note(monkeypatch, capsys):
    rows = [row for row in read_manifest() if row.split == "eval"][:4]
    wrong = [replace(rows[0], sha256="0" * 64), replace(rows[1], version="0.1"), replace(rows[2], package="no-such")]
    monkeypatch.setattr(packages, "read_manifest", lambda: [*wrong, rows[3]])
    assert [document.name for document in read_packages("eval")] == [rows[3].path.removesuffix(".py")]
    notes = capsys.readouterr().err
    assert f"{rows[0].package} must be {rows[0].version}, got other contents in the same version" in notes
    assert f"{rows[1].package} must be 0.1, got {rows[1].version}" in notes
    assert "no-such must be" in notes
    assert "which is not installed" in notes


def test_nothing_as_in_the_manifest_is_an_error(monkeypatch):
    rows = [replace(row, version="0.1") for row in read_manifest()[:2]]
    monkeypatch.setattr(packages, "read_manifest", lambda: rows)
    with pytest.raises(ValueError, match=r"got none as the manifest says: .* must be 0.1.*pip install -r"):
        list(read_packages())


def test_source_is_read_in_the_encoding_that_it_declares():
    assert decode_source("# -*- coding: latin-1 -*-\n# ä".encode("latin-1")) == "# -*- coding: latin-1 -*-\n# ä"
    assert decode_source("x = 'ä'\r\n".encode()) == "x = 'ä'\n"
    with pytest.raises(SyntaxError, match="no utf-8 text"):
        decode_source(b"x = 1\n" * 3 + b"\xff")
