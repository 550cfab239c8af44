"""Write a model folder that Transformers, vLLM and SGLang load with the factors in it, without longrope installed."""

import json
import warnings
from fnmatch import fnmatch
from pathlib import Path

from ..factors import RescaleFactors
from ..families import find_rope
from .config import Json, longrope_config, skeleton, verify
from .folder import COMPANIONS, WEIGHTS, Weights, companion_files, find_source, place, replaced_folder, weight_files
from .serving import describe_switch
from .static import check_expressible, check_static

FACTORS = "longrope_factors.json"
SHORT_FACTORS = "longrope_short_factors.json"
OWN_FILES = ("config.json", "README.md", FACTORS, SHORT_FACTORS, *COMPANIONS, *WEIGHTS)


def export_hf(
    source: Path | str,
    factors: RescaleFactors,
    output: Path,
    weights: Weights = "copy",
    short_factors: RescaleFactors | None = None,
    card: str | None = None,
) -> Path:
    """Write a model with its factors as a folder for `AutoModelForCausalLM.from_pretrained`.

    The export is static: the factors hold at every length, so a KV cache never mixes two rotations. The config is
    reloaded and compared with the factors before the folder appears; a failure leaves what was there untouched.

    Args:
        source: folder or hub id of the model that the factors were searched for.
        factors: factors without start tokens, one row for all layers.
        output: folder to write: new, empty, or of an earlier export.
        weights: `copy`, `link` or `none`.
        short_factors: other factors for sequences up to the original length; warns what each engine does with them.
        card: text of README.md.

    Returns:
        `output`.

    Raises:
        ValueError: the factors can't be expressed or don't fit the model, or source or output can't be used.
        RuntimeError: Transformers does not compute the factors' RoPE from the config.
    """
    check_static(factors)
    if short_factors is not None:
        _check_pair(factors, short_factors)
    output = Path(output)
    folder = find_source(source, weights)
    if output.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise ValueError(f"output must not be the source or hold it, got {output}; choose another folder")
    geometry = find_rope(skeleton(folder)).geometry
    with replaced_folder(output, _is_export) as new:
        _write(new / "config.json", longrope_config(folder, factors, short_factors))
        verify(new, geometry, factors, short_factors or factors)
        factors.save(new / FACTORS)
        if short_factors is not None:
            short_factors.save(new / SHORT_FACTORS)
        if card is not None:
            (new / "README.md").write_text(card, encoding="utf-8")
        _place_files(folder, new, weights, factors.target_length)
    if short_factors is not None:
        warnings.warn(describe_switch(factors), stacklevel=2)
    return output


def _place_files(folder: Path, new: Path, weights: Weights, target_length: int) -> None:
    for file in companion_files(folder):
        place(file, new)
    tokenizer = new / "tokenizer_config.json"
    if tokenizer.is_file():
        settings = json.loads(tokenizer.read_text(encoding="utf-8"))
        _write(tokenizer, _tokenizer_settings(settings, target_length))
    if weights != "none":
        for file in weight_files(folder):
            place(file, new, link=weights == "link")


def _tokenizer_settings(settings: Json, target_length: int) -> Json:
    """Return settings that Transformers 4 reads too, and that don't truncate at the original length."""
    settings = dict(settings)
    if settings.get("model_max_length", target_length) < target_length:
        settings["model_max_length"] = target_length
    if settings.get("tokenizer_class") == "TokenizersBackend":  # the name in version 5 only
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(settings.get("extra_special_tokens"), list):  # version 4 expects names there
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    return settings


def _check_pair(long: RescaleFactors, short: RescaleFactors) -> None:
    check_expressible(short)
    if short.attention_factor != long.attention_factor:
        raise ValueError(
            f"short_factors must have the attention factor of the long ones ({long.attention_factor}), got "
            f"{short.attention_factor}; Transformers has one for both, so search or score the short ones with it"
        )
    if short.original_length != long.original_length:
        raise ValueError(
            f"short_factors must have the original length of the long ones ({long.original_length}), got "
            f"{short.original_length}; it is where engines switch"
        )


def _is_export(folder: Path) -> bool:
    names = [path.name for path in folder.iterdir()]
    return FACTORS in names and all(any(fnmatch(name, pattern) for pattern in OWN_FILES) for name in names)


def _write(path: Path, payload: Json) -> None:
    path.write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")
