"""Rescale factors: the one thing that is searched, saved, installed, exported and compared.

A factor set is only meaningful together with its start tokens, attention factor and lengths, so they travel in one
file (LongRoPE, arXiv 2402.13753). Shapes: P = rotary_dim / 2 pairs; L layers.
"""

import io
import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import parsing
from .files import write_atomically

FORMAT = "longrope-factors"
VERSION = 1


@dataclass(frozen=True, eq=False)
class RescaleFactors:
    """Rescale factors of one model for one target length: `theta'_i = theta_i / lambda_i`.

    Raises:
        ValueError: a value is out of range or the shapes disagree; the message names the argument and the rule.
    """

    lambdas: NDArray[np.float64]
    """Rescale factors, shape (P,), or (L, P) for one row per layer; each >= 1e-3, finite."""
    original_length: int
    """Context length the model was trained on, in tokens."""
    target_length: int
    """Context length the factors were made for, in tokens."""
    theta: float
    """RoPE base of the model (`rope_theta`)."""
    rotary_dim: int
    """Rotary dimensions per head: `int(head_dim * partial_rotary_factor)`."""
    attention_factor: float = 1.0
    """Multiplies cos and sin, so attention logits are multiplied by its square."""
    start_tokens: int = 0
    """n_hat: positions below it keep the original RoPE (LongRoPE eq. 3), in tokens."""
    start_attention_factor: float = 1.0
    """Attention factor of the start tokens' rows; 1 makes n_hat = T the original model exactly."""
    allow_decreasing: bool = False
    """Accept factors that fall from one pair to the next, as some published tables do; the search never makes them."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the numbers come from: model, data fingerprint, config, seed, versions."""

    def __post_init__(self) -> None:
        lambdas = np.array(self.lambdas, dtype=np.float64)
        lambdas.setflags(write=False)
        object.__setattr__(self, "lambdas", lambdas)
        self._check_lengths()
        self._check_lambdas()
        for name in ("attention_factor", "start_attention_factor"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a finite number above 0, got {value}; 1.0 means no scaling")

    def _check_lengths(self) -> None:
        if self.rotary_dim < 2 or self.rotary_dim % 2:
            raise ValueError(f"rotary_dim must be an even number of at least 2, got {self.rotary_dim}")
        if not (np.isfinite(self.theta) and self.theta > 1):
            raise ValueError(f"theta must be finite and above 1, got {self.theta}; it is rope_theta of the config")
        if self.original_length < 1 or self.target_length < 1:
            raise ValueError(
                f"original_length and target_length must be at least 1 token, "
                f"got {self.original_length} and {self.target_length}"
            )
        if self.start_tokens < 0:
            raise ValueError(f"start_tokens must be 0 or more, got {self.start_tokens}")

    def _check_lambdas(self) -> None:
        pairs = self.rotary_dim // 2
        if self.lambdas.ndim not in (1, 2) or self.lambdas.shape[-1] != pairs:
            raise ValueError(
                f"lambdas must have length {pairs} (rotary dim {self.rotary_dim} / 2), got shape "
                f"{self.lambdas.shape}; was the file made for a model with another head size or partial rotary?"
            )
        if not np.all(np.isfinite(self.lambdas)) or np.any(self.lambdas < 1e-3):
            bad = self.lambdas[~(np.isfinite(self.lambdas) & (self.lambdas >= 1e-3))][0]
            raise ValueError(f"lambdas must be finite and positive, got {bad}; check the file the factors came from")
        falls = np.argwhere(np.diff(self.lambdas, axis=-1) < 0)
        if len(falls) and not self.allow_decreasing:
            at = (*falls[0][:-1], falls[0][-1] + 1)
            raise ValueError(
                f"lambdas must be non-decreasing, got {self.lambdas[at]} after {self.lambdas[tuple(falls[0])]} at pair "
                f"{at[-1]}; if the table is meant to be so, set allow_decreasing"
            )

    @property
    def pairs(self) -> int:
        """Number of dimension pairs P."""
        return self.rotary_dim // 2

    @property
    def per_layer(self) -> bool:
        """Whether each layer has its own row of factors."""
        return self.lambdas.ndim == 2

    @property
    def scale(self) -> float:
        """Extension ratio s = target length / original length."""
        return self.target_length / self.original_length

    @property
    def searched_documents(self) -> set[str]:
        """Digests of the documents the factors were searched on, as far as their provenance tells."""
        data = self.provenance.get("data")
        documents = data.get("documents") if isinstance(data, dict) else None
        return set(documents) if isinstance(documents, dict) else set()

    def without_start_tokens(self) -> "RescaleFactors":
        """Return the same factors with n_hat = 0: what a plain Transformers config can express."""
        return replace(self, start_tokens=0)

    def save(self, path: str | Path) -> None:
        """Write the factors to `path`: versioned JSON, or the official one-column CSV if it ends in `.csv`.

        The file appears whole or not at all: it is written beside its place and renamed.
        """
        path = Path(path)
        if path.suffix == ".csv":
            rows = np.atleast_2d(self.lambdas) if self.per_layer else self.lambdas[:, None]
            text = "".join(",".join(repr(float(v)) for v in row) + "\n" for row in rows)
        else:
            payload = {"format": FORMAT, "version": VERSION, **asdict(self), "lambdas": self.lambdas.tolist()}
            text = json.dumps(payload, indent=1) + "\n"
        write_atomically(path, text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RescaleFactors):
            return NotImplemented
        names = [f.name for f in fields(self) if f.name not in ("lambdas", "provenance")]
        same = all(getattr(self, name) == getattr(other, name) for name in names)
        return same and np.array_equal(self.lambdas, other.lambdas)

    __hash__ = None  # type: ignore[assignment]


def read_json(path: Path) -> Any:
    """Read a JSON file that may hold factors.

    Raises:
        ValueError: the file is missing or no readable JSON.
    """
    if not path.is_file():
        raise ValueError(f"factors must be a file that exists or a folder with factors.json, got {path}")
    try:
        return parsing.read_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"factors must be readable JSON, got {path}: {error}; restore the file") from error


