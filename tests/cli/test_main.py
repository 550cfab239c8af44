"""Flags and files come from one definition; bad input is one sentence and exit code 2, and nothing is lost."""

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import Gemma3TextConfig, LlamaConfig, Phi3Config, PreTrainedConfig

from longrope.cli.main import COMMANDS, build_parser, main, spell_out
from longrope.evolution.strategies import GRADIENT_SCORES
from longrope.rope import RescaleFactors, load_factors

Run = Callable[..., tuple[int, str, str]]
THETA: dict[str, Any] = {"rope_theta": 5e5}
LONGROPE: dict[str, Any] = {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; return exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """Return tokenized documents: three of about 400 tokens."""
    texts = tmp_path_factory.mktemp("texts")
    for index, word in enumerate(("alpha", "beta", "gamma")):
        (texts / f"{word}.txt").write_text("".join(f"{word} {i * (index + 3)} " for i in range(40)))
    folder = tmp_path_factory.mktemp("tokens") / "tokens"
    command = ["tokenize", "--model", model_folder, "--dataset", texts, "--save-tokenized", folder]
    assert main([str(part) for part in command]) == 0
    return folder


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "short.yaml"
    path.write_text(
        "strategy: paper\npopulation_size: 6\nnum_iterations: 2\nnum_mutations: 2\nnum_crossovers: 2\nnum_parents: 3\n"
        "start_token_choices: [0, 2, 8]\n"
    )
    return path


@pytest.fixture(scope="session")
def search_arguments(model_folder: Path, tokens: Path, settings: Path) -> list[str]:
    named = {"model": model_folder, "tokenized": tokens, "target-length": 128, "samples": 2, "hyper-params": settings}
    return ["search", *(str(part) for name, value in named.items() for part in (f"--{name}", value))]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option(command: str, run: Run) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    for field in fields(COMMANDS[command][0]):
        assert re.search(rf"--{field.name.replace('_', '-')} .*?\n?.*?[A-Za-z]{{3}}", out), field.name


def test_a_yaml_file_and_flags_give_the_same_configuration(tmp_path: Path, run: Run) -> None:
    flags = ["--model", "m", "--tokenized", "t", "--lengths", "256", "512", "--output-dir", "o", "--methods", "none"]
    _, printed, _ = run("evaluate", *flags, "--print_config")
    (tmp_path / "run.yaml").write_text(printed)
    parser = build_parser()
    from_file = parser.parse_args(["evaluate", "--config", str(tmp_path / "run.yaml")])["evaluate"].as_dict()
    from_flags = parser.parse_args(spell_out(["evaluate", *flags]))["evaluate"].as_dict()
    assert from_file | {"config": None} == from_flags | {"config": None}
    assert list(from_flags["lengths"]) == [256, 512]


@pytest.mark.parametrize(
    ("typed", "spelled"),
    [
        (["evaluate", "--lengths", "256", "512"], ["evaluate", "--lengths=[256, 512]"]),
        (["evaluate", "--lengths=256,512"], ["evaluate", "--lengths=[256, 512]"]),
        (["evaluate", "--methods", "yarn:a=1,b=2", "ntk"], ["evaluate", '--methods=["yarn:a=1,b=2", "ntk"]']),
        (["search", "--resume", "--seed", "1"], ["search", "--resume=true", "--seed", "1"]),
        (["search", "--resume", "false"], ["search", "--resume", "false"]),
        (["--help"], ["--help"]),
    ],
)
def test_lists_and_switches_are_spelled_out(typed: list[str], spelled: list[str]) -> None:
    assert spell_out(typed) == spelled


def test_an_unknown_option_is_refused(run: Run) -> None:
    code, _, err = run("search", "--model", "m", "--target_lenght", 3)
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "/nowhere"}, "model must be a folder that exists"),
        ({"tokenized": "/nowhere"}, "tokenized data must be a folder with tokens.json"),
        ({"target-length": 100_000}, "samples must be at most the 0 documents of 100000 or more tokens"),
        (
            {"target-length": 32},
            "target_length must be above the original length, got 32 tokens for a model that reads 32",
        ),
        ({"hyper-params": "nowhere.yaml"}, "hyper-params must be a file that exists"),
        ({"attention-factor": "sue"}, "attention factor must be a number or one of su, yarn, got 'sue'"),
        ({"init-factors": "/nowhere.json"}, "nowhere.json"),
        ({"samples": 4}, "samples must be at most the 3 documents"),
    ],
)
def test_bad_search_input_is_one_sentence(
    search_arguments: list[str], tmp_path: Path, run: Run, changes: dict[str, object], message: str
) -> None:
    extra = [part for name, value in changes.items() for part in (f"--{name}", value)]
    code, _, err = run(*search_arguments, "--output-dir", tmp_path / "run", *extra)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("longrope search: ")
    assert re.search(message, last), last
    assert not (tmp_path / "run" / "factors.json").exists()


