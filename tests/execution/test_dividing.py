"""What each worker of a Ray cluster has: decided without Ray."""

import os
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from longrope.execution import threads_per_worker
from longrope.execution.on_ray import Division, divide


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let this machine have 12 cores, and nobody say how many threads."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return monkeypatch


def test_threads_are_shared_where_nobody_says_how_many(cores: pytest.MonkeyPatch) -> None:
    assert (threads_per_worker(3), threads_per_worker(99)) == (4, 1)
    for named, expected in {"1": 1, "5": 5, "0": 4, "": 4}.items():
        cores.setenv("OMP_NUM_THREADS", named)
        assert threads_per_worker(3) == expected


CPUS, GPUS = {"CPU": 12.0}, {"CPU": 12.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("machines", "own", "workers", "gpus", "or_cpus", "expected"),
    [
        ([GPUS], True, None, 1, True, Division(4, 1, 0, None)),
        ([GPUS], True, 3, 2, False, Division(3, 2, 0, None)),
        ([{"CPU": 8.0, "GPU": 3.0}] * 2, False, None, 2, False, Division(2, 2, 0, None)),  # none over two machines
        ([CPUS], False, None, 1, False, Division(1, 1, 0, None)),  # a machine with GPUs may join
        ([CPUS], True, None, 1, True, Division(12, 0, 1, 1)),
        ([CPUS], False, 3, 1, True, Division(3, 0, 4, 4)),
        ([CPUS], True, 3, 0, False, Division(3, 0, 4, 4)),
        ([GPUS], True, 3, 0, False, Division(3, 0, 4, 4)),
        ([CPUS] * 2, False, 1, 0, False, Division(1, 0, 12, 12)),  # a worker is on one machine
        ([{}], False, None, 0, False, Division(1, 0, 1, 1)),
    ],
)
def test_a_cluster_is_divided_by_what_there_is(
    machines: list[dict[str, float]],
    own: bool,
    workers: int | None,
    gpus: int,
    or_cpus: bool,
    expected: Division,
    cores: pytest.MonkeyPatch,
) -> None:
    assert divide(machines, own, workers, gpus, or_cpus) == expected


@pytest.mark.parametrize(("machine", "gpus", "or_cpus"), [(CPUS, 1, False), (GPUS, 5, False), (GPUS, 5, True)])
def test_gpus_that_can_not_come_are_not_waited_for(machine: dict[str, float], gpus: int, or_cpus: bool) -> None:
    with pytest.raises(ValueError, match=f"at most the {int(machine.get('GPU', 0))} GPUs of this machine.*got {gpus}"):
        divide([machine], True, 2, gpus, or_cpus)


def test_threads_of_a_cluster_of_its_own_are_those_that_are_named(cores: pytest.MonkeyPatch) -> None:
    cores.setenv("OMP_NUM_THREADS", "5")
    assert divide([{"CPU": 15.0}], True, 3, 0, False) == Division(3, 0, 5, 5)
    assert divide([CPUS], True, None, 0, False) == Division(2, 0, 5, 5)
    cores.setenv("OMP_NUM_THREADS", "20")
    assert divide([CPUS], True, None, 0, False) == Division(1, 0, 12, 20)  # which has room


@given(
    st.lists(st.fixed_dictionaries({"CPU": st.integers(0, 64), "GPU": st.integers(0, 8)}), min_size=1, max_size=5),
    st.one_of(st.none(), st.integers(1, 99)),
    st.integers(0, 8),
)
def test_the_first_worker_has_room_on_some_machine(machines: list[Any], workers: int | None, gpus: int) -> None:
    assume(any(one["CPU"] for one in machines))
    assume(not any(one["GPU"] for one in machines) or any(one["GPU"] >= gpus for one in machines))
    division = divide(machines, False, workers, gpus, True)
    assert any(one["CPU"] >= division.cpus and one["GPU"] >= division.gpus for one in machines)
    assert division.workers == workers or workers is None
