"""Ask llama.cpp's server, of which `xllamacpp` ships a build, in this process. Usage: python run_llama_cpp.py WORK

Float32 weights and cache, no flash attention: what is left of a difference is the RoPE's. The server gives
probabilities of what comes next only: each token is a request for one more, and the cache holds those before it.
"""

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xllamacpp  # pyright: ignore[reportMissingImports]
from answers import GREEDY_TOKENS, Answer, Prompt, write_answers

CONTEXT = 2048


@lru_cache(maxsize=1)
def load(file: Path) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT
    params.n_parallel = params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.swa_full, params.fit_params, params.warmup, params.verbosity = True, False, False, 1
    return xllamacpp.Server(params)


def follow(server: Any, ids: list[int], token: int) -> tuple[float, int]:
    """Return the log-probability of a token after others, and the most likely token.

    The bias forces the token without touching the reported log-probabilities; the server reports none for a token that
    is half a character, which the most likely may be.
    """
    request = {"prompt": ids, "max_tokens": 1, "temperature": 0, "cache_prompt": True, "logprobs": 1}
    found = server.handle_completions({**request, "logit_bias": [[token, 1000.0]]})
    content = found["choices"][0]["logprobs"]["content"][0]
    if content["id"] != token:
        raise RuntimeError(f"llama.cpp must continue with token {token}, got {content['id']}")
    return content["logprob"], content["top_logprobs"][0]["id"]


def answer(case: Path, prompt: Prompt) -> Answer:
    server, ids, greedy = load(case / "model.gguf"), prompt.ids, []
    logprobs = [follow(server, ids[:index], ids[index])[0] for index in range(1, len(ids))]
    while len(greedy) < GREEDY_TOKENS:
        greedy.append(follow(server, ids + greedy, ids[-1])[1])
    return Answer(np.array(logprobs), greedy)


if __name__ == "__main__":
    for case in sorted(Path(sys.argv[1]).iterdir()):
        write_answers(case, "llama.cpp", f"b{xllamacpp.__version__.rsplit('.', 1)[-1]}", answer)
