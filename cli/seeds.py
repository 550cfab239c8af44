"""Where a search begins: baselines and the user's factors, on the grid of the space."""

from ..evolution import Genome, Space
from ..rope import RopeGeometry, read_factors
from ..rope import attention_factor as attention
from ..rope.methods import NTK, Linear, Llama3, Method, YaRN
from .configs import SearchConfig


def build_seeds(config: SearchConfig, geometry: RopeGeometry, space: Space) -> dict[str, Genome]:
    """Return PI, NTK, YaRN (LongRoPE Algorithm 1) and the user's factors on the grid of the space.

    Where the attention factor is searched, each comes with its own and with that of the policy, and Llama 3's joins in:
    the search is to begin at the best of the baselines.
    """
    methods: dict[str, Method] = {"pi": Linear(space.scale), "ntk": NTK(space.scale), "yarn": YaRN(space.scale)}
    if space.search_attention:
        methods["llama3"] = Llama3(space.scale)
    factors = {name: method.factors(geometry) for name, method in methods.items()}
    for path in config.init_factors:
        read = read_factors(path, geometry, config.target_length, number_or_name(config.attention_factor))
        if read.per_layer:
            raise ValueError(f"init_factors must have one row of factors for all layers, got rows per layer in {path}")
        factors[path] = read
    if not space.search_attention:
        return {name: space.encode(one.lambdas, one.start_tokens) for name, one in factors.items()}
    policy = attention_policy(config, geometry, space)
    seeds: dict[str, Genome] = {}
    for name, one in factors.items():
        own = one.attention_factor / geometry.attention_factor
        for label, attention_factor in ((name, own), (f"{name}+attention", policy)):
            genome = space.encode(one.lambdas, one.start_tokens, attention_factor)
            if genome not in seeds.values():
                seeds[label] = genome
    return seeds


def attention_policy(config: SearchConfig, geometry: RopeGeometry, space: Space) -> float:
    """Return the attention factor of the policy, relative to the pre-trained one."""
    return attention.resolve(number_or_name(config.attention_factor), space.scale, geometry.original_length)


def number_or_name(policy: str | float) -> str | float:
    """Return a policy's number if it is one; YAML and flags give text."""
    try:
        return float(policy)
    except ValueError:
        return policy
