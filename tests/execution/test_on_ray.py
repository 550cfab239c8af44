"""The executor on a Ray cluster of this machine: as the others, and with machines that join and leave."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longrope.execution import RayExecutor, TaskFuture, TaskLost

from .conftest import alive

pytest.importorskip("ray", reason="needs ray: pip install ray")

SYSTEM = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
"""Let Ray notice in seconds that a machine is gone."""


@pytest.fixture
def cluster(importable: None) -> Iterator[Any]:
    """Return a cluster whose head runs no workers."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": SYSTEM})
    yield cluster
    cluster.shutdown()


def test_tasks_survive_their_workers_and_machines_join_and_leave(cluster: Any, tmp_path: Path) -> None:
    import toy_workers as toys

    folders = [tmp_path / name for name in ("few", "many")]
    for folder in folders:
        folder.mkdir()
    cluster.add_node(num_cpus=1)
    with RayExecutor(toys.Toy, cluster.address, workers=2, gpus_per_worker=0) as executor:
        # as every executor, with the one worker that there is room for
        asked: list[TaskFuture[Any]] = [executor.submit(toys.square, number) for number in range(5)]
        asked += [executor.submit(toys.refuse, 3), executor.submit(toys.square, 9)]
        assert asked[-1].cancel() and set(executor.as_completed(asked)) == set(asked)
        assert [future.result() for future in asked[:5]] == [0, 1, 4, 9, 16]
        with pytest.raises(ArithmeticError, match="^no score for 3$"):
            asked[5].result()

        # workers that are killed
        lost = [executor.submit(toys.die_until, folders[0], 1), executor.submit(toys.die_until, folders[1], 99)]
        assert set(executor.as_completed(lost)) == set(lost)
        assert lost[0].result() == 1
        with pytest.raises(TaskLost, match="3 workers were lost"):
            lost[1].result()

        # a machine joins, and both are used
        node = cluster.add_node(num_cpus=1)
        workers: set[int] = set()
        while len(workers) < 2:
            slow = [executor.submit(toys.pid_and_calls, 0.2) for _ in range(4)]
            workers |= {future.result()[0] for future in executor.as_completed(slow)}

        # it leaves, and its task is done by the other
        go = tmp_path / "go"
        both = [executor.submit(toys.wait_for, go) for _ in range(2)]
        cluster.remove_node(node, allow_graceful=False)
        while all(map(alive, workers)):
            time.sleep(0.05)
        go.touch()
        (survivor,) = filter(alive, workers)
        assert {future.result() for future in executor.as_completed(both)} == {survivor}
