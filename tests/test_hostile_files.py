"""Files from elsewhere: whatever they hold, a reader returns what it should or raises ValueError, and runs no code."""

import copy
import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from longrope.cli.extend_recipe import load_extension
from longrope.cli.training_configs import ExtendConfig
from longrope.evaluation.comparison.cells import read_cells
from longrope.evaluation.comparison.methods import build_methods
from longrope.evaluation.comparison.results import read_results
from longrope.evaluation.comparison.sweep import read_sweep
from longrope.evaluation.data.corpus import Document
from longrope.evaluation.data.tokenized import load_tokenized, save_tokenized
from longrope.evaluation.report.runs import read_evaluation
from longrope.evaluation.scoring.checkpoint import find_checkpoint
from longrope.evaluation.scoring.model import read_config, read_tokenizer
from longrope.evolution import load_settings, search_curve
from longrope.hyperparams import preset
from longrope.rope import RopeGeometry, load_factor_sets, load_factors
from longrope.rope.lines import from_line, to_line
from longrope.training.recipe import load_recipe

from .evaluation.report.synthetic import losses, write_run
from .evolution.conftest import ToyObjective, run_toy

FUZZ = hypothesis.settings.get_profile("fuzz")
ROOT = Path(__file__).resolve().parent.parent
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from(
        [10**400, 2**63, -(2**63), 1e308, float("nan"), float("inf"), 1e-320, "", "yarn", "\x00", "<script>"]
    ),
    st.floats(),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value inside a value."""
    found = [path]
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, part in parts for place in places(part, (*path, key))]


def changed(draw: Callable[[st.SearchStrategy[Any]], Any], content: Any) -> Any:
    """Return content with one to three values replaced, removed or added."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([place for place in places(content) if place] or [("x",)]))
        parent = content
        for key in way:
            parent = parent[key]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if kind == "replace":
            parent[last] = draw(VALUES)
        elif kind == "remove" and last in (parent if isinstance(parent, dict) else range(len(parent))):
            del parent[last]
        elif isinstance(parent, dict):
            parent[draw(st.text(max_size=6))] = draw(VALUES)
    return content


