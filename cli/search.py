"""`longrope search`: reads settings, documents and model, checks what may go wrong, and searches."""

from ..evaluation.data.tokenized import check_tokenizer
from ..evaluation.scoring.compiling import compile_tokenwise
from ..evaluation.scoring.model import load_model, pick_device
from ..evolution import load_settings
from ..hyperparams import preset
from .configs import SearchConfig
from .documents import load_documents
from .estimate import print_estimate
from .model_search import search_on_documents, search_space
from .preflight import preflight
from .readjust import prepare_readjustment


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
    model, tokenizer = load_model(config.model, config.dtype, config.device, config.attn_implementation)
    check_tokenizer(data, tokenizer)
    if config.compile:
        compile_tokenwise(model)
    search_on_documents(prepare_readjustment(config, model), settings, model, tokenizer, data)
