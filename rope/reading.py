"""Read rescale factors from wherever they are: files, runs, model configs, the hub, published tables."""

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from . import attention_factor as attention
from .factors import FORMAT, RescaleFactors, load_csv, parse_factors, read_json
from .frequencies import RopeGeometry
from .methods.formulas import Llama3, YaRN
from .methods.searched import LongRoPE
from .names import unknown_name

PUBLISHED = "published:"
HUB = "hf://"
FILES = ("factors.json", "config.json")
"""What is looked for in a folder or hub repository, in this order."""
SCALED = ("longrope", "yarn", "llama3")
"""The `rope_type`s of a model's configuration that fix a set of factors."""


def load_factors(
    source: str | Path,
    geometry: RopeGeometry | None = None,
    target_length: int | None = None,
    attention_factor: str | float = "su",
    *,
    allow_decreasing: bool = False,
    short: bool = False,
) -> RescaleFactors:
    """Return the rescale factors of a source.

    Args:
        source: one of: a factor file or run folder of longrope; `published:NAME`; a CSV (one column of P factors, or
            layers x P); a folder or `config.json` of a Transformers model that is scaled by longrope, yarn or llama3;
            `hf://OWNER/NAME[@REVISION][/FILE]` for any of these on the Hugging Face hub.
        geometry: the model the factors are for. A CSV needs it; factors of a `config.json` are relative to its
            pre-trained frequencies, without it to the plain `theta^(-2i/d)`. Factor files are as they were saved.
        target_length: what the factors of a CSV were made for, in tokens; other sources tell it themselves.
        attention_factor: `su`, `yarn` or a constant for the factors of a CSV; other sources tell it themselves.
        allow_decreasing: accept a CSV whose factors fall from one pair to the next.
        short: where there are two sets, as in the `config.json` of a longrope model, take `short_factor` instead of
            `long_factor`; other sources have one set, which is returned.

    Raises:
        ValueError: there is no such source, it can't be read or fetched, or it doesn't fit the geometry.

    Example:
        >>> load_factors("published:llama2-7b-256k").target_length
        262144
    """
    source = str(source)
    path = None if source.startswith(PUBLISHED) else _locate(source)
    if path is None:
        factors = _read_published(source)
    elif path.suffix == ".csv":
        factors = _read_csv(source, path, geometry, target_length, attention_factor, allow_decreasing)
    else:
        payload = read_json(path)
        is_config = _is_config(payload)
        factors = _read_config(source, payload, geometry, short) if is_config else parse_factors(payload, path)
    if geometry is not None and factors.rotary_dim != geometry.rotary_dim:
        raise ValueError(
            f"factors must have length {geometry.pairs} (rotary dim {geometry.rotary_dim} / 2), got {factors.pairs} "
            f"in {source}; were they made for a model with another head size or partial rotary?"
        )
    return factors


def _locate(source: str) -> Path:
    """Return the file that a path or hub address means."""
    if source.startswith(HUB):
        return _download(source)
    path = Path(source)
    if not path.is_dir():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    raise ValueError(f"factors must be in a folder with {' or '.join(FILES)}, got {source}; give the file itself")


def _download(source: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    owner, _, rest = source.removeprefix(HUB).partition("/")
    name, _, file = rest.partition("/")
    name, _, revision = name.partition("@")
    if not (owner and name):
        raise ValueError(f"a hub address must be {HUB}OWNER/NAME[@REVISION][/FILE], got {source}; add what is missing")
    wanted = (file,) if file else FILES
    for candidate in wanted:
        try:
            return Path(hf_hub_download(f"{owner}/{name}", candidate, revision=revision or None))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):  # not in the cache, and the hub can't be asked
                raise _unreachable(source, error) from error
        except (OSError, ValueError) as error:
            raise _unreachable(source, error) from error
    raise ValueError(f"a hub repository must hold {' or '.join(wanted)}, got {source}; name the file after it")


def _unreachable(source: str, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0]
    return ValueError(
        f"{source} must be on the Hugging Face hub and within reach, got {reason!r}; or give a local path"
    )


def _read_published(source: str) -> RescaleFactors:
    folder = files("longrope.hyperparams") / "published"
    index = yaml.safe_load((folder / "index.yaml").read_text(encoding="utf-8"))
    common, tables, name = index["common"], index["tables"], source.removeprefix(PUBLISHED)
    if name not in tables:
        raise unknown_name("published factors", name, tables)
    table = tables[name]
    with as_file(folder / table["file"]) as path:
        lambdas = load_csv(path)
    original, target = common["original_length"], table["target_length"]
    return RescaleFactors(
        lambdas=lambdas,
        original_length=original,
        target_length=target,
        theta=common["theta"],
        rotary_dim=common["rotary_dim"],
        attention_factor=attention.resolve(common["attention_factor"], target / original, original),
        allow_decreasing=True,
        provenance={
            "source": source,
            "base_model": table["base_model"],
            "stage": table["stage"],
            "origin": common["source"],
            "licence": common["licence"],
        },
    )


