"""Where the cells of a comparison run: a model with tasks, in this process or in that of a worker."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..evaluation.comparison.results import provenance
from ..evaluation.comparison.runner import CellRunner
from ..evaluation.data.tokenized import TokenizedDocuments, check_tokenizer
from ..evaluation.scoring.model import load_model
from ..execution import Resources
from ..rope import Method, RescaleFactors
from .executors import device_of, use
from .task_options import TaskOptions
from .tasks import Sources, build_tasks


@dataclass(frozen=True)
class ComparisonFactory:
    """Loads the model and builds the tasks, where cells run."""

    config: TaskOptions
    methods: Mapping[str, Method | RescaleFactors]
    data: TokenizedDocuments | None
    extends: str | None = None
    """What the model was tuned from; a report puts evaluations of the same into one table."""

    def __call__(self, resources: Resources) -> CellRunner:
        use(resources)
        config = self.config
        model, tokenizer = load_model(config.model, config.dtype, device_of(config), config.attn_implementation)
        if self.data is not None:
            check_tokenizer(self.data, tokenizer)
        tasks = build_tasks(Sources(config, model, tokenizer, self.data))
        protocols = {task.name: task.protocol() for task in tasks}
        extra = {} if self.extends is None else {"extends": self.extends}
        origin = provenance(model, config.model, protocols, config=asdict(config), seed=config.seed, **extra)
        return CellRunner(model, self.methods, config.lengths, tasks, origin, config.original_length)
