"""Where a search begins: baselines and the user's factors, on the grid of the space."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..rope import RescaleFactors, RopeGeometry, load_factors
from ..rope import attention_factor as attention
from ..rope.methods import NTK, Linear, Llama3, Method, NoScaling, NTKByParts, YaRN
from .space import Genome, Space


@dataclass(frozen=True)
class SeedOptions:
    """What a search is for, and what it begins at beside the baselines."""

    target_length: int
    """Context length of the search, in tokens."""
    init_factors: tuple[str, ...] = ()
    """Factors to begin at, from any source of `load_factors`."""
    auto_rescale_init_factors: bool = False
    """Whether factors of another extension ratio are rescaled to that of the search; otherwise they are refused."""
    attention_factor: str | float = "su"
    """Policy of the attention factor: su, yarn, or a number."""
    extension: RescaleFactors | None = None
    """Factors of the model's extension, where the search is for a length within it."""


def build_seeds(options: SeedOptions, geometry: RopeGeometry, space: Space) -> dict[str, Genome]:
    """Return PI, NTK, YaRN (LongRoPE Algorithm 1) and the user's factors on the grid of the space.

    Where the attention factor is searched, each comes with its own and with that of the policy, and Llama 3's and some
    ramps of NTK-by-parts with that of the policy join in: the search is to begin at the best of the baselines.

    Raises:
        ValueError: factors can't be read, differ by layer, or are for another extension ratio.
    """
    extension = options.extension
    methods: dict[str, Method] = {"pi": Linear(space.scale), "ntk": NTK(space.scale), "yarn": YaRN(space.scale)}
    ramps: dict[str, Method] = {}
    if space.search_attention and extension is None:
        methods["llama3"] = Llama3(space.scale)
        ramps = {f"ntk-by-parts:alpha={low:.3g},beta={high:g}": ramp for low, high, ramp in _ramps(space.scale)}
    factors = {name: method.factors(geometry) for name, method in (methods | ramps).items()}
    if extension is not None:
        factors = readjustment_seeds(options.target_length, geometry, extension)
    for path in options.init_factors:
        factors[path] = initial_factors(path, options, geometry, space)
    if not space.search_attention:
        return {name: space.encode(one.lambdas, one.start_tokens) for name, one in factors.items()}
    policy = attention_policy(options.attention_factor, geometry, space)
    seeds: dict[str, Genome] = {}
    for name, one in factors.items():
        own = {} if name in ramps else {name: one.attention_factor / geometry.attention_factor}
        for label, attention_factor in {**own, f"{name}+attention": policy}.items():
            genome = space.encode(one.lambdas, one.start_tokens, attention_factor)
            if genome not in seeds.values():
                seeds[label] = genome
    return seeds


def readjustment_seeds(
    target_length: int, geometry: RopeGeometry, extension: RescaleFactors
) -> dict[str, RescaleFactors]:
    """Return no scaling, the extension, and what lies between them."""
    ratio = target_length / geometry.original_length
    seeds = {"none": NoScaling().factors(geometry), "extension": extension}
    powers = {"extension/2": 0.5, "extension/4": 0.25}
    if 1 < ratio < extension.scale:
        powers["extension-rescaled"] = math.log(ratio) / math.log(extension.scale)
        seeds["yarn"] = YaRN(ratio).factors(geometry)
    for name, power in powers.items():
        attention_factor = geometry.attention_factor * (extension.attention_factor / geometry.attention_factor) ** power
        seeds[name] = replace(extension, lambdas=extension.lambdas**power, attention_factor=attention_factor)
    return seeds


def _ramps(scale: float) -> Iterator[tuple[float, float, Method]]:
    """Yield ramps that end between the original and the target length; the plain baselines end at the original."""
    for low, high in ((1, 16), (1 / scale**0.5, 4), (1 / scale**0.5, 16), (1 / scale, 4)):
        yield low, high, NTKByParts(scale, alpha=low, beta=high)


