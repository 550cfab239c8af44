"""States go through JSON without losing a bit, and an optimiser that did goes on as if nothing had happened."""

import json
import math
from typing import Any

import numpy as np
import pytest
from cmaes import CMA
from hypothesis import given, settings
from hypothesis import strategies as st

from longrope.evolution import Genome
from longrope.evolution.serialization import from_json, to_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.tuples(st.integers(), st.floats(allow_nan=False)), inner)
    ),
    max_leaves=12,
)


def travelled(value: Any) -> Any:
    return from_json(json.loads(json.dumps(to_json(value), allow_nan=False)))


@settings(deadline=None)
@given(VALUES)
def test_values_come_back_equal_and_of_the_same_type(value: Any):
    assert repr(travelled(value)) == repr(value)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, -0.0], [math.inf, 5e-324]]),
        np.arange(3),
        np.zeros((0, 4)),
        np.array([True]),
        np.float64(1 / 3),
        np.array([2**32 - 1], dtype=np.uint32),
    ],
)
def test_arrays_keep_shape_type_and_bits(array: np.ndarray):
    again = travelled(array)
    assert type(again) is type(array) and again.dtype == array.dtype
    assert again.shape == array.shape and again.tobytes() == array.tobytes()


def test_genomes_and_generators_come_back():
    genome = Genome((100, 120), 4, 1100, 1)
    assert travelled({genome: [genome]}) == {genome: [genome]}
    rng = np.random.default_rng(3)
    rng.normal(size=5)
    assert travelled(rng).normal(size=5).tolist() == rng.normal(size=5).tolist()


@pytest.mark.parametrize("asked", [0, 3])
def test_cma_goes_on_bit_for_bit_from_its_state_also_within_a_generation(asked: int):
    optimizer = CMA(mean=np.zeros(5), sigma=0.1, population_size=6, seed=1, lr_adapt=True)
    for _ in range(4):
        step(optimizer)
    drawn = [optimizer.ask() for _ in range(asked)]
    again, drawn_again = travelled((optimizer, drawn))
    for _ in range(30):
        points, points_again = step(optimizer, drawn), step(again, drawn_again)
        assert [point.tobytes() for point in points] == [point.tobytes() for point in points_again]
        drawn, drawn_again = [], []
    assert to_json(again) == to_json(optimizer)


def step(optimizer: CMA, drawn: Any = ()) -> list[np.ndarray]:
    """Do one generation towards 0.5; return the points asked for."""
    drawn = [*drawn, *(optimizer.ask() for _ in range(optimizer.population_size - len(drawn)))]
    optimizer.tell([(point, float(np.square(point - 0.5).sum())) for point in drawn])
    return drawn


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes"])
def test_what_can_not_be_stored_is_refused_by_name(value: Any):
    with pytest.raises(TypeError, match=f"got {type(value).__name__}"):
        to_json({"a": [value]})


@pytest.mark.parametrize(
    "text", ['{"$object": "Popen", "attributes": {}}', '{"$array": [1], "shape": [1], "dtype": "object"}', '{"$x": 1}']
)
def test_only_known_kinds_are_read(text: str):
    with pytest.raises((KeyError, ValueError)):
        from_json(json.loads(text))
