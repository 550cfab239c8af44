"""Commands, outputs and numbers of the pages are those of the package."""

import json
import re
from pathlib import Path

import pytest
from transformers import LlamaConfig

from longrope.cli.main import build_parser, main, spell_out

from .pages import PAGES, ROOT, commands, fences

COSTS = ROOT / "docs" / "costs.md"
SIZES = {
    "meta-llama/Meta-Llama-3-8B": {
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "dtype": "bfloat16",
    },
    "meta-llama/Llama-2-7b-hf": {"intermediate_size": 11008, "max_position_embeddings": 4096, "dtype": "float16"},
}
"""The published configurations, in what they differ from Transformers' defaults."""

ENGINES = {"transformers": "Transformers", "lm_eval": "lm-eval", "vllm": "vLLM", "llama.cpp": "llama.cpp"}


def known_commands() -> list[list[str]]:
    texts = [fence.text for page in PAGES for fence in fences(page) if fence.language in ("bash", "console")]
    lines = [re.sub(r"^\$ ", "", text, flags=re.MULTILINE) for text in texts]
    found = [words for text in lines for line in text.replace("\\\n", " ").splitlines() for words in commands_of(line)]
    assert len(found) > 20
    return found


def commands_of(line: str) -> list[list[str]]:
    return [words[1:] for words in commands(line)] if line.startswith("longrope ") else []


@pytest.mark.parametrize("words", known_commands(), ids=" ".join)
def test_every_command_has_the_options_that_a_page_gives(words: list[str]) -> None:
    end = words.index("|") if "|" in words else len(words)
    build_parser().parse_args(spell_out(words[:end]))


def test_the_plans_are_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, sizes in SIZES.items():
        LlamaConfig(**sizes).save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for fence in fences(COSTS):
        printed = ""
        for line in fence.text.splitlines():
            if line.startswith("$ "):
                command, _, word = line.removeprefix("$ longrope ").partition(" | grep ")
                (words,) = commands(command)
                assert main(words) == 0
                kept = [one for one in capsys.readouterr().out.splitlines() if word in one]
                printed += "".join(f"{one}\n" for one in (line, *kept))
        assert printed == fence.text


def test_the_numbers_between_the_plans_are_from_the_plans() -> None:
    text = COSTS.read_text(encoding="utf-8")
    plans = "".join(fence.text for fence in fences(COSTS))
    between = text.replace(plans, "")
    for fence in fences(COSTS):
        between = between.replace(fence.text, "")
    numbers = re.findall(r"\d+\.\d+", between)
    assert len(numbers) > 5
    assert [number for number in numbers if number not in plans] == []


def test_the_summary_of_the_engines_is_that_of_their_report() -> None:
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    rows = json.loads((ROOT / "benchmarks" / "reports" / "engines.json").read_text(encoding="utf-8"))["rows"]
    loaded = [row for row in rows if "difference" in row]
    assert all(row["greedy_equal"] and row["factor_applied"] == "once" for row in loaded)
    for engine, name in ENGINES.items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {name}") and "applied once" in line]
        measured = [row for row in loaded if row["engine"].startswith(engine)]
        assert all(row["version"] in line for row in measured)
        assert f"| {max(max(row['difference'].values()) for row in measured):.1e} |" in line
