"""WHERE scores are made: the same tasks in this process, in processes of this machine, or on a Ray cluster.

Nothing here knows what a task is; nothing here needs torch.
"""

from .base import Executor, Factory, Resources, TaskFuture, TaskLost, only, threads_per_worker
from .inline import InlineExecutor
from .on_ray import RayExecutor
from .processes import process_executor

__all__ = [
    "Executor",
    "Factory",
    "InlineExecutor",
    "RayExecutor",
    "Resources",
    "TaskFuture",
    "TaskLost",
    "only",
    "process_executor",
    "threads_per_worker",
]
