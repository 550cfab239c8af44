"""A model that the hub does not give is one sentence with its remedy, at once."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from longrope.evaluation.data import hub
from longrope.evaluation.scoring.model import load_model, read_config, read_tokenizer

LLAMA = "meta-llama/Meta-Llama-3-8B"


def answer(error: type[Exception], status: int = 403) -> Exception:
    """Return an error of the hub, whose constructors differ between versions."""
    made = error.__new__(error)
    made.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
    return made


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch):
    """Let the hub answer with an error, and count how often it is asked."""

    def with_error(error: Exception, cached: str | None = None) -> list[str]:
        asked: list[str] = []

        def ask(url: str) -> None:
            asked.append(url)
            raise error

        monkeypatch.setattr(hub, "get_hf_file_metadata", ask)
        monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: cached)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        return asked

    return with_error


@pytest.mark.parametrize("use", [load_model, read_config, read_tokenizer])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (answer(GatedRepoError), ("gated", "hf auth login", f"https://huggingface.co/{LLAMA}", "MODEL=")),
        (answer(RepositoryNotFoundError), ("private", "hf auth login", "check the name")),
        (answer(EntryNotFoundError), ("config.json",)),
        (answer(HfHubHTTPError, 503), ("answers 503", "check the network")),
        (ConnectionError("Name or service not known"), ("Name or service not known", "hf auth login", "MODEL=")),
        (TimeoutError(), ("TimeoutError", "check the network")),
    ],
    ids=["gated", "unknown", "empty", "down", "no network", "slow"],
)
def test_each_refusal_has_its_sentence(use, error, words, refuse) -> None:
    asked = refuse(error)
    with pytest.raises(ValueError, match=f"got {LLAMA}") as caught:
        use(LLAMA)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
    assert len(asked) == 1


def test_without_the_hub_the_cache_is_used_and_the_hub_is_not_asked_again(refuse) -> None:
    refuse(ConnectionError("no route"), cached="/cache/config.json")
    assert hub.locate_model(LLAMA) == LLAMA
    assert constants.HF_HUB_OFFLINE


def test_a_folder_needs_no_hub(refuse, tmp_path: Path) -> None:
    assert hub.locate_model(str(tmp_path)) == str(tmp_path)
    assert refuse(ConnectionError()) == []


@pytest.mark.parametrize("model", ["/no/such/model", "./nothing", "~/nothing", "a/b/c", "a b"])
def test_what_can_be_no_hub_id_is_not_asked_for(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="no such folder"):
        hub.locate_model(model)
