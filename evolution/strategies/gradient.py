"""Descent on the gradient of the loss with respect to log lambda and the log attention factor, with Adam."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from ..coordinates import ATTENTION_SHARE, knot_positions
from ..settings import GradientSettings
from ..space import ATTENTION_RESOLUTION, Genome, Space
from .base import Evaluation, Request, check_seeds
from .generational import SelectingStrategy, best_of, unique
from .windows import WindowPool

EPSILON = 1e-12
"""Keeps Adam's division finite where a gradient has always been 0; far below any gradient in nats per token."""

Vector = NDArray[np.float64]


class Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1)."""

    def __init__(
        self,
        learning_rate: float,
        beta1: float,
        beta2: float,
        mean: Vector | float = 0.0,
        square: Vector | float = 0.0,
        num_steps: int = 0,
    ) -> None:
        self._learning_rate, self._beta1, self._beta2 = learning_rate, beta1, beta2
        self._mean, self._square, self._num_steps = mean, square, num_steps

    def state(self) -> dict[str, Any]:
        """Return the arguments that go on from here."""
        return {
            "learning_rate": self._learning_rate,
            "beta1": self._beta1,
            "beta2": self._beta2,
            "mean": self._mean,
            "square": self._square,
            "num_steps": self._num_steps,
        }

    def step(self, gradient: Vector, share: float = 1.0) -> Vector:
        """Return the change of the point for the next gradient, by a share of the learning rate."""
        self._num_steps += 1
        self._mean = self._beta1 * self._mean + (1 - self._beta1) * gradient
        self._square = self._beta2 * self._square + (1 - self._beta2) * gradient**2
        mean = self._mean / (1 - self._beta1**self._num_steps)
        square = self._square / (1 - self._beta2**self._num_steps)
        return -share * self._learning_rate * mean / (np.sqrt(square) + EPSILON)


class Descent:
    """A point that moves against gradients: knots of the change of log lambda, and of the log attention factor.

    Between the knots (`knot_positions`) the change is linear. The gradient is taken at the genome nearest to the point.
    After each step the point is set to the one nearest to it whose factors are within the bounds and non-decreasing: an
    isotonic regression of log lambda, clipped, and the knots that fit it best.
    """

    def __init__(self, space: Space, origin: Genome, num_knots: int, adam: Adam, points: Sequence[Vector] = ()) -> None:
        self._space, self._origin, self._adam = space, origin, adam
        knots = knot_positions(space, num_knots)
        pairs = np.arange(space.num_pairs)
        self._basis = np.stack([np.interp(pairs, knots, hat) for hat in np.eye(num_knots)], axis=1)  # (P, K)
        self._log_lambda: Vector = np.log(space.decode(origin))
        attention = space.decode_attention(origin)
        self._log_attention = None if attention is None else math.log(attention)
        self._points = list(points)
        self._point = self._points[-1] if points else np.zeros(num_knots + (attention is not None))

    def state(self) -> dict[str, Any]:
        """Return the arguments that go on from here, but for the space."""
        adam, num_knots = self._adam.state(), self._basis.shape[1]
        return {"origin": self._origin, "num_knots": num_knots, "adam": adam, "points": self._points}

    @classmethod
    def restored(cls, space: Space, state: Mapping[str, Any]) -> "Descent":
        """Return the descent of a state."""
        return cls(space, **{**state, "adam": Adam(**state["adam"])})

    @property
    def num_steps(self) -> int:
        """Steps taken."""
        return len(self._points)

    @property
    def genome(self) -> Genome:
        """Where the next gradient is wanted."""
        return self._genome(self._point)

    def step(self, d_log_lambda: Vector, d_log_attention: float, share: float = 1.0) -> None:
        """Move against a gradient, in nats per token, by a share of the learning rate."""
        gradient = self._basis.T @ d_log_lambda
        if self._log_attention is not None:
            gradient = np.append(gradient, ATTENTION_SHARE * d_log_attention)
        self._point = self._project(self._point + self._adam.step(gradient, share))
        self._points.append(self._point)

    def average(self, share: float) -> Genome:
        """Return the mean of the last points, a share of all: steadier than the last one."""
        return self._genome(np.mean(self._points[-math.ceil(share * len(self._points)) :], axis=0))

    def _genome(self, point: Vector) -> Genome:
        attention = None if self._log_attention is None else math.exp(self._log_attention + ATTENTION_SHARE * point[-1])
        return self._space.encode(np.exp(self._allowed(point)), self._origin.start_tokens, attention)

    def _allowed(self, point: Vector) -> Vector:
        """Return the log lambda nearest to that of a point, shape (P,), which the space allows."""
        wanted = self._log_lambda + self._basis @ point[: self._basis.shape[1]]
        bounds = np.log(np.array([self._space.lower, self._space.upper]) / self._space.resolution)
        return np.clip(isotonic_regression(wanted).x, *bounds)

    def _project(self, point: Vector) -> Vector:
        wanted = self._allowed(point) - self._log_lambda
        knots = np.asarray(np.linalg.lstsq(self._basis, wanted)[0], dtype=np.float64)
        if self._log_attention is None:
            return knots
        bounds = np.log(np.array([ATTENTION_RESOLUTION, self._space.attention_upper]) / ATTENTION_RESOLUTION)
        return np.append(knots, np.clip(point[-1], *(bounds - self._log_attention) / ATTENTION_SHARE))


class GradientStrategy(SelectingStrategy):
    """Adam from the best seed, each step on fresh windows.

    1. Generation 0 scores the seeds on a few windows.
    2. Generation 1 scores the best of them with every choice of start tokens, which have no gradient; the best of these
       is where the descent begins. It is left out where there is one choice.
    3. Each of the next `num_iterations` generations asks for the gradient at the point on windows drawn from the pool.
    4. The last generation scores the average of the later points, with its own start tokens and with the seed's,
       together with the best seed on the first window of every document: the result is never worse there than that
       seed.
    """

    def __init__(
        self, settings: GradientSettings, space: Space, seeds: Mapping[str, Genome], num_documents: int, seed: int
    ) -> None:
        check_seeds(space, seeds, num_documents)
        super().__init__(seed)
        self._settings, self._space = settings, space
        self._seeds = dict(seeds)
        self._documents = tuple(range(num_documents))
        self._windows = range(num_documents * settings.windows_per_document)
        self._num_trials = 1 if len(space.start_token_choices) > 1 else 0
        self._pool = WindowPool(self._windows, self._rng)
        self._descent: Descent | None = None

    @property
    def num_generations(self) -> int:
        return self._count_generations(2 + self._num_trials + self._settings.num_iterations)

    @property
    def reserved(self) -> tuple[int, ...]:
        return 3 * self._documents

    def _propose(self) -> list[Request] | None:
        if self.generation > self._num_trials + self._settings.num_iterations:
            return None
        if not self._told:
            documents = self._pool.draw(self._settings.seed_windows)
            return [Request(genome, documents, f"seed:{name}") for name, genome in self._seeds.items()]
        if self._descent is None:
            best = self._best_seed
            genomes = [replace(best.genome, start_tokens=choice) for choice in self._space.start_token_choices]
            return [Request(genome, best.request.documents, "start_tokens") for genome in genomes]
        return [Request(self._descent.genome, self._pool.draw(self._settings.windows_per_step), "adam", gradient=True)]

    def _finalists(self) -> list[Request]:
        documents = self._documents
        if not self._told:
            return unique([Request(genome, documents, f"seed:{name}") for name, genome in self._seeds.items()])
        seed = self._best_seed.request
        finalists = {seed.origin: seed.genome}
        if self._descent is not None and self._descent.num_steps:
            average = self._descent.average(self._settings.averaged_share)
            kept = replace(average, start_tokens=seed.genome.start_tokens)
            finalists |= {"average": average, "average:start_tokens": kept}
        return unique([Request(genome, documents, origin) for origin, genome in finalists.items()])

    def _learn(self, evaluations: Sequence[Evaluation]) -> None:
        if not self._told:
            best = best_of(evaluations)
            if best is None:
                raise RuntimeError(f"no seed could be scored: {evaluations[0].error}; fix the objective")
            if not self._num_trials:
                self._descent = self._new_descent(best)
        elif self._descent is None:
            self._descent = self._new_descent(best_of(evaluations) or self._best_seed)
        elif evaluations[0].failed:
            if not self._descent.num_steps:  # what fails at once, such as a lack of memory, will fail again
                raise RuntimeError(
                    f"the first gradient must not fail, got {evaluations[0].error}; mend that or choose a strategy "
                    "without gradients, in a new run folder"
                )
        else:
            self._descent.step(*mean_gradient(evaluations[0]))

    @property
    def _best_seed(self) -> Evaluation:
        best = best_of(self._told[0])
        assert best is not None, "the first generation is refused without one"
        return best

    def _new_descent(self, origin: Evaluation) -> Descent:
        settings = self._settings
        adam = Adam(settings.learning_rate, settings.beta1, settings.beta2)
        return Descent(self._space, origin.genome, min(settings.num_knots, self._space.num_pairs), adam)

    def _state(self) -> dict[str, Any]:
        return {"windows_left": self._pool.left, "descent": self._descent and self._descent.state()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._pool = WindowPool(self._windows, self._rng, state["windows_left"])
        self._descent = state["descent"] and Descent.restored(self._space, state["descent"])


def mean_gradient(evaluation: Evaluation) -> tuple[Vector, float]:
    """Return the derivatives of the mean loss, in nats per token."""
    num_tokens = sum(evaluation.tokens)
    d_log_lambda = np.sum([gradient.log_lambda for gradient in evaluation.gradients], axis=0)
    return d_log_lambda / num_tokens, sum(gradient.log_attention for gradient in evaluation.gradients) / num_tokens
