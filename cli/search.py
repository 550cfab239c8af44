"""`longrope search`: reads settings, documents and model, checks what may go wrong, and searches."""

from ..evaluation.scoring.model import pick_device
from ..evolution import load_settings
from ..hyperparams import preset
from .configs import SearchConfig
from .documents import load_documents
from .estimate import print_estimate
from .executors import open_executor
from .model_search import data_provenance, search_model, search_space
from .preflight import preflight
from .search_worker import SearchFactory


def run(config: SearchConfig) -> None:
    """Search and write factors.json and factors.csv into the run folder, or tell what that would cost."""
    settings = load_settings(preset(config.hyper_params))
    if config.estimate:
        print_estimate(config, settings, search_space)
        return
    preflight(config, config.target_length, settings)
    if config.price_per_hour is not None or pick_device(config.device).startswith("cuda"):
        print_estimate(config, settings, search_space)
    min_tokens = max(config.target_length, config.dataset_min_tokens or 0)
    data = load_documents(config.tokenized, min_tokens, config.samples, settings.num_documents, config.seed)
    with open_executor(config, SearchFactory(config, settings, data)) as executor:
        search_model(settings, executor, len(data.documents), data_provenance(settings, config, data))
