"""Rescale factors by length: one set up to 4k tokens, say, another up to 8k, and so on to the target.

LongRoPE (arXiv 2402.13753, section 3.3) readjusts the factors of an extended model for short contexts. Which set holds
is decided by the planned length of a sequence, for the whole sequence: keys in a cache keep their rotation.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .factors import FORMAT, VERSION, RescaleFactors, build_factors
from .files import write_atomically
from .parsing import read_json

SETS_FORMAT = f"{FORMAT}-by-length"


@dataclass(frozen=True)
class FactorSets:
    """Sets of factors for one model, each up to its target length.

    Raises:
        ValueError: there is no set, two are for one length, or they are not for one model.
    """

    sets: tuple[RescaleFactors, ...]
    """By target length, the shortest first."""

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError("sets must hold at least one set of factors, got none")
        ordered = tuple(sorted(self.sets, key=lambda one: one.target_length))
        object.__setattr__(self, "sets", ordered)
        lengths = [one.target_length for one in ordered]
        if len(set(lengths)) < len(lengths):
            raise ValueError(f"sets must be for different lengths, got {lengths}; keep one of each")
        models = {(one.rotary_dim, one.theta, one.original_length) for one in ordered}
        if len(models) > 1:
            raise ValueError(
                f"sets must agree in rotary dim, theta and original length, got {sorted(models)}; use one model's"
            )

    @property
    def longest(self) -> RescaleFactors:
        """The set of the longest length."""
        return self.sets[-1]

    def at(self, length: int) -> RescaleFactors:
        """Return the set for a sequence of `length` tokens: the shortest that reaches it, else the longest."""
        return next((one for one in self.sets if one.target_length >= length), self.longest)

    def save(self, path: str | Path) -> None:
        """Write the sets as versioned JSON; the file appears whole or not at all."""
        sets = [asdict(one) | {"lambdas": one.lambdas.tolist()} for one in self.sets]
        write_atomically(
            Path(path), json.dumps({"format": SETS_FORMAT, "version": VERSION, "sets": sets}, indent=1) + "\n"
        )


def load_factor_sets(path: str | Path) -> FactorSets:
    """Read what `FactorSets.save` wrote.

    Raises:
        ValueError: there is no such file, or it holds no factors by length.
    """
    payload = _read(Path(path))
    if payload is None or payload.get("version") != VERSION or not isinstance(payload.get("sets"), list):
        raise ValueError(f"factors by length must be a file of format {SETS_FORMAT!r} {VERSION}, got {path}")
    try:
        return FactorSets(tuple(build_factors(one) for one in payload["sets"]))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def holds_factor_sets(path: str | Path) -> bool:
    """Whether a path is a file of factors by length."""
    return _read(Path(path)) is not None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        payload = read_json(path) if path.is_file() else None
    except (OSError, ValueError):
        return None
    return payload if isinstance(payload, dict) and payload.get("format") == SETS_FORMAT else None