def parse_factors(payload: Any, path: Path) -> RescaleFactors:
    """Return the factors that `RescaleFactors.save` wrote as JSON.

    Args:
        payload: what the file holds.
        path: the file, for error messages.

    Raises:
        ValueError: it is no factor file, has unknown keys, or holds values out of range.
    """
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise ValueError(f"factors must be a file with format {FORMAT!r}, got {path}; a CSV must be named .csv")
    if (version := payload.get("version")) != VERSION:
        raise ValueError(f"factors version must be {VERSION}, got {version!r} in {path}; update longrope")
    values = {name: value for name, value in payload.items() if name not in ("format", "version")}
    known = {f.name for f in fields(RescaleFactors)}
    if unknown := set(values) - known:
        raise ValueError(f"factors may hold only {sorted(known)}, got {sorted(unknown)} in {path}")
    try:
        return build_factors(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def build_factors(values: dict[str, Any]) -> RescaleFactors:
    """Return factors from the values of a file.

    Raises:
        ValueError, TypeError: a value is missing, unknown, not of its type, or out of range.
    """
    parsing.check_types(RescaleFactors, values)
    try:
        return RescaleFactors(**values)
    except OverflowError as error:  # a whole number beyond what floats reach
        raise ValueError(f"lambdas must be finite, got a number beyond them: {error}") from error


def load_csv(path: str | Path) -> NDArray[np.float64]:
    """Read the official CSV: one column of P factors, shape (P,), or layers x pairs, shape (L, P).

    Raises:
        ValueError: the file is missing or holds something that is not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"factors CSV must be a file that exists, got {path}")
    try:
        table = np.loadtxt(io.StringIO(parsing.read_text(path)), delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise ValueError(f"factors CSV must hold numbers only, got {path}: {error}") from error
    if table.size == 0:
        raise ValueError(f"factors CSV must hold at least one number, got an empty file {path}")
    return table[:, 0] if table.shape[1] == 1 else table
