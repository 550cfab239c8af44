"""Where an engine departs from the factors of an export, as `tests/engines.sh` measures it."""

from ..factors import RescaleFactors
from .static import has_su, su_attention_factor


def departure(engine: str, model_type: str, factors: RescaleFactors) -> str | None:
    """Return what an engine gets wrong with an export of a model type, with the work-around, or None.

    Args:
        engine: `transformers5`, `transformers4`, `vllm`, `lm_eval` (with Transformers 5) or `llama.cpp`; of the last,
            `export_gguf` refuses what it can't run.
        model_type: `model_type` of the model's config.
        factors: the factors in the export.
    """
    if engine == "transformers4" and model_type == "phi3" and not has_su(factors):
        return (
            f"Transformers 4 refuses to load Phi-3 with attention factor {factors.attention_factor:.6g}, as its own "
            f"formula gives {su_attention_factor(factors):.6g} and takes no other; load the export with Transformers 5 "
            "or vLLM, or search with --attention-factor su"
        )
    return None
