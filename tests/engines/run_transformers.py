"""Ask Transformers, in an environment without longrope. Usage: python run_transformers.py WORK ENGINE"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from answers import GREEDY_TOKENS, Answer, Prompt, token_logprobs, write_answers
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.no_grad()
def answer(case: Path, prompt: Prompt) -> Answer:
    assert AutoTokenizer.from_pretrained(case / "exported")(prompt.text)["input_ids"] == prompt.ids
    model: Any = AutoModelForCausalLM.from_pretrained(case / "exported", dtype=torch.float32).eval()
    ids = torch.tensor([prompt.ids])
    logits = model(input_ids=ids, use_cache=False).logits[0].numpy()
    greedy = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=GREEDY_TOKENS, do_sample=False)
    return Answer(token_logprobs(logits, prompt.ids), greedy[0, len(prompt.ids) :].tolist())


if __name__ == "__main__":
    assert find_spec("longrope") is None, "longrope must not be importable here"
    for case in sorted(Path(sys.argv[1]).iterdir()):
        write_answers(case, sys.argv[2], transformers.__version__, answer)
