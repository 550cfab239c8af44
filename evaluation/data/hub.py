"""Where a model is: a local folder, or the Hugging Face hub, asked once and quickly before a library tries for minutes.

What the hub refuses is said in one sentence with its remedy: a gated model, one that does not exist or is private, and
a hub that does not answer.
"""

from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

CONFIG = "config.json"
SITE = "https://huggingface.co"


def locate_model(model: str) -> str:
    """Return what Transformers may load a model from: the path of a local folder, or a hub id that can be read.

    Where the hub does not answer but the model is in the local cache, the cache is used and the hub is not asked again.

    Raises:
        ValueError: there is no such folder, or the hub does not give the model; the message says what to do.
    """
    path = Path(model).expanduser()
    if path.exists():
        return str(path)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ValueError(f"model must be a folder that exists or a hub id, got {model}; no such folder")
    try:
        get_hf_file_metadata(hf_hub_url(model, CONFIG))
    except (GatedRepoError, RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise ValueError(_refusal(model, error)) from error
    except Exception as error:  # what a connection that fails raises depends on the HTTP library
        if not isinstance(try_to_load_from_cache(model, CONFIG), str):
            raise ValueError(_refusal(model, error)) from error
        constants.HF_HUB_OFFLINE = True
    return model


def _refusal(model: str, error: Exception) -> str:
    """Return the sentence for what the hub answered, or for no answer."""
    other = "set another model or a local folder (MODEL= of the examples' scripts, --model)"
    if isinstance(error, GatedRepoError):
        return (
            f"model must be one that you may read, got {model}, which is gated: accept its licence at {SITE}/{model} "
            f"and run `hf auth login`, or {other}"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"model must be a folder that exists or a hub id, got {model}, which is neither, or is private: check the "
            f"name, run `hf auth login` if it is private, or {other}"
        )
    if isinstance(error, EntryNotFoundError):
        return f"model must have a {CONFIG}, got {model}, whose hub repository has none; {other}"
    if isinstance(error, HFValidationError):
        return f"model must be a folder that exists or a hub id such as OWNER/NAME, got {model}; no such folder"
    reason = "offline mode is on" if isinstance(error, OfflineModeIsEnabled) else _reason(error)
    return (
        f"model must be a folder that exists or within reach, got {model}, which is not in the local cache and "
        f"{constants.ENDPOINT} can't be asked ({reason}): check the network, and for a gated model accept its licence "
        f"at {SITE}/{model} and run `hf auth login`, or {other}"
    )


def _reason(error: Exception) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    said = " ".join(str(error).split()) or type(error).__name__
    return f"it answers {status}" if status else said[:200]