def mangled(draw: Callable[[st.SearchStrategy[Any]], Any], data: bytes) -> bytes:
    """Return bytes with one to four runs replaced, or cut, or nothing but noise."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        data = data[:place] + draw(st.binary(max_size=8)) + data[place + draw(st.integers(0, 8)) :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 5)) == 0 else data


def as_json(content: Any) -> bytes:
    return json.dumps(content).encode()


def as_yaml(content: Any) -> bytes:
    return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "replace")


def as_csv(content: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(row if isinstance(row, list) else [row] for row in content if content)
    return text.getvalue().encode("utf-8", "replace")


def as_lines(content: Any) -> bytes:
    """One line each, with a checksum that is right: the values themselves are hostile."""
    lines = [line if isinstance(line, dict) else {"line": line} for line in content]
    return "".join(json.dumps(line) + "\n" if _infinite(line) else to_line(line) for line in lines).encode()


def _infinite(content: Any) -> bool:
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        return True
    return False


FACTORS = {
    "format": "longrope-factors",
    "version": 1,
    "lambdas": [1.0, 1.5, 2.0, 4.0],
    "original_length": 32,
    "target_length": 128,
    "theta": 10000.0,
    "rotary_dim": 8,
    "attention_factor": 1.1,
    "start_tokens": 2,
    "provenance": {"data": {"documents": {"a": 1}}},
}
ONE_SET = {name: value for name, value in FACTORS.items() if name not in ("format", "version")}
CONFIG = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "long_factor": [1.0, 1.5, 2.0, 4.0],
        "short_factor": [1.0, 1.0, 1.0, 1.0],
    },
}
YARN = CONFIG | {
    "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 32, "mscale": 1.0}
}
SWEEP = {"method": "yarn", "parameters": {"beta_fast": {"values": [16, 32], "low": 1, "high": 64, "scale": "log"}}}
RECIPE = {
    "learning_rate": 2e-5,
    "batch_size": 4,
    "stages": [{"length": 64, "steps": 4, "windows": [{"length": 32, "rope": "original", "share": 0.5}]}],
}
EXTENSION = {
    "model": "m",
    "train": ["a"],
    "search": "b",
    "eval": "c",
    "output_dir": "d",
    "stages": [{"search": {"target_length": 64, "max_scored_tokens": 10}}, {"evaluate": {"lengths": [32]}}],
}
METHODS = {"methods": ["yarn", "linear:factor=2"], "tuned_documents": ["a"]}
TABLE = [[1.0], [1.5], [2.0], [4.0]]
RESULT_ROW = {
    "method": "a",
    "task": "passkey",
    "metric": "accuracy",
    "length": 8,
    "value": 0.5,
    "low": None,
    "high": 1,
    "n": 2,
}
GEOMETRY_8 = RopeGeometry(8, 10000.0, 32)


def settings_content(name: str) -> dict[str, Any]:
    return yaml.safe_load(Path(preset(name)).read_text())


READERS: dict[str, tuple[str, Any, Callable[[Any], bytes], Callable[[Path], Any]]] = {
    "factors": ("factors.json", FACTORS, as_json, load_factors),
    "factor sets": (
        "sets.json",
        {"format": "longrope-factors-by-length", "version": 1, "sets": [ONE_SET, ONE_SET | {"target_length": 256}]},
        as_json,
        load_factor_sets,
    ),
    "config": ("config.json", CONFIG, as_json, load_factors),
    "yarn config": ("config.json", YARN, as_json, load_factors),
    "csv": ("factors.csv", TABLE, as_csv, lambda path: load_factors(path, GEOMETRY_8, 128)),
    "hybrid settings": ("s.yaml", settings_content("hybrid"), as_yaml, load_settings),
    "paper settings": ("s.yaml", settings_content("longrope"), as_yaml, load_settings),
    "sweep": ("s.yaml", SWEEP, as_yaml, read_sweep),
    "recipe": ("r.yaml", RECIPE, as_yaml, load_recipe),
    "extension": ("e.yaml", EXTENSION, as_yaml, lambda path: load_extension(path, ExtendConfig(recipe="r"))),
    "methods": (
        "m.yaml",
        METHODS,
        as_yaml,
        lambda path: build_methods((f"@{path}",), (), GEOMETRY_8, (32, 64), 128),
    ),
}


def only_value_errors(read: Callable[[], Any]) -> None:
    """Let a reader return or refuse; a refusal is short."""
    try:
        read()
    except ValueError as error:
        assert len(str(error)) < 3000


@pytest.mark.parametrize("kind", READERS)
@FUZZ
@given(data=st.data())
def test_a_reader_returns_or_refuses(kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    name, content, spell, read = READERS[kind]
    path = folder_of(tmp_path_factory, kind) / name
    whole = spell(changed(data.draw, content)) if data.draw(st.integers(0, 2)) else mangled(data.draw, spell(content))
    path.write_bytes(whole)
    only_value_errors(lambda: read(path))


@pytest.mark.parametrize("kind", READERS)
def test_what_is_mangled_was_readable(kind: str, tmp_path: Path) -> None:
    name, content, spell, read = READERS[kind]
    (tmp_path / name).write_bytes(spell(content))
    assert read(tmp_path / name) is not None


FOLDERS: dict[str, Path] = {}


def folder_of(factory: pytest.TempPathFactory, kind: str) -> Path:
    """Return a folder of a kind; the same for each example, of which there may be many."""
    if kind not in FOLDERS:
        FOLDERS[kind] = factory.mktemp("hostile")
    return FOLDERS[kind]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the journals of a search and of a comparison."""
    folder = tmp_path_factory.mktemp("run")
    run_toy("paper", folder, ToyObjective())
    records = [record for method in ("none", "yarn") for record in losses(method, "perplexity", 100, 3.0)[:2]]
    write_run(folder, {"perplexity": records})
    for name in ("history.jsonl",):
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        (folder / name).write_bytes(b"".join(lines[-8:]))
    return folder


RUN_FILES: dict[str, Callable[[Path], Any]] = {
    "results.json": read_evaluation,
    "cells.jsonl": read_evaluation,
    "history.jsonl": search_curve,
}