def test_a_search_below_the_length_of_an_extended_model_readjusts_it(
    model_folder: Path, search_arguments: list[str], tmp_path: Path, run: Run
) -> None:
    factors = RescaleFactors(np.linspace(1, 8, 8), 32, 256, 1e4, 16, attention_factor=1.1)
    factors.save(tmp_path / "factors.json")
    extended = tmp_path / "extended"
    assert run("export", "--model", model_folder, "--factors", tmp_path, "--output-dir", extended)[0] == 0
    second = [*search_arguments, "--model", extended, "--output-dir", tmp_path / "run"]
    assert run(*second)[0] == 0
    found = load_factors(tmp_path / "run")
    assert (found.original_length, found.target_length) == (32, 128)
    beyond = [*second, "--output-dir", tmp_path / "beyond"]
    assert run(*beyond, "--original-length", 32)[0] == 0  # on top of the extension, as for a second stage
    assert run(*beyond, "--original-length", 128)[0] == 2


def test_the_default_search_stays_within_its_tokens(model_folder: Path, tokens: Path, tmp_path: Path, run: Run) -> None:
    named = {"model": model_folder, "tokenized": tokens, "target-length": 128, "samples": 3, "output-dir": tmp_path}
    arguments = [str(part) for name, value in named.items() for part in (f"--{name}", value)]
    code, out, err = run("search", *arguments, "--max-scored-tokens", 128 * 80)
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert 60 < sum(GRADIENT_SCORES if row["differentiated"] else 1 for row in rows) <= 80
    origins = {row["origin"] for row in rows}
    assert {"seed:pi", "seed:ntk", "seed:yarn", "seed:yarn+attention", "seed:llama3"} < origins
    factors = json.loads((tmp_path / "factors.json").read_text())
    final = [row for row in rows if row["generation"] == rows[-1]["generation"]]
    losses: dict[tuple[object, ...], float] = {}
    for row in final:
        key = (row["attention"], row["start_tokens"], *row["steps"])
        losses[key] = losses.get(key, 0.0) + row["nats"]
    best = min(losses, key=lambda key: losses[key])
    assert (round(1000 * factors["attention_factor"]), factors["start_tokens"]) == best[:2]
    code, _, err = run("search", *arguments, "--max-scored-tokens", 128 * 20)
    assert code == 2 and "num_scores must be at least" in err


@pytest.mark.parametrize(
    ("lambdas", "message"),
    [
        ([1.0] * 7 + [float("nan")], "lambdas must be finite"),
        ([1.0, 3.0] + [2.0] * 6, "lambdas must be non-decreasing"),
        ([1.0] * 5, "lambdas must have length 8"),
    ],
)
def test_bad_factors_are_one_sentence(
    model_folder: Path, tokens: Path, tmp_path: Path, run: Run, lambdas: list[float], message: str
) -> None:
    payload = {"format": "longrope-factors", "version": 1, "lambdas": lambdas, "original_length": 32}
    payload |= {"target_length": 128, "theta": 1e4, "rotary_dim": 16}
    (tmp_path / "factors.json").write_text(json.dumps(payload))
    named = {"model": model_folder, "tokenized": tokens, "factors": tmp_path / "factors.json", "lengths": 128}
    arguments = [part for name, value in named.items() for part in (f"--{name}", value)]
    code, _, err = run("evaluate", *arguments, "--samples", 3, "--output-dir", tmp_path / "out")
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


def test_doctor_names_the_choices_and_runs_the_canary(model_folder: Path, run: Run) -> None:
    code, out, _ = run("doctor", "--model", model_folder)
    assert code == 0
    for words in (
        "device:",
        "dtype:",
        "attention:",
        "10000",
        "16 (8 pairs, half)",
        "32 tokens",
        "never complete a period",
        "critical dimension",
    ):
        assert words in out
    assert "passed on the model" in out


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            LlamaConfig(hidden_size=64, num_attention_heads=4, head_dim=128, max_position_embeddings=8192, **THETA),
            {"rope theta": "500000", "rotary dimension": "128 (64 pairs, half)", "critical dimension": "pair 35"},
        ),
        (
            Gemma3TextConfig(
                hidden_size=64, num_attention_heads=4, head_dim=16, num_hidden_layers=8, sliding_window=64
            ),
            {"rope theta": "1e+06", "rescaled layers": "5", "local layers": "0-4, 6-7, theta 10000, not rescaled"},
        ),
        (
            Phi3Config(
                hidden_size=64,
                num_attention_heads=4,
                max_position_embeddings=1024,
                original_max_position_embeddings=256,
                **LONGROPE,
            ),
            {"rope type": "longrope", "original length": "1024 tokens (extended from 256)"},
        ),
    ],
    ids=["llama", "gemma3", "phi3"],
)
def test_doctor_needs_no_more_than_a_config(
    config: PreTrainedConfig, expected: dict[str, str], tmp_path: Path, run: Run
) -> None:
    config.save_pretrained(tmp_path)
    code, out, _ = run("doctor", "--model", tmp_path)
    facts = dict(re.findall(r"^(.+?): +(.+)$", out, re.MULTILINE))
    assert code == 0
    assert facts | expected == facts
    assert facts["canary"].startswith("passed")
