"""What would fail after hours is refused before anything is loaded, and what a plan says is true."""

import json
import re
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, MistralConfig

from longrope.cli import preflight
from longrope.cli.configs import DoctorConfig
from longrope.cli.main import main
from longrope.evaluation.scoring import resources
from longrope.rope.describe import skeleton

GIB = 2**30
LLAMA3_8B: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "dtype": "bfloat16",
}


@pytest.fixture
def llama3(tmp_path: Path) -> Path:
    """Return a folder with the config of Llama-3-8B and no weights."""
    (tmp_path / "llama3").mkdir()
    (tmp_path / "llama3" / "config.json").write_text(json.dumps(LLAMA3_8B))
    return tmp_path / "llama3"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """Return four documents, of 121, 241, 361 and 481 tokens."""
    texts, folder = tmp_path_factory.mktemp("texts"), tmp_path_factory.mktemp("tokens") / "tokens"
    for index in range(1, 5):
        (texts / f"{index}.txt").write_text(f"text {index}, again and again " * 5 * index)
    assert command("tokenize", model=model_folder, dataset=texts, save_tokenized=folder) == 0
    return folder


def command(name: str, *flags: str, **options: object) -> int:
    spelled = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    return main([name, *flags, *spelled])


def facts(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(.+?): +(.+)$", text, re.MULTILINE))


def test_the_plan_of_llama_3_on_an_80_gb_card(llama3: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"model": llama3, "target_length": 131072, "device_gib": 80, "price_per_hour": 2}
    assert command("doctor", "--plan", **options) == 0
    out = capsys.readouterr().out
    told = facts(out)
    parameters = sum(p.numel() for p in skeleton(AutoConfig.from_pretrained(llama3)).parameters())
    assert told["memory, weights"] == f"{2 * parameters / GIB:.1f} GiB"
    assert "131072 or more tokens" in told["search documents"] and "--split train" in told["search documents"]
    assert told["memory, forward"].endswith("GiB, fits in 80.0 GiB")
    # Each of 32 layers keeps its input, 4096 numbers of two bytes per token: 32 GiB beside 15 GiB of weights.
    assert 15 + 32 < float(told["memory, gradient"].split()[0]) < 100
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    hours, price = (float(rows["hybrid"][column].replace(",", "")) for column in (4, 5))
    assert hours > 0 and price == pytest.approx(2 * hours, abs=0.02)
    assert re.search(r"^evaluation of 6 methods: [\d,]+ tokens, [\d.]+ hours, price [\d.]+ ", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device_gib": 16}, "memory of the device must hold a forward of 131072 tokens"),
        ({"target_length": 8192}, "target_length must be above the original length"),
        ({"sustained_tflops": 0}, "sustained_tflops must be finite and above 0"),
        ({"price_per_hour": -1}, "price_per_hour must be finite and above 0"),
        ({"hyper_params": "nowhere"}, "hyper-params must be a file that exists"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_plan_that_cannot_be_done_is_one_sentence(
    llama3: Path, changes: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"model": llama3, "target_length": 131072, "device_gib": 80, **changes}
    assert command("doctor", "--plan", **options) == 2
    assert message in capsys.readouterr().err


def test_a_plan_needs_a_model_and_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("doctor", "--plan") == 2
    assert "--model and --target-length" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "samples", "message"),
    [
        (100, 2, None),
        (100, 3, "evaluation documents must be at least 2 of 100 or more tokens that the search does not see, got 1"),
        (300, 2, "evaluation documents must be at least 2 of 300 or more tokens that the search does not see, got 0"),
        (400, 2, "samples must be at most the 1 documents of 400 or more tokens"),
    ],
)
def test_documents_must_suffice_for_search_and_evaluation(
    model_folder: Path,
    tokens: Path,
    target: int,
    samples: int,
    message: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {"model": model_folder, "tokenized": tokens, "target_length": target, "samples": samples}
    assert command("doctor", "--plan", **options) == (0 if message is None else 2)
    captured = capsys.readouterr()
    assert (message or "") in captured.err
    assert message or facts(captured.out)["search documents"].startswith(f"{samples} of the 4 of {target}")


Work = dict[str, object]


@pytest.fixture(params=["search", "sweep", "evaluate"])
def work(request: pytest.FixtureRequest, tokens: Path, tmp_path: Path) -> tuple[str, Work]:
    """Return a command and its options, but for the model."""
    common: Work = {"tokenized": tokens, "output_dir": tmp_path / "run", "samples": 2}
    target = {"lengths": 128} if request.param == "evaluate" else {"target_length": 128}
    return request.param, common | target


def test_too_little_memory_is_refused_before_anything_is_loaded(
    work: tuple[str, Work], llama3: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "available_memory", lambda _: 4 * GIB)
    name, options = work
    options["target_length" if name != "evaluate" else "lengths"] = 16384
    options["samples"] = 2
    monkeypatch.setattr(preflight, "count_documents", lambda *_: 9)
    assert command(name, model=llama3, **options) == 2  # which has no weights that could be loaded
    assert "of 16384 tokens, about" in capsys.readouterr().err


def test_a_full_disk_is_refused(
    work: tuple[str, Work], model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    assert command(work[0], model=model_folder, **work[1]) == 2
    assert "output_dir must be on a disk with" in capsys.readouterr().err


def test_weights_that_have_to_be_downloaded_need_a_disk(llama3: Path) -> None:
    subject = preflight.read_subject(DoctorConfig(str(llama3)), "cuda", 80 * GIB)
    assert preflight.download_bytes(str(llama3), subject) == 0
    assert preflight.download_bytes("nobody/not-in-the-cache", subject) == 2 * subject.size.parameters


def test_a_window_on_every_layer_is_refused_or_told(
    work: tuple[str, Work], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    MistralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, sliding_window=32,
    ).save_pretrained(tmp_path / "mistral")  # fmt: skip
    assert command(work[0], model=tmp_path / "mistral", **work[1]) == 2  # evaluate: it has no tokenizer
    captured = capsys.readouterr()
    told = captured.out if work[0] == "evaluate" else captured.err
    assert "attends to 32 tokens at most in every layer that factors rescale" in told


def test_what_may_not_fit_in_the_card_rests_in_the_main_memory(
    llama3: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("doctor", "--plan", model=llama3, target_length=2**20, device_gib=131) == 0
    told = facts(capsys.readouterr().out)
    # 2 x 32 layers x 8 heads x 128 numbers of two bytes for each token, and 32 x 4096 of them.
    assert told["main memory, cache"].startswith("128.0 GiB")
    assert told["main memory, gradient"].startswith("256.0 GiB")
    assert all(told[f"memory, {name}"].endswith("fits in 131.0 GiB") for name in ("forward", "gradient"))
    subject = replace(preflight.read_subject(DoctorConfig(str(llama3)), "cuda", 131 * GIB), main_memory=100 * GIB)
    assert preflight.gradient_on_cpu(subject, 2**20) == 0 and preflight.gradient_need(subject, 2**20) > 256 * GIB
    with pytest.raises(ValueError, match="the main memory must hold the keys and values of a prompt of 1048576 tokens"):
        preflight.check_main_memory(preflight.prompt_on_cpu(subject, 2**20), subject.main_memory, 2**20)


def test_gradients_that_do_not_fit_are_noted(
    model_folder: Path,
    tokens: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(preflight, "gradient_need", lambda *_: 10**15)
    monkeypatch.setattr(preflight, "forward_need", lambda *_: 0)
    options = {"model": model_folder, "tokenized": tokens, "target_length": 128, "samples": 2}
    options |= {"output_dir": tmp_path / "run", "max_scored_tokens": 128 * 60}
    assert command("search", **options) == 0
    assert "goes on without gradients" in capsys.readouterr().out


def test_a_container_may_use_no_more_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("4096\n")
    (tmp_path / "unlimited").write_text("max\n")
    monkeypatch.setattr(resources, "CONTAINER_LIMITS", (tmp_path / "unlimited", tmp_path / "nowhere"))
    machine = resources.available_memory("cpu")
    assert machine is not None and machine > 4096
    monkeypatch.setattr(resources, "CONTAINER_LIMITS", (tmp_path / "memory.max",))
    assert resources.available_memory("cpu") == 4096