@pytest.mark.parametrize("name", RUN_FILES)
@FUZZ
@given(data=st.data())
def test_a_run_folder_is_read_or_refused(
    name: str, data: st.DataObject, run_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = folder_of(tmp_path_factory, f"run {name}")
    shutil.copytree(run_folder, folder, dirs_exist_ok=True)
    whole = (run_folder / name).read_bytes()
    if data.draw(st.integers(0, 2)) == 0:
        hostile = mangled(data.draw, whole)
    elif name == "results.json":
        hostile = as_json(changed(data.draw, json.loads(whole)))
    else:
        content = [from_line(line)[0] for line in whole.splitlines(keepends=True)]
        hostile = as_lines(changed(data.draw, content))
    (folder / name).write_bytes(hostile)
    only_value_errors(lambda: RUN_FILES[name](folder))
    only_value_errors(lambda: (read_cells(folder), read_results(folder / "results.json")))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "tokens"
    save_tokenized(folder, [Document("a", "alpha " * 20), Document("b", "beta " * 20)], tokenizer, {"source": "x"})
    return folder


@FUZZ
@given(data=st.data())
def test_a_tokenized_folder_is_read_or_refused(
    data: st.DataObject, tokens: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = folder_of(tmp_path_factory, "tokens")
    shutil.copytree(tokens, folder, dirs_exist_ok=True)
    name = data.draw(st.sampled_from(sorted(path.name for path in tokens.iterdir())))
    (folder / name).write_bytes(mangled(data.draw, (tokens / name).read_bytes()))
    only_value_errors(lambda: load_tokenized(folder, 10, 1))


@FUZZ
@given(data=st.data())
def test_a_gguf_file_is_read_or_refused(
    data: st.DataObject, gguf_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = gguf_model.read_bytes()
    path = folder_of(tmp_path_factory, "gguf") / "model.gguf"
    path.write_bytes(mangled(data.draw, whole[:4096]) + whole[4096:])
    only_value_errors(lambda: find_checkpoint(str(path)))


@pytest.mark.parametrize("kind", [kind for kind in READERS if kind != "config"])
def test_a_file_beyond_all_sizes_is_refused(kind: str, tmp_path: Path) -> None:
    name, _, _, read = READERS[kind]
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**34)  # takes no space on the disk, but would in memory
    with pytest.raises(ValueError, match="at most 10 MiB|must be a file of format|must be a file with format"):
        read(tmp_path / name)


HUGE = 10**400


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (load_settings, {"strategy": "hybrid", "trust_radius": HUGE}),
        (load_settings, {"strategy": ["paper"]}),
        (load_recipe, RECIPE | {"stages": [{"length": 64, "steps": 4, "windows": None}]}),
        (load_recipe, RECIPE | {"learning_rate": HUGE}),
        (read_sweep, SWEEP | {"parameters": {"beta_fast": {"values": [HUGE]}}}),
    ],
)
def test_what_the_fuzzer_found_is_refused(read: Callable[[Path], Any], content: Any, tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_bytes(as_yaml(content))
    with pytest.raises(ValueError, match=r"file\.yaml"):
        read(tmp_path / "file.yaml")


def test_a_config_of_a_model_without_dimensions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(as_json(YARN | {"hidden_size": 0}))
    with pytest.raises(ValueError, match=r"config\.json: rotary_dim must be an even number of at least 2, got 0"):
        load_factors(str(tmp_path / "config.json"))


def test_yaml_that_grows_without_end_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (tmp_path / "s.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="at most 1,000,000 values"):
        load_settings(tmp_path / "s.yaml")


def test_a_model_with_code_of_its_own_is_refused_and_the_code_not_run(tmp_path: Path) -> None:
    (tmp_path / "configuration_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass EvilConfig: pass\n")
    evil = {"AutoConfig": "configuration_evil.EvilConfig", "AutoTokenizer": ["configuration_evil.EvilConfig", None]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": evil}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Evil", "auto_map": evil}))
    for read in (read_config, read_tokenizer):
        with pytest.raises(ValueError, match="asks to run code of its own .auto_map., which longrope never does"):
            read(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_nothing_in_the_packages_runs_what_a_file_says() -> None:
    forbidden = re.compile(
        r"\bpickle\b|torch\.load\(|yaml\.(load|unsafe_load|full_load)\(|allow_pickle=True|trust_remote_code=True"
        r"|weights_only=False|(?<![.\w])(eval|exec)\("
    )
    packages = ("rope", "evolution", "evaluation", "training", "cli", "hyperparams")
    found = [
        f"{path}: {line}"
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if forbidden.search(line)
    ]
    assert not found


def test_names_are_escaped_in_the_report(tmp_path: Path) -> None:
    from longrope.cli.main import main

    evil = "<script>alert(1)</script>"
    records = [record for method in (evil, "yarn") for record in losses(method, "perplexity", 100, 3.0)]
    write_run(
        tmp_path / "run",
        {"perplexity": records},
        failures=[{"method": evil, "task": "perplexity", "length": 100, "item": evil, "error": evil}],
    )
    assert main(["report", str(tmp_path / "run"), "--output-dir", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<script" not in page.lower().replace(f'"{evil}"', "") and "&lt;script&gt;" in page
