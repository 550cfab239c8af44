"""The commands of the tutorial and the examples of the reference, as they stand on the pages."""

from pathlib import Path

import pytest

from longrope.cli.main import main

from .pages import ROOT, commands, fences

TUTORIAL = ROOT / "docs" / "tutorial.md"


def test_the_tutorial_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    run, names = [], {}
    for fence in fences(TUTORIAL):
        if fence.title:
            continue
        if fence.language == "python":
            exec(compile(fence.text, TUTORIAL, "exec"), names)
        elif fence.language == "bash":
            for program, *arguments in commands(fence.text):
                assert program == "longrope", "another program would need a title that says so"
                assert main(arguments) == 0, arguments
                run.append(arguments[0])
    assert run == ["doctor", "tokenize", "tokenize", "search", "search", "evaluate", "report", "export"]
    output = capsys.readouterr().out
    for line in ("pair 13\n", "16 documents, 253779 tokens, sha256 60e9a0007875b425", "4 documents, 75888 tokens"):
        assert line in output, "a number that is the same on every machine"
    serve = next(fence.text for fence in fences(TUTORIAL) if "vLLM" in fence.title)
    assert serve in output, "the line that export prints for vLLM"
    assert (tmp_path / "runs" / "tutorial" / "report" / "report.html").is_file()


@pytest.mark.parametrize("page", ["rope", "evolution"])
def test_the_examples_of_the_reference_work(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (example,) = (fence.text for fence in fences(ROOT / "docs" / "api" / f"{page}.md"))
    exec(compile(example, page, "exec"), {})


def test_its_estimate_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = list(fences(TUTORIAL))
    at = next(index for index, fence in enumerate(blocks) if "--estimate" in fence.text)
    (words,) = commands(blocks[at].text)
    assert main([word.replace("examples/", f"{ROOT}/examples/") for word in words[1:]]) == 0
    assert capsys.readouterr().out == blocks[at + 1].text
