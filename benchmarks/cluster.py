"""A search on a cluster, as a discrete-event simulation (simpy): workers, passes, stragglers, and nodes that leave.

Synchronous: a generation offers so many passes, and the next one begins when all of them have ended. Asynchronous: as
many passes are under way as there are workers, and each that ends is followed by another. One driver takes the results
one by one. Passes of workers that are lost are given to others, and their workers come back.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import simpy

Events = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Cluster:
    """Machines and what they do; times in seconds."""

    workers: int
    mean: float = 1.0
    """Mean time of a pass on a worker that is no straggler."""
    spread: float = 0.0
    """Standard deviation of that over its mean; times are log-normal."""
    straggler_share: float = 0.0
    """Chance that a pass is slow."""
    straggler_slowdown: float = 1.0
    """What the time of a slow pass is multiplied by."""
    per_node: int = 8
    """Workers that are lost together."""
    failures_per_hour: float = 0.0
    """Losses of a node in an hour."""
    restart: float = 0.0
    """From the loss of a worker to another in its place that has its model."""
    driver: float = 0.0
    """What the driver needs for the result of a pass."""
    lost_at: float | None = None
    """When the first node leaves for good; None: never."""


class Outcome(NamedTuple):
    """What came of a run."""

    seconds: float
    """To its last result."""
    utilisation: float
    """Time of passes whose results counted, over that of all workers."""
    repeated: int
    """Passes that were lost and run again."""


def simulate(cluster: Cluster, generations: int, width: int, synchronous: bool, seed: int = 0) -> Outcome:
    """Run a search of `generations` times `width` passes.

    Args:
        cluster: the machines.
        generations: barriers of a synchronous search.
        width: passes of a generation.
        synchronous: whether a generation waits for the one before it.
        seed: of all that is random.
    """
    return _Run(cluster, seed).result(generations, width, synchronous)


class _Run:
    """The processes of one simulation."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.rng = cluster, np.random.default_rng(seed)
        self.env = simpy.Environment()
        self.queue, self.ended = simpy.Store(self.env), simpy.Store(self.env)
        self.useful, self.repeated = 0.0, 0
        workers = [self.env.process(self.worker()) for _ in range(cluster.workers)]
        for first in range(0, cluster.workers, cluster.per_node):
            node = workers[first : first + cluster.per_node]
            if cluster.failures_per_hour:
                self.env.process(self.failures(node))
            if first == 0 and cluster.lost_at is not None:
                self.env.process(self.loss(node))

    def result(self, generations: int, width: int, synchronous: bool) -> Outcome:
        barriers = [width] * generations if synchronous else [width * generations]
        self.env.run(self.env.process(self.driver(barriers)))
        seconds = self.env.now
        return Outcome(seconds, self.useful / (seconds * self.cluster.workers), self.repeated)

    def driver(self, barriers: list[int]) -> Events:
        """Offer passes and take their results."""
        for count in barriers:
            for _ in range(count):
                self.queue.put(None)
            for _ in range(count):
                yield self.ended.get()
                if self.cluster.driver:
                    yield self.env.timeout(self.cluster.driver)

    def worker(self) -> Events:
        """Run one pass after the other; what is lost waits again, and the worker is back after a while."""
        while True:
            order, duration = self.queue.get(), None
            try:
                yield order
                duration = self.pass_time()
                yield self.env.timeout(duration)
                self.useful += duration
                self.ended.put(None)
            except simpy.Interrupt as loss:
                if duration is not None:
                    self.repeated += 1
                if duration is not None or order.triggered:
                    self.queue.put(None)
                else:
                    order.cancel()
                if loss.cause == "for good" or not (yield from self.restart()):
                    return

    def restart(self) -> Generator[simpy.Event, Any, bool]:
        """Come back, from the beginning if lost meanwhile; return whether it does."""
        while True:
            try:
                yield self.env.timeout(self.cluster.restart)
                return True
            except simpy.Interrupt as loss:
                if loss.cause == "for good":
                    return False

    def failures(self, node: list[simpy.Process]) -> Events:
        """Lose a node now and then."""
        while True:
            yield self.env.timeout(self.rng.exponential(3600 / self.cluster.failures_per_hour))
            self.interrupt(node, "for a while")

    def loss(self, node: list[simpy.Process]) -> Events:
        """Lose a node for good."""
        yield self.env.timeout(self.cluster.lost_at or 0.0)
        self.interrupt(node, "for good")

    def interrupt(self, node: list[simpy.Process], how: str) -> None:
        for worker in node:
            if worker.is_alive:
                worker.interrupt(how)

    def pass_time(self) -> float:
        cluster = self.cluster
        sigma = math.sqrt(math.log1p(cluster.spread**2))
        time = cluster.mean * self.rng.lognormal(-(sigma**2) / 2, sigma) if sigma else cluster.mean
        slow = cluster.straggler_share and self.rng.random() < cluster.straggler_share
        return time * (cluster.straggler_slowdown if slow else 1.0)
