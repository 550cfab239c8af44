"""Print the largest error of float32 rotary angles against float64, for each method, over 2^21 positions.

    python benchmarks/angle_error.py [--stride N]

A head of 128 dimensions, theta 5e5, original length 8192, s = 256, so that the target length is 2^21 = 2,097,152.
Methods that take given factors get those of LongRoPE2; methods that depend on the length are taken at the target.
"""

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longrope.rope import METHODS, RescaleFactors, RopeGeometry
from longrope.rope.embedding import ScaledRotaryEmbedding

SCALE = 256.0
GEOMETRY = RopeGeometry(rotary_dim=128, theta=5e5, original_length=8192)
TARGET = round(SCALE * GEOMETRY.original_length)
CHUNK = 2**9
"""Positions at a time: few enough to stay in a processor's cache."""


class WorstAngle(NamedTuple):
    """Where the float32 angle is farthest from the float64 one, in radians."""

    error: float
    bound: float
    """Six float32 roundings of that angle, `angle * 6 * 2^-24`: see `rescaled_inv_freq`."""
    position: int
    pair: int
    slowest_error: float
    """Largest error of the last pair, the one that carries the longest distances."""


def factors_of_all_methods() -> Iterator[tuple[str, RescaleFactors]]:
    """Yield each registered method's factors at the target length, with its name."""
    given = METHODS["longrope2"](factor=SCALE).factors(GEOMETRY)
    sources: dict[str, dict[str, Any]] = {
        "longrope": {"factor": SCALE, "rescale_factors": tuple(given.lambdas.tolist())},
        "longrope-dynamic": {"long": given},
        "short-long": {"short": METHODS["none"]().factors(GEOMETRY), "long": given},
    }
    for name, method in METHODS.items():
        built = method(**sources.get(name, {"factor": SCALE}))
        yield name, built.at_length(GEOMETRY, TARGET).factors(GEOMETRY)


def worst_angle(factors: RescaleFactors, stride: int = 1) -> WorstAngle:
    """Return the largest angle error over every `stride`-th position below the target length, and the last one."""
    rotary = ScaledRotaryEmbedding(nn.Identity(), GEOMETRY)
    rotary.set([factors])
    exact_inv_freq = torch.tensor(GEOMETRY.inv_freq / factors.lambdas)
    positions = torch.cat((torch.arange(0, TARGET, stride), torch.tensor([TARGET - 1])))
    chunks = [_worst_of(rotary, chunk, exact_inv_freq) for chunk in positions.split(CHUNK)]
    return max(chunks)._replace(slowest_error=max(chunk.slowest_error for chunk in chunks))


def _worst_of(rotary: ScaledRotaryEmbedding, positions: Tensor, exact_inv_freq: Tensor) -> WorstAngle:
    exact = positions[:, None] * exact_inv_freq
    error = rotary.angles(positions[None])[0].sub(exact).abs()  # in float64
    at, pair = divmod(int(error.argmax()), GEOMETRY.pairs)
    bound = float(exact[at, pair]) * 6 * 2**-24
    return WorstAngle(float(error[at, pair]), bound, int(positions[at]), pair, float(error[:, -1].max()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1, help="check every N-th position (default: all)")
    stride = parser.parse_args().stride
    print(f"d = {GEOMETRY.rotary_dim}, theta = {GEOMETRY.theta:g}, L0 = {GEOMETRY.original_length}, s = {SCALE:g}, ")
    print(f"positions 0 .. {TARGET - 1}, " + ("all" if stride == 1 else f"every {stride}th and the last") + "\n")
    print("| method | largest error (rad) | six roundings (rad) | position | pair | largest error, last pair (rad) |")
    print("|---|---|---|---|---|---|")
    for name, factors in factors_of_all_methods():
        worst = worst_angle(factors, stride)
        print(
            f"| {name} | {worst.error:.3g} | {worst.bound:.3g} | {worst.position} | {worst.pair} "
            f"| {worst.slowest_error:.2g} |"
        )


if __name__ == "__main__":
    main()