def _read_csv(
    source: str,
    path: Path,
    geometry: RopeGeometry | None,
    target_length: int | None,
    policy: str | float,
    allow_decreasing: bool,
) -> RescaleFactors:
    if geometry is None or target_length is None:
        raise ValueError(
            f"a CSV must be read with a geometry and a target_length, as it holds numbers only, got {source} without; "
            "pass both, or use a factor file (JSON)"
        )
    lambdas = load_csv(path)
    if lambdas.ndim == 2 and np.all(lambdas == lambdas[0]):  # the official files repeat one row for each layer
        lambdas = lambdas[0]
    original = geometry.original_length
    try:
        return RescaleFactors(
            lambdas=lambdas,
            original_length=original,
            target_length=target_length,
            theta=geometry.theta,
            rotary_dim=geometry.rotary_dim,
            attention_factor=geometry.attention_factor * attention.resolve(policy, target_length / original, original),
            start_attention_factor=geometry.attention_factor,
            allow_decreasing=allow_decreasing,
            provenance={"source": source},
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _is_config(payload: Any) -> bool:
    """Tell a model's configuration from a factor file."""
    return isinstance(payload, dict) and "model_type" in payload and payload.get("format") != FORMAT


def _read_config(source: str, payload: Any, geometry: RopeGeometry | None, short: bool) -> RescaleFactors:
    try:
        return _factors_of_config(source, payload, geometry, short)
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"config.json must hold the numbers of a RoPE, got {type(error).__name__}: {error} in {source}; restore it"
        ) from error


def _factors_of_config(source: str, payload: Any, geometry: RopeGeometry | None, short: bool) -> RescaleFactors:
    config = _model_config(source, payload)
    parameters = _rope_parameters(config)
    if (kind := parameters.get("rope_type")) not in SCALED:
        raise ValueError(f"rope_type must be one of {', '.join(SCALED)}, got {kind!r} in {source}; it holds no factors")
    short = short and kind == "longrope"  # the others have one set
    try:
        plain = RopeGeometry(
            rotary_dim=int(_head_dim(config) * (parameters.get("partial_rotary_factor") or 1.0)),
            theta=float(parameters["rope_theta"]),
            original_length=parameters.get("original_max_position_embeddings") or config.max_position_embeddings,
        )
        ratio = config.max_position_embeddings / plain.original_length
        factors = _method(parameters, max(1.0, ratio), short).factors(plain)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    target = plain.original_length if short else max(config.max_position_embeddings, factors.target_length)
    factors = replace(factors, target_length=target, provenance=factors.provenance | {"source": source})
    return factors if geometry is None else _relative_to(factors, plain, geometry, source)


def _model_config(source: str, payload: dict[str, Any]) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = payload["model_type"]
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"model_type must be known to Transformers, got {kind!r} in {source}; give a factor file")
    try:
        config = CONFIG_MAPPING[kind].from_dict(_as_longrope(payload)).get_text_config()
        config.standardize_rope_params()  # as models do; it takes the original length from the top level
        return config
    except Exception as error:  # what a faulty config raises depends on its class
        raise ValueError(f"config.json must be one that Transformers can read, got {source}: {error}") from error


def _as_longrope(value: Any) -> Any:
    """Name longrope what older configs call `su`, and Phi-3's `yarn`: only longrope has lists of factors."""
    if not isinstance(value, dict):
        return value
    renamed = {key: _as_longrope(inner) for key, inner in value.items()}
    return renamed | {"rope_type": "longrope", "type": "longrope"} if "long_factor" in value else renamed


def _rope_parameters(config: Any) -> dict[str, Any]:
    from .families import GLOBAL_LAYERS

    parameters = getattr(config, "rope_parameters", None) or {}
    return parameters.get(GLOBAL_LAYERS, parameters)


def _head_dim(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _method(parameters: dict[str, Any], ratio: float, short: bool) -> LongRoPE | YaRN | Llama3:
    """Return the method of a model's `rope_parameters`; `ratio` stands in for a factor that they lack."""
    kind = parameters["rope_type"]
    factor = float(parameters.get("factor") or ratio)
    if kind == "longrope":
        lambdas = tuple(parameters["short_factor" if short else "long_factor"])
        policy = parameters.get("attention_factor")
        return LongRoPE(factor, rescale_factors=lambdas, attention_factor="su" if policy is None else policy)
    if kind == "yarn":
        return _yarn(parameters, factor)
    return Llama3(factor, **{name: parameters[name] for name in ("low_freq_factor", "high_freq_factor")})


def _yarn(parameters: dict[str, Any], factor: float) -> YaRN:
    names = ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate")
    given = {name: parameters[name] for name in names if parameters.get(name) is not None}
    # As in Transformers, the two scales act together or not at all, and not beside an attention factor.
    if "attention_factor" in given or not (given.get("mscale") and given.get("mscale_all_dim")):
        given = {name: value for name, value in given.items() if not name.startswith("mscale")}
    return YaRN(factor, **given)


def _relative_to(factors: RescaleFactors, plain: RopeGeometry, geometry: RopeGeometry, source: str) -> RescaleFactors:
    """Express factors of the plain RoPE relative to the pre-trained frequencies of a model that is already scaled."""
    if factors.rotary_dim != geometry.rotary_dim:
        return factors
    if plain.theta != geometry.theta:
        raise ValueError(
            f"theta must be that of the model, {geometry.theta}, got {plain.theta} in {source}; they differ"
        )
    if not np.allclose(geometry.inv_freq, plain.inv_freq, rtol=1e-6, atol=0):  # float32 of a live model is plain, too
        factors = replace(factors, lambdas=factors.lambdas * geometry.inv_freq / plain.inv_freq)
    return replace(factors, start_attention_factor=geometry.attention_factor)
