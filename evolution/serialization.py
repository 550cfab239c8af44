"""The state of a search as JSON and back, to the last bit: Python writes a float as the shortest text that gives it.

Beyond what JSON has: tuples, mappings of any keys, floats that are not finite, numpy arrays and random generators,
genomes, and CMA-ES of the package cmaes, which has no public state. Only these kinds are made when reading, and nothing
in a file is executed.
"""

import math
from typing import Any

import numpy as np
from cmaes import CMA

from .space import Genome

OBJECTS: dict[str, type] = {CMA.__name__: CMA}
"""Classes of which the attributes are stored one by one."""
DTYPES = ("float64", "int64", "uint32", "bool")
"""Kinds of arrays and numpy scalars that are read."""


def to_json(value: Any) -> Any:
    """Return plain JSON values for a state.

    Raises:
        TypeError: a value is of a kind that can't be stored.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        if str(value.dtype) not in DTYPES:
            raise TypeError(f"a stored array must be of {', '.join(DTYPES)}, got {value.dtype}; convert it")
        items = [to_json(item) for item in value.ravel().tolist()]
        return {"$array": items, "shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [to_json(item) for item in value]}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {"$pairs": [[to_json(key), to_json(item)] for key, item in value.items()]}
    return _object_to_json(value)


def _object_to_json(value: Any) -> dict[str, Any]:
    if isinstance(value, Genome):
        return {"$genome": [list(value.steps), value.start_tokens, value.attention, value.critical_dimension]}
    if isinstance(value, np.random.Generator):
        return {"$generator": to_json(dict(value.bit_generator.state))}
    if isinstance(value, np.random.RandomState):
        return {"$random_state": to_json(value.get_state(legacy=False))}
    if type(value) in OBJECTS.values():
        return {"$object": type(value).__name__, "attributes": to_json(vars(value))}
    raise TypeError(
        f"state must be of kinds that can be stored, got {type(value).__name__}; add it to serialization.py"
    )


def from_json(value: Any) -> Any:
    """Undo `to_json`.

    Raises:
        ValueError, KeyError, TypeError: the value is none that `to_json` writes.
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = next((key for key in value if key.startswith("$")), None)
    if kind is None:
        return {key: from_json(item) for key, item in value.items()}
    return _READERS[kind](value)


def _read_array(value: dict[str, Any]) -> Any:
    if value["dtype"] not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {value['dtype']!r}")
    return np.array(from_json(value["$array"]), dtype=value["dtype"]).reshape(value["shape"])[()]


def _read_generator(value: dict[str, Any]) -> np.random.Generator:
    generator = np.random.Generator(np.random.PCG64())
    generator.bit_generator.state = from_json(value["$generator"])
    return generator


def _read_random_state(value: dict[str, Any]) -> np.random.RandomState:
    random_state = np.random.RandomState()  # noqa: NPY002 - what cmaes draws from
    random_state.set_state(from_json(value["$random_state"]))
    return random_state


def _read_genome(value: dict[str, Any]) -> Genome:
    steps, start_tokens, attention, critical_dimension = value["$genome"]
    return Genome(tuple(steps), start_tokens, attention, critical_dimension)


def _read_object(value: dict[str, Any]) -> Any:
    cls = OBJECTS[value["$object"]]
    made: Any = object.__new__(cls)
    vars(made).update(from_json(value["attributes"]))
    return made


_READERS = {
    "$array": _read_array,
    "$float": lambda value: float(value["$float"]),
    "$pairs": lambda value: {from_json(key): from_json(item) for key, item in value["$pairs"]},
    "$tuple": lambda value: tuple(from_json(value["$tuple"])),
    "$generator": _read_generator,
    "$random_state": _read_random_state,
    "$genome": _read_genome,
    "$object": _read_object,
}
