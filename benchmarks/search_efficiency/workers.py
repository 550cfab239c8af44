"""The queue: runs worked off by processes that import once and load each model once, until the time is up."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from .bench import DIGEST, Bench, Machine, Source, device_name
from .journal import Failure, Key, Record
from .rows import Terms, build_rows, has_curve


@dataclass(frozen=True)
class Plan:
    """What all processes know."""

    sources: tuple[Source, ...]
    machine: Machine
    terms: Terms


class Worker:
    """Runs one key after the other."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows = build_rows(plan.terms)
        self.sources = {source.name: source for source in plan.sources}
        self.bench = cache(self._bench)

    def _bench(self, model: str, ratio: int) -> Bench:
        return Bench(self.sources[model], ratio, self.plan.machine)

    def work(self, key: Key) -> Record | Failure:
        """Run, judge, and return what is kept."""
        try:
            return self._record(key)
        except Exception as error:  # a run that fails must not end the others
            return Failure(key, " ".join(f"{type(error).__name__}: {error}".split()))

    def _record(self, key: Key) -> Record:
        bench = self.bench(key.model, key.ratio)
        _ = bench.searched
        started = time.perf_counter()
        outcome = self.rows[key.row](bench, key.seed)
        seconds = time.perf_counter() - started
        curve = outcome.trajectory if has_curve(key.row) else ()
        bound = outcome.bound
        over = () if bound is None or bound.over is None else (bound.over,)
        result, *points = bench.judge([outcome.factors, *(point.factors for point in curve), *over])
        baseline = points.pop() if over else None
        trajectory = [(point.tokens, losses) for point, losses in zip(curve, points, strict=True)]
        return Record(
            *key,
            model_digest=bench.model_digest,
            heldout_digest=bench.heldout.fingerprint(bench.target_length)[:DIGEST],
            seconds=round(seconds, 3),
            tokens=outcome.tokens,
            scores=outcome.scores,
            lambdas=[round(float(value), 4) for value in outcome.factors.lambdas],
            attention_factor=round(outcome.factors.attention_factor, 5),
            start_tokens=outcome.factors.start_tokens,
            losses=result,
            trajectory=trajectory,
            device=device_name(self.plan.machine.device),
            gain=None if bound is None else {} if bound.gain is None else bound.gain.as_json(),
            over=baseline,
        )


_worker: Worker | None = None


def _start(plan: Plan) -> None:
    global _worker
    torch.set_num_threads(1)
    _worker = Worker(plan)


def _work(key: Key) -> Record | Failure:
    assert _worker is not None, "_start makes it"
    return _worker.work(key)


def run_all(plan: Plan, keys: Sequence[Key], num_workers: int, minutes: float | None) -> Iterator[Record | Failure]:
    """Yield runs as they are finished, until all are or the time is up; runs under way are dropped then."""
    deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    if num_workers == 1:
        worker = Worker(plan)
        for key in keys:
            if time.monotonic() > deadline:
                return
            yield worker.work(key)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.__main__"])  # everything is imported once
    with context.Pool(num_workers, _start, (plan,)) as pool:  # leaving it ends the processes
        finished = pool.imap_unordered(_work, keys)
        for _ in keys:
            left = deadline - time.monotonic()
            try:
                yield finished.next(None if left == float("inf") else max(left, 0.0))
            except multiprocessing.TimeoutError:
                return
