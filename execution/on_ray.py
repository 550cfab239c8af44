"""Workers on many machines: actors of Ray (docs.ray.io), which starts them, watches them and carries what they say.

As many actors are asked for as there are to be workers, also where the cluster has no room for all: those that wait
start when a machine joins, and what a machine that leaves had is done by the others.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from .base import Factory, Resources, State
from .pool import PoolExecutor
from .state import call, make_state


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

    def make_state(self, factory: Factory[Any], resources: Resources) -> None:
        make_state(factory, resources)

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return call(function, *arguments)


class RayExecutor(PoolExecutor[State]):
    """Workers of a Ray cluster.

    Args:
        factory: makes the state of a worker; what it reads has to be at the same place on all machines.
        address: of the cluster, as `ray.init` takes it; None: one of its own on this machine.
        workers: most of them at once; None: as many as the cluster has room for now.
        gpus_per_worker: GPUs of each; where it is 0, each has an equal share of the CPUs.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
    """

    def __init__(self, factory: Factory[State], address: str | None, workers: int | None, gpus_per_worker: int) -> None:
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("the executor ray needs the package ray; pip install ray") from error
        self._ray = ray
        ray.init(address or "local", num_cpus=None if address else workers)
        there = ray.cluster_resources()
        kind, each = ("GPU", gpus_per_worker) if gpus_per_worker else ("CPU", 1)
        count = max(1, int(there.get(kind, 0)) // each) if workers is None else workers
        threads = None if gpus_per_worker else max(1, int(there.get("CPU", 1)) // count)
        room = {"num_cpus": threads or 0, "num_gpus": gpus_per_worker}
        super().__init__([partial(RayWorker, ray.put(factory), Resources(threads=threads), room)] * count)

    def close(self) -> None:
        """End the actors and the connection; a cluster of its own ends, too."""
        super().close()
        self._ray.shutdown()