def initial_factors(source: str, options: SeedOptions, geometry: RopeGeometry, space: Space) -> RescaleFactors:
    """Return the user's factors for the model and the target of the search.

    In a model that is extended already, factors made for its original RoPE hold its own extension too, since those of
    two stages multiply (LongRoPE section 3.3): that is divided out. With `auto_rescale_init_factors`, factors of
    another extension ratio are rescaled and take the attention factor of the policy. A CSV tells no ratio: it is taken
    to be made for the target, or with that option for its largest factor.

    Raises:
        ValueError: there are no such factors, they differ by layer, or are for another extension ratio.
    """
    read = load_factors(source, geometry, options.target_length, options.attention_factor, allow_decreasing=True)
    if read.per_layer:
        raise ValueError(f"init_factors must have one row of factors for all layers, got rows per layer in {source}")
    factors = beyond_extension(read, geometry)
    is_csv = source.endswith(".csv")
    made_for = float(factors.lambdas.max()) if is_csv else factors.scale
    if options.auto_rescale_init_factors and not math.isclose(made_for, space.scale, rel_tol=1e-6):
        lambdas = rescale(factors.lambdas, made_for, space.scale, source)
        attention_factor = geometry.attention_factor * attention_policy(options.attention_factor, geometry, space)
        factors = replace(factors, lambdas=lambdas, attention_factor=attention_factor)
    elif not is_csv and not math.isclose(made_for, space.scale, rel_tol=1e-6):
        raise ValueError(
            f"init_factors must be for the extension ratio of the search ({space.scale:g}), got {source} for "
            f"{made_for:g}; rescale them with --auto-rescale-init-factors"
        )
    _note_changes(source, factors, space)
    return factors


def beyond_extension(factors: RescaleFactors, geometry: RopeGeometry) -> RescaleFactors:
    """Return factors relative to the RoPE of a model that is extended already, if they are for its original RoPE.

    They are if the model's frequencies are scaled and the factors' original length is below the model's.
    """
    extension = RopeGeometry(geometry.rotary_dim, geometry.theta, geometry.original_length).inv_freq / geometry.inv_freq
    if np.allclose(extension, 1, rtol=1e-6, atol=0) or factors.original_length >= geometry.original_length:
        return factors
    return replace(
        factors,
        lambdas=factors.lambdas / extension,
        original_length=geometry.original_length,
        start_attention_factor=geometry.attention_factor,
        allow_decreasing=True,
    )


def rescale(lambdas: NDArray[np.float64], made_for: float, scale: float, source: str) -> NDArray[np.float64]:
    """Return factors for another extension ratio: `lambda^(ln scale / ln made_for)`.

    So 1 stays 1, the old ratio becomes the new one, and PI and NTK become PI and NTK.

    Raises:
        ValueError: the factors extend nothing, so that there is no ratio to start from.
    """
    if made_for <= 1:
        raise ValueError(
            f"init_factors must be for an extension ratio above 1 to be rescaled, got {source} for {made_for:g} times "
            "the model's own length; give factors for a longer target"
        )
    return lambdas ** (math.log(scale) / math.log(made_for))


def _note_changes(source: str, factors: RescaleFactors, space: Space) -> None:
    """Say so if the space can't hold the factors but for their rounding to its grid."""
    lambdas = np.maximum.accumulate(factors.lambdas)
    low, high = space.lower / space.resolution, space.upper / space.resolution
    outside, falling = int(np.sum((lambdas < low) | (lambdas > high))), int(np.sum(lambdas > factors.lambdas))
    half_step = 0.5 / space.resolution
    if np.any((lambdas < low - half_step) | (lambdas > high + half_step)):
        print(
            f"note: {outside} of {len(lambdas)} factors of {source} lie outside {low:g} to {high:g} and are clipped; "
            "raise upper_ratio, or rescale them with --auto-rescale-init-factors if they are for another ratio"
        )
    if falling:
        print(f"note: {falling} of {len(lambdas)} factors of {source} fall below an earlier one and are raised to it")


def attention_policy(policy: str | float, geometry: RopeGeometry, space: Space) -> float:
    """Return the attention factor of a policy (su, yarn, or a number), relative to the pre-trained one."""
    return attention.resolve(policy, space.scale, geometry.original_length)
