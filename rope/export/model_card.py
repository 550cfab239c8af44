"""The README.md of an exported folder: what the model is, how its factors were found, how to load it."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from ..factors import RescaleFactors

CITATION = """```bibtex
@inproceedings{ding2024longrope,
  title     = {{LongRoPE}: Extending {LLM} Context Window Beyond 2 Million Tokens},
  author    = {Ding, Yiran and Zhang, Li Lyna and Zhang, Chengruidong and Xu, Yuanyuan and Shang, Ning and Xu, Jiahang
               and Yang, Fan and Yang, Mao},
  booktitle = {International Conference on Machine Learning},
  year      = {2024},
  note      = {arXiv:2402.13753}
}
```"""


def model_card(factors: RescaleFactors, base_model: str, table_markdown: str | None = None) -> str:
    """Return the model card of an export.

    Args:
        factors: the factors in the export.
        base_model: hub id or folder of the model they were made for.
        table_markdown: measured results; left out where there are none.
    """
    name = Path(base_model).name
    sections = [
        _front_matter(base_model),
        f"# {name} at {factors.target_length} tokens",
        f"{name} with its context window extended from {factors.original_length} to {factors.target_length} tokens "
        "by rescaling RoPE; the weights are those of the base model.",
        "## Factors\n\n" + "\n".join(_facts(factors)),
    ]
    if table_markdown:
        sections.append("## Results\n\n" + table_markdown.strip())
    sections += [
        "## Use\n\n" + _usage(factors),
        "## Provenance\n\n" + _provenance(factors),
        "## Citation\n\n" + CITATION,
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(base_model: str) -> str:
    meta: dict[str, object] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    meta["tags"] = ["longrope", "long-context", "rope"]
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base_model) and not Path(base_model).exists():  # a hub id, not a folder
        meta["base_model"] = base_model
    return "---\n" + yaml.safe_dump(meta, sort_keys=False) + "---"


def _facts(factors: RescaleFactors) -> list[str]:
    method = factors.provenance.get("method", "rescale factors, one for each pair of rotary dimensions")
    lambdas = factors.lambdas
    start = f"the first {factors.start_tokens} tokens keep the original RoPE" if factors.start_tokens else "none"
    return [
        f"- Method: {method}",
        f"- Original length: {factors.original_length} tokens; target length: {factors.target_length} tokens "
        f"({factors.scale:g} times)",
        f"- Rescale factors: {factors.pairs} pairs, {lambdas.min():g} to {lambdas.max():g}, relative to the RoPE of "
        f"the base model (theta {factors.theta:g})",
        f"- Attention factor: {factors.attention_factor:.6g}, at every length",
        f"- Start tokens: {start}",
        "- The factors hold at every length, short inputs included, unless the folder has "
        "`longrope_short_factors.json`; exact values are in `longrope_factors.json`.",
    ]


def _usage(factors: RescaleFactors) -> str:
    return f"""Transformers (4.57 and later; longrope is not needed):

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this/folder", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained("this/folder")
```

vLLM: `vllm serve this/folder --max-model-len {factors.target_length}`

SGLang: `python -m sglang.launch_server --model-path this/folder --context-length {factors.target_length}`"""


def _provenance(factors: RescaleFactors) -> str:
    if not factors.provenance:
        return "The factor file names none."
    return "```json\n" + json.dumps(_without_folders(factors.provenance), indent=2, default=str) + "\n```"


def _without_folders(value: Any) -> Any:
    """Shorten absolute paths to their names: where a file lay is nobody's business."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
