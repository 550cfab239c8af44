"""Commands, outputs and numbers of the pages are those of the package."""

import json
import re
import runpy

import pytest

from longrope.cli.main import build_parser, spell_out

from .pages import PAGES, ROOT, commands, fences

COSTS = ROOT / "docs" / "costs.md"
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


def test_the_plans_are_what_the_commands_print() -> None:
    text = COSTS.read_text(encoding="utf-8")
    fill_in = runpy.run_path(str(ROOT / "docs" / "plans.py"))["fill_in"]
    assert fill_in(text) == text, "run python docs/plans.py"


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


def test_the_files_that_changes_belong_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where a change belongs")[2]
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    named = [re.findall(r"`([\w/.]+)`", row)[-1] for row in rows]
    named += [name for name in re.findall(r"`(\w+/[\w/.]*)`", text.partition("Some changes")[2]) if "NAME" not in name]
    assert [name for name in named if not (ROOT / name).exists()] == []
