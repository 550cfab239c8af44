"""Ask vLLM. Usage: python run_vllm.py WORK, or a case of it"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

import numpy as np
import vllm  # pyright: ignore[reportMissingImports]
from answers import GREEDY_TOKENS, Answer, Prompt, write_answers


@cache
def load(folder: Path) -> Any:
    return vllm.LLM(str(folder), dtype="float32", max_model_len=2048, enforce_eager=True)


def answer(case: Path, prompt: Prompt) -> Answer:
    settings = vllm.SamplingParams(temperature=0, max_tokens=GREEDY_TOKENS, prompt_logprobs=0, ignore_eos=True)
    found = load(case / "exported").generate([{"prompt_token_ids": prompt.ids}], settings, use_tqdm=False)[0]
    after = zip(found.prompt_logprobs[1:], prompt.ids[1:], strict=True)
    return Answer(np.array([values[token].logprob for values, token in after]), list(found.outputs[0].token_ids))


if __name__ == "__main__":
    given = Path(sys.argv[1])
    if (given / "case.json").is_file():
        write_answers(given, "vllm", vllm.__version__, answer)
    else:  # a process for each, as a second engine fails while the first is taken down
        for case in sorted(given.iterdir()):
            subprocess.run([sys.executable, __file__, str(case)], check=True)
