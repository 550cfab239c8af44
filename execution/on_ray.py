"""Workers on many machines: actors of Ray (docs.ray.io), which starts them, watches them and carries what they say.

As many actors are asked for as there are to be workers, also where the cluster has no room for all: those that wait
start when a machine joins, and what a machine that leaves had is done by the others.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from .base import Factory, Resources, State, threads_per_worker
from .pool import PoolExecutor
from .state import call, make_state, portable_errors


class RayWorker:
    """An actor with some GPUs, or a share of CPUs.

    Args:
        factory: reference to the factory in Ray's object store.
        resources: what the actor may use.
        room: what Ray keeps for it, as options of an actor.
    """

    def __init__(self, factory: Any, resources: Resources, room: Mapping[str, Any]) -> None:
        import ray  # pyright: ignore[reportMissingImports]
        from ray import exceptions  # pyright: ignore[reportMissingImports]

        self.lost: tuple[type[BaseException], ...] = (
            exceptions.RayActorError,
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.OutOfMemoryError,
            exceptions.ObjectLostError,
        )
        self._ray, self._factory, self._resources = ray, factory, resources
        self._actor: Any = ray.remote(max_restarts=0, max_task_retries=0, **room)(_Actor).remote()

    def start(self) -> Future[None]:
        """Begin to make the state, once Ray has a place for the actor."""
        return self._future(self._actor.make_state.remote(self._factory, self._resources))

    def submit(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        """Run a task."""
        return self._future(self._actor.call.remote(function, arguments))

    def close(self) -> None:
        """Kill the actor."""
        self._ray.kill(self._actor)

    def _future(self, reference: Any) -> Future[Any]:
        """Return the future of a result, with errors of tasks as they were raised."""
        from ray.exceptions import RayTaskError  # pyright: ignore[reportMissingImports]

        inner, outer = reference.future(), Future()

        def settle(ended: Future[Any]) -> None:
            error: Any = ended.exception()
            if error is None:
                outer.set_result(ended.result())
            else:
                outer.set_exception(error.cause if isinstance(error, RayTaskError) else error)

        inner.add_done_callback(settle)
        return outer


class _Actor:
    """What runs in the process of an actor."""

    @portable_errors()
    def make_state(self, factory: Factory[Any], resources: Resources) -> None:
        make_state(factory, resources)

    @portable_errors()
    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return call(function, *arguments)


class Division(NamedTuple):
    """How a cluster is divided among workers."""

    workers: int
    gpus: int
    """That Ray keeps for each."""
    cpus: int
    """That Ray keeps for each; 0 for those with GPUs."""
    threads: int | None
    """That each computes with; None: as many as the library takes."""


def divide(
    machines: Sequence[Mapping[str, float]], own: bool, workers: int | None, gpus: int, or_cpus: bool
) -> Division:
    """Return how a cluster is divided among workers.

    Args:
        machines: what each has, as Ray names it.
        own: whether this machine is the cluster, so that no other one can join.
        workers: most of them at once; None: as many as there is room for.
        gpus: of each worker.
        or_cpus: whether workers do without GPUs where there is none.

    Raises:
        ValueError: workers would wait for GPUs that can't come.
    """
    gpus_there = int(sum(one.get("GPU", 0) for one in machines))
    if gpus and (gpus_there or not or_cpus):
        if own and gpus > gpus_there:
            raise ValueError(
                f"gpus_per_worker must be at most the {gpus_there} GPUs of this machine, the whole Ray "
                f"cluster, got {gpus}; take --device cpu, fewer --devices-per-worker, or a cluster (--ray-address)"
            )
        room = sum(int(one.get("GPU", 0)) // gpus for one in machines)
        return Division(workers or max(1, room), gpus, 0, None)
    cpus_there = [int(one.get("CPU", 0)) for one in machines]
    total, largest = max(1, sum(cpus_there)), max(1, *cpus_there)
    count = workers or total
    threads = threads_per_worker(count) if own else min(largest, max(1, total // count))
    return Division(workers or max(1, total // threads), 0, min(largest, threads), threads)


class RayExecutor(PoolExecutor[State]):
    """Workers of a Ray cluster.

    Args:
        factory: makes the state of a worker; what it reads has to be at the same place on all machines.
        address: of the cluster, as `ray.init` takes it; None: one of its own on this machine.
        workers: most of them at once; None: as many as the cluster has room for now.
        gpus_per_worker: GPUs of each; where it is 0, each has an equal share of the CPUs, and in a cluster of its own
            as many threads as `OMP_NUM_THREADS` says.
        or_cpus: whether workers have CPUs instead where the cluster has no GPU now.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
        ValueError: the cluster is its own and has fewer GPUs than a worker is to have.
    """

    def __init__(
        self,
        factory: Factory[State],
        address: str | None,
        workers: int | None,
        gpus_per_worker: int,
        or_cpus: bool = False,
    ) -> None:
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("the executor ray needs the package ray; pip install ray") from error
        self._ray, own = ray, address is None
        ray.init(address or "local", num_cpus=workers * threads_per_worker(workers) if own and workers else None)
        try:
            machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
            division = divide(machines, own, workers, gpus_per_worker, or_cpus)
            reference = ray.put(factory)
        except BaseException:
            ray.shutdown()
            raise
        room = {"num_cpus": division.cpus, "num_gpus": division.gpus}
        make = partial(RayWorker, reference, Resources(threads=division.threads), room)
        super().__init__([make] * division.workers)

    def close(self) -> None:
        """End the actors and the connection; a cluster of its own ends, too."""
        super().close()
        self._ray.shutdown()
