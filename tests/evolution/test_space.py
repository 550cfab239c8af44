import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longrope.evolution import Genome, Space


def spaces() -> st.SearchStrategy[Space]:
    return st.builds(
        Space,
        num_pairs=st.integers(2, 8),
        scale=st.floats(1.1, 200),
        step=st.sampled_from([0.01, 0.005, 0.002, 0.1, 0.0001]),
        upper_ratio=st.floats(1, 2),
        search_attention=st.booleans(),
    )


@given(spaces(), st.data())
def test_encoding_anything_finite_gives_a_genome_inside(space: Space, data: st.DataObject):
    lambdas = data.draw(st.lists(st.floats(-1e3, 1e3), min_size=space.num_pairs, max_size=space.num_pairs))
    attention = data.draw(st.floats(-10, 10)) if space.search_attention else None
    genome = space.encode(lambdas, attention_factor=attention)
    assert space.contains(genome)
    decoded = space.decode(genome)
    assert np.all(np.diff(decoded) >= 0) and decoded[0] >= 1
    assert space.encode(decoded, attention_factor=space.decode_attention(genome)) == genome


@given(spaces())
def test_one_and_the_extension_ratio_are_on_the_grid_exactly(space: Space):
    ends = [1.0] + [space.scale] * (space.num_pairs - 1)
    attention = 1.0 if space.search_attention else None
    assert space.decode(space.encode(ends, attention_factor=attention)).tolist() == ends


def test_decoded_factors_are_the_floats_nearest_to_their_decimals():
    space = Space(num_pairs=3, scale=8.0)
    assert space.decode(Genome((100, 115, 829))).tolist() == [1.0, 1.15, 8.29]


def test_bounds_are_those_of_the_paper():
    space = Space(num_pairs=3, scale=4.0)
    assert (space.lower, space.upper) == (100, 500)
    assert space.upper - space.lower == 400  # LongRoPE table 4: 400^64 points for s = 4
    assert space.decode(space.encode([0.1, 3.0, 99.0])).tolist() == [1.0, 3.0, 5.0]


def test_a_falling_set_is_made_non_decreasing():
    assert Space(num_pairs=4, scale=4.0).encode([1.0, 3.0, 2.0, 4.0]).steps == (100, 300, 300, 400)


@pytest.mark.parametrize(
    "genome",
    [
        Genome((100, 200)),
        Genome((99, 200, 300)),
        Genome((100, 200, 501)),
        Genome((200, 100, 300)),
        Genome((100, 200, 300), start_tokens=3),
    ],
)
def test_genomes_outside_are_not_contained(genome: Genome):
    space = Space(num_pairs=3, scale=4.0)
    assert space.contains(Genome((100, 200, 500), start_tokens=256))
    assert not space.contains(genome)


def test_the_attention_factor_is_a_gene_only_where_it_is_searched():
    fixed, searched = Space(3, 8.0), Space(3, 8.0, search_attention=True)
    yarn = 0.1 * np.log(8) + 1
    genome = searched.encode([1.0, 2.0, 8.0], attention_factor=yarn)
    assert genome.attention == 1208 and searched.decode_attention(genome) == 1.208
    assert searched.decode_attention(searched.encode([1.0] * 3, attention_factor=9.0)) == pytest.approx(
        2 * yarn - 1, abs=1e-3
    )
    assert searched.contains(genome) and not fixed.contains(genome)
    assert not searched.contains(Genome(genome.steps)) and not searched.contains(Genome(genome.steps, 0, 705))
    assert (
        searched.decode_attention(searched.encode([1.0] * 3, attention_factor=0.1)) == searched.attention_lower / 1000
    )
    assert searched.attention_lower / 1000 == pytest.approx(1 / (2 * yarn - 1), abs=1e-3)
    assert fixed.decode_attention(fixed.encode([1.0] * 3)) is None
    for space, attention in ((fixed, 1.1), (searched, None)):
        with pytest.raises(ValueError, match="attention_factor must be given if and only if"):
            space.encode([1.0] * 3, attention_factor=attention)
    with pytest.raises(ValueError, match="attention_factor must be finite"):
        searched.encode([1.0] * 3, attention_factor=float("nan"))


def test_genomes_hash_and_travel_through_json_exactly():
    genome = Space(num_pairs=3, scale=4.0).encode([1.15, 2.675, 4.0], start_tokens=8)
    payload = json.loads(json.dumps(asdict(genome)))
    again = Genome(tuple(payload["steps"]), payload["start_tokens"])
    assert again == genome and len({again, genome}) == 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"num_pairs": 1}, "num_pairs"),
        ({"scale": 0.5}, "scale"),
        ({"scale": 1.001}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"step": 0.3}, "step"),
        ({"step": 0.0}, "step"),
        ({"upper_ratio": 0.9}, "upper_ratio"),
        ({"start_token_choices": ()}, "start_token_choices"),
        ({"start_token_choices": (4, 2)}, "start_token_choices"),
    ],
)
def test_bad_spaces_are_refused_by_name(values: dict[str, object], named: str):
    with pytest.raises(ValueError, match=f"^{named} must"):
        Space(**({"num_pairs": 3, "scale": 4.0} | values))  # type: ignore[arg-type]


@pytest.mark.parametrize("lambdas", [[1.0, 2.0], [1.0, float("nan"), 2.0], [[1.0, 2.0, 3.0]]])
def test_lambdas_of_a_wrong_shape_or_not_finite_are_refused(lambdas: list[float]):
    with pytest.raises(ValueError, match="lambdas must be 3 finite numbers"):
        Space(num_pairs=3, scale=4.0).encode(lambdas)


def test_start_tokens_outside_the_choices_are_refused():
    with pytest.raises(ValueError, match="start_tokens must be one of .* got 48; add it"):
        Space(num_pairs=3, scale=4.0).encode([1.0, 2.0, 3.0], start_tokens=48)
